"""Readers of benchmarks on small fakes of every layout."""

import numpy as np
import pytest
from fake_benchmarks import frames, lines, numbered_boxes, otb, text
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers import AnyBenchmark, read_benchmark
from mmssl.evaluate.tracking.readers.table import frame_range, table
from mmssl.evaluate.tracking.text import read_flags, read_table, split_numbers

BENCHMARK = TypeAdapter(AnyBenchmark)
FROM_1 = np.array([1, 1, 0, 0])


def read(kind, root, **options):
    return read_benchmark(BENCHMARK.validate_python({"kind": kind, "root": str(root), **options}))


def by_name(sequences):
    return {one.name: one for one in sequences}


class TestOtb:
    @pytest.mark.parametrize("separator", [",", "\t", " ", ", ", "  ", "\t\t"])
    def test_counts_from_zero_whatever_separates_the_numbers(self, tmp_path, separator):
        otb(tmp_path, "Mine", range(1, 6), numbered_boxes(5), separator=separator)
        (one,) = read("otb", tmp_path)
        assert one.name == "Mine"
        assert len(one) == len(one.truth) == 5
        np.testing.assert_array_equal(one.truth, numbered_boxes(5) - FROM_1)
        assert one.frames[4].shape == (3, 6, 8)

    @pytest.mark.parametrize(
        ("on_disk", "first_line", "lines_"),
        [(range(300, 771), 300, 471), (range(1, 771), 300, 471), (range(1, 771), 1, 770)],
    )
    def test_david_is_frames_300_to_770(self, tmp_path, on_disk, first_line, lines_):
        otb(tmp_path, "David", on_disk, numbered_boxes(lines_, first_line))
        (one,) = read("otb", tmp_path)
        assert len(one) == 471
        assert [one.frames.paths[0].name, one.frames.paths[-1].name] == ["0300.jpg", "0770.jpg"]
        np.testing.assert_array_equal(one.truth, numbered_boxes(471, 300) - FROM_1)

    def test_truth_that_ends_before_the_frames(self, tmp_path):
        otb(tmp_path, "Football1", range(1, 82), numbered_boxes(74))
        (one,) = read("otb", tmp_path)
        assert len(one) == 74
        assert one.frames.paths[-1].name == "0074.jpg"

    def test_tiger1_starts_at_frame_6(self, tmp_path):
        otb(tmp_path, "Tiger1", range(1, 355), numbered_boxes(354))
        (one,) = read("otb", tmp_path)
        assert len(one) == 349
        np.testing.assert_array_equal(one.truth[0], numbered_boxes(1, 6)[0] - FROM_1)

    @pytest.mark.parametrize("split", [False, True])
    def test_two_targets(self, tmp_path, split):
        for target in (1, 2):
            where = (f"Jogging-{target}", "groundtruth_rect.txt")
            name, truth = where if split else ("Jogging", f"groundtruth_rect.{target}.txt")
            otb(tmp_path, name, range(1, 308), numbered_boxes(307, target), truth)
        sequences = read("otb", tmp_path)
        assert [one.name for one in sequences] == ["Jogging.1", "Jogging.2"]
        assert sequences[1].truth[0, 0] == sequences[0].truth[0, 0] + 1
        assert sequences[0].attributes == ("OCC", "DEF", "OPR")
        assert [one.name for one in read("otb", tmp_path, sequences=["Jogging"])] == [
            "Jogging.1",
            "Jogging.2",
        ]
        assert [one.name for one in read("otb", tmp_path, sequences=["Jogging.2"])] == ["Jogging.2"]

    def test_the_empty_first_target_of_human4_does_not_count(self, tmp_path):
        otb(tmp_path, "Human4", range(1, 668), numbered_boxes(667), "groundtruth_rect.2.txt")
        text(tmp_path / "Human4/groundtruth_rect.1.txt", "\n")
        assert [one.name for one in read("otb", tmp_path, year=50, sequences=["Human4.2"])] == ["Human4.2"]
        assert [one.name for one in read("otb", tmp_path)] == ["Human4.2"]

    def test_digits_and_suffix_are_those_on_disk(self, tmp_path):
        otb(tmp_path, "Board", range(1, 699), numbered_boxes(698), digits=5)
        otb(tmp_path, "KiteSurf", range(1, 85), numbered_boxes(84), suffix="png")
        found = by_name(read("otb", tmp_path))
        assert found["Board"].frames.paths[9].name == "00010.jpg"
        assert found["KiteSurf"].frames[3].shape == (3, 6, 8)

    def test_own_attributes_stand_before_the_table(self, tmp_path):
        otb(tmp_path, "Skiing", range(1, 82), numbered_boxes(81))
        assert read("otb", tmp_path)[0].attributes == ("IV", "SV", "DEF", "IPR", "OPR")
        text(tmp_path / "Skiing/attrs.txt", "SV, LR")
        assert read("otb", tmp_path)[0].attributes == ("SV", "LR")

    def test_a_list_with_missing_sequences_names_them(self, tmp_path):
        otb(tmp_path, "Skiing", range(1, 82), numbered_boxes(81))
        with pytest.raises(MmsslError, match=r"50 of 51 sequences are missing .*Basketball, Bolt"):
            read("otb", tmp_path, year=2013)
        assert [one.name for one in read("otb", tmp_path, year=2013, sequences=["Skiing"])] == ["Skiing"]
        with pytest.raises(MmsslError, match=r"no Surfer among 51"):
            read("otb", tmp_path, year=2013, sequences=["Surfer"])

    def test_folders_are_found_in_any_case(self, tmp_path):
        otb(tmp_path, "skiing", range(1, 82), numbered_boxes(81))
        assert [one.name for one in read("otb", tmp_path, year=100, sequences=["Skiing"])] == ["Skiing"]

    def test_the_lists_are_the_papers(self):
        rows = table("otb")
        targets = {name: 2 if which == "1,2" else 1 for name, _, which, _, _ in rows}
        lists = {of: [row[0] for row in rows if of in row[3].split(",")] for of in ("2013", "50", "100")}
        assert {of: sum(targets[name] for name in names) for of, names in lists.items()} == {
            "2013": 51,
            "50": 50,
            "100": 100,
        }
        assert set(lists["50"]) <= set(lists["100"])
        # Wu et al., TPAMI 2015, and the comparison table of Fan et al., CVPR 2019: 59 040 frames; here
        # without the five of Tiger1 that the toolkit omits.
        counted = sum(
            targets[name] * (last - first + 1)
            for name, ends, *_ in rows
            for first, last in [frame_range(ends)]
        )
        assert counted == 59_040 - 5


class TestVot:
    CORNERS = np.array([[3.0, 2, 7, 2, 7, 5, 3, 5], [4, 1, 8, 3, 6, 6, 2, 4]])

    def vot(self, root, name, truth, place="color", count=2):
        frames(root / name / place, range(1, count + 1), digits=8)
        text(root / name / "groundtruth.txt", truth)

    def test_corners_are_kept_and_a_box_lies_around_them(self, tmp_path):
        self.vot(tmp_path, "bag", lines(self.CORNERS))
        (one,) = read("vot", tmp_path)
        np.testing.assert_array_equal(one.polygons, self.CORNERS)
        np.testing.assert_array_equal(one.truth, [[3, 2, 4, 3], [2, 1, 6, 5]])

    @pytest.mark.parametrize("place", ["color", "img", "."])
    def test_boxes_and_places_of_the_frames(self, tmp_path, place):
        self.vot(tmp_path, "ball", "3,2,4,3\n0\n", place)
        (one,) = read("vot", tmp_path)
        assert one.polygons is None
        np.testing.assert_array_equal(one.truth, [[3, 2, 4, 3], [np.nan] * 4])

    def test_what_the_sequence_file_says(self, tmp_path):
        self.vot(tmp_path, "ball", "3,2,4,3\n" * 2, "left/eye")
        text(tmp_path / "ball/sequence", "fps=30\nwidth=8\nheight=6\nchannels.color=left/eye/%08d.jpg\n")
        (one,) = read("vot", tmp_path)
        assert one.size == (8, 6)
        assert len(one) == 2

    def test_tags_that_end_early_and_anchors(self, tmp_path):
        self.vot(tmp_path, "ball", "3,2,4,3\n" * 5, count=5)
        text(tmp_path / "ball/occlusion.tag", "0\n1\n")
        text(tmp_path / "ball/camera_motion.label", "")
        text(tmp_path / "ball/anchor.value", "1\n0\n0\n-1\n1\n")
        (one,) = read("vot", tmp_path)
        assert one.frame_attributes["occlusion"].tolist() == [False, True, False, False, False]
        assert not one.frame_attributes["camera_motion"].any()
        assert one.anchors == (0, -3, 4)

    def test_the_list_gives_the_order(self, tmp_path):
        for name in ("a", "b", "c"):
            self.vot(tmp_path, name, "3,2,4,3\n" * 2)
        text(tmp_path / "list.txt", "c\na\n\n")
        assert [one.name for one in read("vot", tmp_path)] == ["c", "a"]


def test_tc128_reads_the_range_of_its_file(tmp_path):
    frames(tmp_path / "Hurdle_ce2/img", range(1, 12))
    text(tmp_path / "Hurdle_ce2/Hurdle_ce2_frames.txt", "4,9\n")
    text(tmp_path / "Hurdle_ce2/Hurdle_ce2_gt.txt", lines(numbered_boxes(6, 4)))
    (one,) = read("tc128", tmp_path)
    assert (one.name, one.frames.paths[0].name) == ("Hurdle_ce2", "0004.jpg")
    np.testing.assert_array_equal(one.truth, numbered_boxes(6, 4) - FROM_1)


class TestUav123:
    def test_parts_of_a_folder(self, tmp_path):
        frames(tmp_path / "data_seq/UAV123/car16", range(1, 1994), digits=6)
        boxes = numbered_boxes(1579, 415)
        boxes[7] = np.nan
        text(tmp_path / "anno/UAV123/car16_2.txt", lines(boxes).replace("nan", "NaN"))
        (one,) = read("uav123", tmp_path, sequences=["car16_2"])
        assert [one.frames.paths[0].name, one.frames.paths[-1].name] == ["000415.jpg", "001993.jpg"]
        assert np.flatnonzero(one.absent).tolist() == [7]
        np.testing.assert_array_equal(one.truth[0], boxes[0] - FROM_1)

    def test_the_tables_are_the_papers(self):
        rows = table("uav123")
        counted = {
            part: [
                last - first + 1
                for of, _, _, ends in rows
                if of == part
                for first, last in [frame_range(ends)]
            ]
            for part in ("UAV123", "UAV20L")
        }
        # Mueller et al., ECCV 2016: 123 sequences with 112 578 frames, 20 long ones with 58 670.
        assert {part: (len(each), sum(each)) for part, each in counted.items()} == {
            "UAV123": (123, 112_578),
            "UAV20L": (20, 58_670),
        }


class TestLasot:
    def lasot(self, root, name, separator=","):
        folder = root / name.rpartition("-")[0] / name
        frames(folder / "img", range(1, 5), digits=8)
        text(folder / "groundtruth.txt", "11,21,30,40\n12,22,30,40\n0,0,0,0\n14,24,30,40\n")
        text(folder / "full_occlusion.txt", separator.join("0100"))
        text(folder / "out_of_view.txt", separator.join("0010"))

    @pytest.mark.parametrize("separator", [",", "\n"])
    def test_absent_is_either_flag(self, tmp_path, separator):
        self.lasot(tmp_path, "airplane-1", separator)
        (one,) = read("lasot", tmp_path, sequences=["airplane-1"])
        assert one.absent.tolist() == [False, True, True, False]
        np.testing.assert_array_equal(one.truth[0], [10, 20, 30, 40])
        np.testing.assert_array_equal(one.truth[2], [-1, -1, 0, 0])

    def test_splits(self, tmp_path):
        for name in ("airplane-1", "airplane-2", "zebra-10"):
            self.lasot(tmp_path, name)
        assert [one.name for one in read("lasot", tmp_path, split="all")] == [
            "airplane-1",
            "airplane-2",
            "zebra-10",
        ]
        with pytest.raises(MmsslError, match=r"the test set names 280 sequences, 278 of them not in"):
            read("lasot", tmp_path)
        text(tmp_path / "testing_set.txt", "zebra-10\n")
        assert [one.name for one in read("lasot", tmp_path)] == ["zebra-10"]
        assert [one.name for one in read("lasot", tmp_path, split="all", sequences=["airplane"])] == [
            "airplane-1",
            "airplane-2",
        ]

    def test_the_test_set_has_four_of_each_of_seventy_classes(self):
        rows = table("lasot")
        assert len(rows) == len({row[0] for row in rows}) == 70
        assert all(len(set(numbers)) == 4 for _, *numbers in rows)


class TestGot10k:
    def got10k(self, root, split="val", boxes=4):
        folder = root / split / "GOT-10k_Val_000001"
        frames(folder, range(1, 5), digits=8)
        text(folder / "groundtruth.txt", lines(numbered_boxes(boxes)))
        text(folder / "absence.label", "0\n0\n1\n0\n")
        text(folder / "cover.label", "8\n7\n0\n1\n")
        text(folder / "cut_by_image.label", "0\n0\n0\n1\n")
        text(folder / "meta_info.ini", "[METAINFO]\nurl: x\nresolution: (1920, 1080)\n")
        text(root / split / "list.txt", "GOT-10k_Val_000001\n")

    def test_labels_and_coordinates_as_they_are(self, tmp_path):
        self.got10k(tmp_path)
        (one,) = read("got10k", tmp_path)
        np.testing.assert_array_equal(one.truth, numbered_boxes(4))
        assert one.cover.tolist() == [8, 7, 0, 1]
        assert one.absent.tolist() == [False, False, True, False]
        assert one.frame_attributes["cut_by_image"].tolist() == [False, False, False, True]
        assert one.size == (1920, 1080)

    def test_of_the_test_split_only_the_first_box_is_known(self, tmp_path):
        self.got10k(tmp_path, "test", boxes=1)
        (one,) = read("got10k", tmp_path, split="test")
        np.testing.assert_array_equal(one.truth[0], numbered_boxes(1)[0])
        assert np.isnan(one.truth[1:]).all()
        assert one.cover is None


def test_trackingnet_sorts_by_number_and_knows_one_box(tmp_path):
    frames(tmp_path / "TEST/frames/abc_0", range(12), digits=1)
    text(tmp_path / "TEST/anno/abc_0.txt", "1.5,2,30,40")
    (one,) = read("trackingnet", tmp_path)
    assert [path.stem for path in one.frames.paths] == [str(number) for number in range(12)]
    np.testing.assert_array_equal(one.truth[0], [1.5, 2, 30, 40])
    assert np.isnan(one.truth[1:]).all()


class TestNfs:
    def nfs(self, root, count, rows, fps=30):
        frames(root / f"dog/{fps}/dog", range(1, count + 1), digits=5)
        line = '0 {0} 20 {1} 60 {2} {3} {4} 0 "dog on grass"\n'
        content = "".join(line.format(10 + t, 40 + t, t, int(t == 8), int(t == 16)) for t in range(rows))
        text(root / f"dog/{fps}/dog.txt", content)

    def test_corners_and_flags(self, tmp_path):
        self.nfs(tmp_path, 20, 20, 240)
        (one,) = read("nfs", tmp_path, fps=240)
        np.testing.assert_array_equal(one.truth[3], [13, 20, 30, 40])
        assert np.flatnonzero(one.absent).tolist() == [8]
        assert np.flatnonzero(one.frame_attributes["occluded"]).tolist() == [16]

    @pytest.mark.parametrize(("rows", "expected"), [(32, 4), (33, 4), (4, 4), (3, 3), (5, 4)])
    def test_every_eighth_line_and_one_too_many_or_few(self, tmp_path, rows, expected):
        self.nfs(tmp_path, 4, rows)
        (one,) = read("nfs", tmp_path)
        assert len(one) == len(one.truth) == expected
        step = 8 if rows > 5 else 1
        np.testing.assert_array_equal(one.truth[:, 0], 10 + step * np.arange(expected))

    def test_lines_of_neither_rate(self, tmp_path):
        self.nfs(tmp_path, 4, 24)
        with pytest.raises(MmsslError, match="24 lines for 4 frames"):
            read("nfs", tmp_path)


def test_tlp_has_frame_and_lost_around_the_box(tmp_path):
    frames(tmp_path / "Bike/img", range(1, 4), digits=5)
    text(tmp_path / "Bike/groundtruth_rect.txt", "1,10,20,30,40,0\n2,11,20,30,40,1\n3,12,20,30,40,0\n")
    (one,) = read("tlp", tmp_path)
    np.testing.assert_array_equal(one.truth[:, 0], [10, 11, 12])
    assert one.absent.tolist() == [False, True, False]


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), min_size=1, max_size=5),
    st.sampled_from([",", "\t", " ", ", ", " ,", "\t,", ";"]),
    st.sampled_from(["", ",", " ", "\n\n", " \n"]),
    st.sampled_from(["{!r}", "{:.6e}", "{:+.3f}"]),
)
def test_numbers_survive_any_spelling(tmp_path_factory, rows, separator, end, spelling):
    path = tmp_path_factory.mktemp("table") / "truth.txt"
    words = [[spelling.format(value) for value in row] for row in rows]
    path.write_text("\r\n".join(separator.join(row) for row in words) + end)
    expected = [[float(word) for word in row] for row in words]
    np.testing.assert_array_equal(read_table(path, (4,), "boxes"), expected)


def test_nan_is_a_number_in_any_case():
    assert np.isnan(split_numbers("NaN,nan\tNAN -nan")).all()


def test_flags_are_counted(tmp_path):
    text(tmp_path / "a.txt", "0,1,0\n")
    with pytest.raises(MmsslError, match=r"a\.txt: 3 flags, expected 4"):
        read_flags(tmp_path / "a.txt", 4, "flags")
    text(tmp_path / "a.txt", "0\n2\n")
    with pytest.raises(MmsslError, match="2, expected 0 or 1"):
        read_flags(tmp_path / "a.txt", 2, "flags")
