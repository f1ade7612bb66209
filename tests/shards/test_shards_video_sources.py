"""Official lists, cameras side by side, frame folders and tables of videos: what comes of them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from raw_videos import counting, numbers, read, write
from tiny_shards import Build, content, put

from mmssl.errors import MmsslError
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import parse_recipe

CLIP = write(counting(10), 10, bf="0")
SHARP = {"crf": 10, "fps": 10}


def ucf(tmp_path: Path) -> dict[str, Any]:
    """Two classes; every split tests on another group."""
    files: dict[str, bytes | str] = {"lists/classInd.txt": "1 Walking\n2 Archery\n"}
    names = [(label, group) for label in ("Walking", "Archery") for group in (1, 2, 3)]
    for label, group in names:
        files[f"videos/{label}/v_{label}_g{group:02d}_c01.avi"] = CLIP
    for split in (1, 2, 3):
        rows = dict.fromkeys(("train", "test"), "")
        for label, group in names:
            name = f"{label}/v_{label}_g{group:02d}_c01.avi"
            if group == split:
                rows["test"] += f"{name}\n"
            else:
                rows["train"] += f"{name} {1 if label == 'Walking' else 2}\r\n"
        for part, text in rows.items():
            files[f"lists/{part}list0{split}.txt"] = text
    put(tmp_path / "raw", files)
    return {"kind": "ucf101", "root": str(tmp_path / "raw/videos"), "lists": str(tmp_path / "raw/lists")}


@pytest.mark.parametrize("split", [1, 2, 3])
def test_ucf101(split: int, build: Build, tmp_path: Path) -> None:
    manifest, splits = build(**ucf(tmp_path), split=split)
    assert manifest.classes["class"] == ["Walking", "Archery"], "in the order of the official indices"
    assert set(splits["test"]) == {f"v_{label}_g0{split}_c01" for label in ("Walking", "Archery")}
    assert len(splits["train"]) == 4
    sample = splits["test"][f"v_Archery_g0{split}_c01"]
    assert sample["label.json"] == {"class": 1}
    meta = sample["meta.json"]
    assert meta["official"] == {str(n): "test" if n == split else "train" for n in (1, 2, 3)}
    assert meta["group"] == f"v_Archery_g0{split}"
    assert meta["source"] == f"Archery/v_Archery_g0{split}_c01.avi"
    assert meta["original"]["frames"] == 10


def test_hmdb51(build: Build, tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for label in ("wave", "sit"):
        for number in range(4):
            files[f"videos/{label}_{number}.avi"] = CLIP
        for split in (1, 2, 3):
            use = [1, 2, 0, 1] if split < 3 else [2, 1, 1, 0]
            lines = [f"{label}_{number}.avi {which} " for number, which in enumerate(use)]
            files[f"lists/{label}_test_split{split}.txt"] = "\n".join(lines)
    raw = put(tmp_path / "raw", files)
    source = {"kind": "hmdb51", "root": str(raw / "videos"), "lists": str(raw / "lists")}
    manifest, splits = build(**source)
    assert manifest.classes["class"] == ["sit", "wave"]
    assert set(splits["train"]) == {"sit_0", "sit_3", "wave_0", "wave_3"}
    assert set(splits["test"]) == {"sit_1", "wave_1"}
    assert splits["train"]["wave_3"]["label.json"] == {"class": 1}
    assert splits["train"]["wave_3"]["meta.json"]["official"] == {"1": "train", "2": "train"}
    assert splits["test"]["sit_1"]["meta.json"]["official"] == {"1": "test", "2": "test", "3": "train"}


def kinetics(tmp_path: Path, train: str) -> dict[str, Any]:
    raw = put(
        tmp_path / "raw",
        {
            "videos/train/dance/abc_000003_000013.mp4": CLIP,
            "videos/train/dance/-x_y_000010_000020.mp4": CLIP,
            "videos/val/def.webm": CLIP,
            "train.csv": "label,youtube_id,time_start,time_end,split\n" + train,
            "val.csv": "label,youtube_id,time_start,time_end,split\nriding a bike,def,1.0,11.0,val\n",
        },
    )
    tables = {split: str(raw / f"{split}.csv") for split in ("train", "val")}
    return {"kind": "kinetics", "root": str(raw / "videos"), "tables": tables}


def test_kinetics(build: Build, tmp_path: Path) -> None:
    rows = "dance,abc,3,13,train\nriding a bike,gone,0,10,train\ndance,-x_y,10,20,train\n"
    source = kinetics(tmp_path, rows)
    with pytest.raises(MmsslError, match=r"1 of 3 videos of split 'train' are missing.*gone_000000_000010"):
        build(**source)
    manifest, splits = build(**source, max_missing_share=0.4)
    assert manifest.built["missing"] == {"train": 1}
    assert (tmp_path / "set" / "missing.txt").read_text() == "train\tgone_000000_000010\n"
    assert not (tmp_path / "set" / "skipped.jsonl").exists(), "what is missing is not unreadable"
    assert manifest.classes["class"] == ["dance", "riding a bike"]
    assert set(splits["train"]) == {"abc_000003_000013", "-x_y_000010_000020"}
    assert splits["val"]["def"]["label.json"] == {"class": 1}


def test_something(build: Build, tmp_path: Path) -> None:
    templates = {"Holding something next to something": "1", "Dropping something": "0"}
    train = [
        {"id": "7", "label": "dropping a pen", "template": "Dropping [something]", "placeholders": ["a pen"]},
        {
            "id": "8",
            "label": "holding a cup next to a jar",
            "template": "Holding [something] next to [something]",
        },
    ]
    files: dict[str, bytes | str] = {f"videos/{name}.webm": CLIP for name in (7, 8, 9)}
    files |= {
        "labels.json": json.dumps(templates),
        "train.json": json.dumps(train),
        "test.json": json.dumps([{"id": "9"}]),
        "answers.csv": "9;Dropping [something]\n",
    }
    raw = put(tmp_path / "raw", files)
    source = {
        "kind": "something_v2",
        "root": str(raw / "videos"),
        "labels": str(raw / "labels.json"),
        "lists": {split: str(raw / f"{split}.json") for split in ("train", "test")},
        "answers": {"test": str(raw / "answers.csv")},
    }
    manifest, splits = build(**source)
    assert manifest.classes["class"] == ["Dropping something", "Holding something next to something"]
    assert splits["train"]["8"]["label.json"] == {"class": 1}
    assert splits["train"]["8"]["caption.json"] == ["holding a cup next to a jar"]
    assert splits["test"]["9"]["label.json"] == {"class": 0}
    assert "caption.json" not in splits["test"]["9"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lists/classInd.txt": "1 Walking\n3 Archery\n"}, "expected indices 1 to 2"),
        ({"lists/classInd.txt": "1 Walking\n"}, "'Archery', which is not in the list"),
        ({"lists/trainlist02.txt": "v_Walking_g01_c01.avi 1\n"}, "expected CLASS/NAME.avi"),
        ({"lists/testlist01.txt": "Walking/v_Walking_g02_c01.avi\n"}, "is for training and for testing"),
        ({"lists/testlist03.txt": "Walking/v.avi\n" * 2}, "listed twice"),
        ({"videos/copy/v_Walking_g01_c01.avi": CLIP}, "expected one of them"),
        ({"lists/trainlist01.txt": "Walking/a.avi 1\nArchery/v_Archery_g02_c01.avi 2\n"}, "1 of 2 videos"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_right(
    change: dict[str, bytes | str], message: str, build: Build, tmp_path: Path
) -> None:
    source = ucf(tmp_path)
    put(tmp_path / "raw", change)
    with pytest.raises(MmsslError, match=message):
        build(**source)


def test_kinetics_without_times(build: Build, tmp_path: Path) -> None:
    with pytest.raises(MmsslError, match=r"train.csv: line 2: expected columns youtube_id"):
        build(**kinetics(tmp_path, "dance,abc,soon,13,train\n"))


def cameras(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """The right camera started 0.4 s after the left one and has 25 frames a second, the left one has 10."""
    left = counting(30)
    right = [np.full((48, 64, 3), 20 + round(6 * (0.4 + n / 25) * 10), np.uint8) for n in range(50)]
    raw = put(
        tmp_path / "raw",
        {"pour/left.mp4": write(left, 10, bf="0"), "pour/right.mp4": write(right, 25, bf="0")},
    )
    return {"kind": "multi_camera", "root": str(raw), "encoding": SHARP, "offsets": {"right": 0.4}, **more}


def test_cameras_are_synchronised(build: Build, tmp_path: Path) -> None:
    _, splits = build(**cameras(tmp_path))
    sample = splits["train"]["pour"]
    assert set(sample) == {"video.mp4", "video_right.mp4", "meta.json"}
    assert numbers(sample["video.mp4"]) == list(range(4, 24)), "0.4 s to 2.4 s, which both have seen"
    np.testing.assert_allclose(
        read(sample["video_right.mp4"]).mean((1, 2, 3)), read(sample["video.mp4"]).mean((1, 2, 3)), atol=4
    )
    told = sample["meta.json"]["cameras"]
    left, right = told["left"], told["right"]
    assert (left["field"], left["offset"], left["start"], left["original_duration"]) == ("video", 0, 0.4, 3)
    assert (right["field"], right["offset"], right["start"]) == ("video_right", 0.4, 0)
    assert right["original_duration"] == 2
    assert sample["meta.json"]["frames"] == 20 == len(right["motion"])


def test_cameras_in_segments_and_in_another_order(build: Build, tmp_path: Path) -> None:
    source = cameras(tmp_path, cameras=["right", "left"], segments={"seconds": 1, "overlap": 0.5})
    _, splits = build(**source)
    assert sorted(splits["train"]) == ["pour-000", "pour-001", "pour-002"]
    second = splits["train"]["pour-001"]
    assert numbers(second["video_left.mp4"]) == list(range(9, 19))
    assert second["meta.json"]["segment"] == {"start": 0.5, "of": "pour"}
    assert second["meta.json"]["cameras"]["left"]["start"] == pytest.approx(0.9)


def test_takes_without_a_camera_are_skipped(build: Build, tmp_path: Path) -> None:
    source = cameras(tmp_path, offsets={"right": 0.4})
    put(tmp_path / "raw", {"alone/left.mp4": CLIP, "broken/left.mp4": CLIP, "broken/right.mp4": CLIP[:200]})
    manifest, splits = build(0.8, **source)
    assert set(splits["train"]) == {"pour"}
    text = (tmp_path / "set" / "skipped.jsonl").read_text()
    assert manifest.built["skipped"] == {"train": 2}
    assert "camera right: missing" in text
    assert "camera right: not a readable video" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": {"right": 9}}, "no moment in common"),
        ({"offsets": {"top": 1}}, "offsets: no camera 'top'; found left, right"),
        ({"pattern": "{camera}"}, "expected {take} and {camera}"),
        ({"pattern": "{camera}/x/{take}"}, "no videos of the form"),
        ({"encoding": {"mode": "copy"}}, "cannot be synchronised"),
        ({"splits": {"train": ["jump*"]}}, "no sequence matches"),
    ],
)
def test_cameras_that_cannot_work(change: dict[str, Any], message: str, build: Build, tmp_path: Path) -> None:
    with pytest.raises(MmsslError, match=message):
        build(**cameras(tmp_path, **change))


def frame(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(counting(number + 1, (96, 64))[-1]).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_frame_folders_as_videos(build: Build, tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {f"S/img/{n:04d}.jpg": frame(n) for n in range(20)}
    files["S/groundtruth.txt"] = "".join(f"{n + 1},1,10,20\n" for n in range(20))
    _, splits = build(
        kind="frame_folders",
        root=str(put(tmp_path / "raw", files)),
        fps=20,
        encoding={**SHARP, "short_side": 32},
        segments={"seconds": 0.6, "overlap": 0.2},
    )
    assert sorted(splits["test"]) == ["S-000", "S-001"]
    second = splits["test"]["S-001"]
    assert numbers(second["video.mp4"]) == [8, 10, 12, 14, 16, 18]
    assert second["boxes.json"] == [[[n / 2, 0, 5, 10]] for n in (8, 10, 12, 14, 16, 18)], "in stored pixels"
    assert second["meta.json"]["original"] == {"fps": 20, "frames": 20, "codec": "frames"}


def test_tables_bring_phases(build: Build, tmp_path: Path) -> None:
    phases = [{"start": 0, "end": 0.3, "name": "rise"}, {"start": 0.3, "end": 1, "name": "fall"}]
    row = {"file": "a.mp4", "recording": "r1", "phases": phases}
    raw = put(tmp_path / "raw", {"a.mp4": CLIP, "t.jsonl": json.dumps(row) + "\n"})
    source = {
        "kind": "table",
        "splits": {"train": {"table": str(raw / "t.jsonl"), "files": str(raw)}},
        "file": "file",
        "meta": ["recording", "phases"],
        "encoding": SHARP,
    }
    _, splits = build(**source)
    meta = splits["train"]["a"]["meta.json"]
    assert (meta["phases"], meta["recording"]) == (phases, "r1")
    recipe = {"name": "x", "source": {**source, "segments": {"seconds": 0.5}}}
    build_shards(parse_recipe(recipe, "x"), tmp_path / "cut")
    tar = (tmp_path / "cut" / "train" / "000000.tar").read_bytes()
    assert b'"phases":[{"end":0.3,"name":"rise","start":0.0},{"end":0.5,"name":"fall","start":0.3}]' in tar
    assert b'"phases":[{"end":0.5,"name":"fall","start":0.0}]' in tar
    assert b'"segment":{"of":"a","start":0.5}' in tar


def test_one_and_two_workers_write_the_same_bytes(tmp_path: Path) -> None:

    for number in range(4):
        shifted = [np.roll(pixels, number, 0) for pixels in counting(12 + number)]
        put(tmp_path / "raw", {f"c/{number}.mp4": write(shifted, 25, sound=0.5)})
    source = {"kind": "video_folder", "root": str(tmp_path / "raw"), "segments": {"seconds": 0.3}}
    recipe = parse_recipe({"name": "x", "source": source, "shard_samples": 1}, "x")
    build_shards(recipe, tmp_path / "one", workers=1)
    build_shards(recipe, tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
