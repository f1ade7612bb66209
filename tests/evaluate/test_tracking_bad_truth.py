"""What is missing or unreadable in a benchmark is named exactly."""

import re

import pytest
from fake_benchmarks import JPEG, frames, lines, numbered_boxes, otb, text
from pydantic import TypeAdapter, ValidationError

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers import AnyBenchmark, read_benchmark

BENCHMARK = TypeAdapter(AnyBenchmark)


def refused(kind, root, *words, **options):
    """Reading fails, and the message has these words."""
    with pytest.raises(MmsslError) as caught:
        read_benchmark(BENCHMARK.validate_python({"kind": kind, "root": str(root), **options}))
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_missing_frames_are_named(tmp_path):
    numbers = [number for number in range(300, 771) if number not in (301, 302, 760)]
    otb(tmp_path, "David", numbers, numbered_boxes(471))
    refused(
        "otb",
        tmp_path,
        f"otb: {tmp_path}/David/img: expected frames 0300 to 0770, found 468 of 471; "
        "missing: 0301, 0302, 0760",
    )


def test_a_sequence_cut_short_is_named_though_its_truth_is_too(tmp_path):
    otb(tmp_path, "Skiing", range(1, 41), numbered_boxes(40))
    refused("otb", tmp_path, "Skiing/img: expected frames 0001 to 0081, found 40 of 81", "0045 and 36 more")


@pytest.mark.parametrize(("count", "word"), [(80, "80 lines"), (82, "82 lines")])
def test_truth_that_does_not_fit_the_frames(tmp_path, count, word):
    otb(tmp_path, "Skiing", range(1, 82), numbered_boxes(count))
    refused("otb", tmp_path, "groundtruth_rect.txt", word, "expected 81")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,2,x,4", ["could not convert string to float: 'x'"]),
        ("1,2,3", ["3 numbers"]),
        ("1,2,3,4,5", ["5 numbers"]),
        ("", ["0 numbers"]),
        ("1,,3,4", ["could not convert"]),
    ],
)
def test_an_unreadable_line_is_named_by_its_number(tmp_path, line, words):
    otb(tmp_path, "Mine", range(1, 6), numbered_boxes(5))
    path = tmp_path / "Mine/groundtruth_rect.txt"
    rows = path.read_text().splitlines()
    rows[2] = line
    path.write_text("\n".join(rows))
    refused("otb", tmp_path, f"{path}:3: ", *words)


def test_truth_that_is_no_text(tmp_path):
    otb(tmp_path, "Mine", range(1, 6), numbered_boxes(5))
    (tmp_path / "Mine/groundtruth_rect.txt").write_bytes(b"\xff\xfe\x00")
    refused("otb", tmp_path, "groundtruth_rect.txt: cannot be read as text")
    (tmp_path / "Mine/groundtruth_rect.txt").write_bytes(b"\n")
    refused("otb", tmp_path, "groundtruth_rect.txt: empty")


@pytest.mark.parametrize("box", [(1, 2, 0, 4), (1, 2, 3, -4), (float("nan"),) * 4, (1, 2, float("inf"), 4)])
def test_a_first_box_that_no_tracker_can_start_on(tmp_path, box):
    boxes = numbered_boxes(5)
    boxes[0] = box
    otb(tmp_path, "Mine", range(1, 6), boxes)
    refused("otb", tmp_path, "otb: Mine: the first box is", "expected finite numbers and a size above 0")


def test_no_root_no_sequences_no_frames(tmp_path):
    refused("otb", tmp_path / "nowhere", f"otb: {tmp_path}/nowhere: no such folder")
    for kind in ("otb", "vot", "tc128", "tlp", "nfs"):
        refused(kind, tmp_path, f"{kind}: {tmp_path}: no sequence in it")
    text(tmp_path / "Mine/groundtruth_rect.txt", "1,2,3,4\n")
    refused("otb", tmp_path, "Mine/img: no such folder")
    text(tmp_path / "Mine/img/Thumbs.db", "")
    refused("otb", tmp_path, "Mine/img: no frame in it")


def test_one_frame_twice(tmp_path):
    otb(tmp_path, "Mine", range(1, 3), numbered_boxes(2))
    (tmp_path / "Mine/img/00002.jpg").write_bytes(JPEG)
    refused("otb", tmp_path, "00002.jpg and 0002.jpg are the same frame")


def test_lists_that_name_absent_folders(tmp_path):
    text(tmp_path / "vot/list.txt", "ball\nbag\n")
    refused("vot", tmp_path / "vot", "list.txt names 2 sequences, 2 of them not in", "ball, bag")
    text(tmp_path / "got/val/list.txt", "GOT-10k_Val_000001\n")
    refused("got10k", tmp_path / "got", "list.txt names 1 sequences, 1 of them not in", "GOT-10k_Val_000001")
    refused("got10k", tmp_path / "got", "test/list.txt: no such file", split="test")
    text(tmp_path / "net/TEST/anno/a.txt", "1,2,3,4")
    refused("trackingnet", tmp_path / "net", "TEST/anno names 1 sequences")
    refused("trackingnet", tmp_path / "net", "TRAIN_3/anno: no such folder", set="TRAIN_3")
    refused("uav123", tmp_path, "UAV123 names 123 sequences, 123 of them not in")
    refused("lasot", tmp_path, "training_set.txt: no such file", split="train")


def test_names_that_a_benchmark_does_not_have(tmp_path):
    otb(tmp_path, "Skiing", range(1, 82), numbered_boxes(81))
    refused("otb", tmp_path, "sequences: no Sking among 1; did you mean 'Skiing'?", sequences=["Sking"])


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        ("m0,0,8,6,3,4,5\n1,2,3,4\n", [":1: a mask, as of VOT2020"]),
        ("1,2,3,4\n1,2,3,4,5\n", [":2: 5 numbers"]),
        ("1,2,3,4\n2\n", [":2: 1 numbers"]),
        ("1,2,3,4\n1,2,3,4,5,6,7,8\n", ["both boxes and corners"]),
        ("1,2,3,4\n", ["1 lines, fewer than the 2 frames"]),
        ("1,2,3,4\n" * 3, ["3 lines, more than the 2 frames"]),
    ],
)
def test_vot_truth(tmp_path, truth, words):
    frames(tmp_path / "ball/color", (1, 2), digits=8)
    text(tmp_path / "ball/groundtruth.txt", truth)
    refused("vot", tmp_path, "ball/groundtruth.txt", *words)


def test_vot_tags_with_more_lines_than_frames(tmp_path):
    frames(tmp_path / "ball/color", (1, 2), digits=8)
    text(tmp_path / "ball/groundtruth.txt", "1,2,3,4\n" * 2)
    text(tmp_path / "ball/anchor.value", "1\n0\n0\n")
    refused("vot", tmp_path, "anchor.value: 3 lines, expected at most 2")


def test_labels_that_do_not_fit(tmp_path):
    folder = tmp_path / "val/GOT-10k_Val_000001"
    text(tmp_path / "val/list.txt", folder.name)
    frames(folder, (1, 2), digits=8)
    text(folder / "groundtruth.txt", lines(numbered_boxes(2)))
    refused("got10k", tmp_path, "cut_by_image.label: no such file")
    for name in ("cut_by_image", "absence"):
        text(folder / f"{name}.label", "0\n0\n")
    text(folder / "cover.label", "8\n9\n")
    refused("got10k", tmp_path, "cover.label: values from 8 to 9; expected 0 to 8 eighths")
    text(folder / "cover.label", "8\n")
    refused("got10k", tmp_path, "cover.label: 1 lines, expected 2")


def test_one_box_will_not_do_where_the_truth_is_public(tmp_path):
    text(tmp_path / "val/list.txt", "a\n")
    frames(tmp_path / "val/a", (1, 2), digits=8)
    text(tmp_path / "val/a/groundtruth.txt", "1,2,3,4\n")
    refused("got10k", tmp_path, "groundtruth.txt: 1 lines, fewer than the 2 frames")
    frames(tmp_path / "TRAIN_0/frames/a", (0, 1), digits=1)
    text(tmp_path / "TRAIN_0/anno/a.txt", "1,2,3,4\n")
    refused("trackingnet", tmp_path, "a.txt: 1 lines, fewer than the 2 frames", set="TRAIN_0")


def test_ranges_and_orders(tmp_path):
    frames(tmp_path / "tc/Bike/img", (1, 2))
    text(tmp_path / "tc/Bike/Bike_gt.txt", lines(numbered_boxes(2)))
    text(tmp_path / "tc/Bike/Bike_frames.txt", "2,1\n")
    refused("tc128", tmp_path / "tc", "Bike_frames.txt: [2.0, 1.0]; expected")
    frames(tmp_path / "tlp/Bike/img", (1, 2), digits=5)
    text(tmp_path / "tlp/Bike/groundtruth_rect.txt", "1,1,2,3,4,0\n3,1,2,3,4,0\n")
    refused("tlp", tmp_path / "tlp", "groundtruth_rect.txt:2: frame 3 after 1")
    frames(tmp_path / "nfs/dog/30/dog", (1, 2), digits=5)
    text(tmp_path / "nfs/dog/30/dog.txt", '0 1 2 3 4 0 0 0 0 "dog"\n0 1 2 3 4 0 0 0 0 "dog"\n')
    refused("nfs", tmp_path / "nfs", "dog.txt:2: frame 0 after 0")
    text(tmp_path / "nfs/dog/30/dog.txt", '0 1 2 3 4 "dog"\n')
    refused("nfs", tmp_path / "nfs", "dog.txt:1: ")


def test_a_missing_or_damaged_image_is_named_when_it_is_asked_for(tmp_path):
    otb(tmp_path, "Mine", range(1, 4), numbered_boxes(3))
    (one,) = read_benchmark(BENCHMARK.validate_python({"kind": "otb", "root": str(tmp_path)}))
    (tmp_path / "Mine/img/0002.jpg").write_bytes(JPEG[:200])
    (tmp_path / "Mine/img/0003.jpg").unlink()
    with pytest.raises(MmsslError, match=re.escape("0002.jpg: frame 1 of Mine cannot be read")):
        one.frames[1]
    with pytest.raises(MmsslError, match=re.escape("0003.jpg: no such frame")):
        one.frames[2]


def test_settings_that_no_benchmark_has():
    for options in ({"kind": "otb100"}, {"kind": "otb", "year": 2014}, {"kind": "otb", "list": 50}):
        with pytest.raises(ValidationError):
            BENCHMARK.validate_python({"root": "x", **options})
