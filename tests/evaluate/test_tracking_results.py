"""Result files: what is written is read again, and other people's spellings are understood."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers import AnyBenchmark
from mmssl.evaluate.tracking.results import (
    LAYOUTS,
    read_boxes,
    read_run,
    read_trajectory,
    vot_path,
    write_boxes,
    write_run,
    write_trajectory,
)
from mmssl.evaluate.tracking.trajectory import FAILURE, INIT, REGION, UNKNOWN, Trajectory

BOXES = np.array([[9.5, 19.25, 30, 40], [np.nan] * 4, [-3.0001, 0, 0, 0]])
TEN_THOUSANDTHS = st.integers(-(10**8), 10**8)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@given(
    arrays(np.int64, st.tuples(st.integers(1, 6), st.just(4)), elements=TEN_THOUSANDTHS), st.integers(0, 1)
)
def test_boxes_of_four_decimals_come_back(tmp_path_factory, whole, origin):
    path = tmp_path_factory.mktemp("boxes") / "a.txt"
    write_boxes(path, whole / 1e4, origin)
    np.testing.assert_allclose(read_boxes(path, len(whole), origin), whole / 1e4, rtol=0, atol=1e-9)


def test_files_count_from_one_and_keep_nan(tmp_path):
    write_boxes(tmp_path / "a.txt", BOXES)
    assert (tmp_path / "a.txt").read_text().splitlines() == [
        "10.5000,20.2500,30.0000,40.0000",
        "nan,nan,nan,nan",
        "-2.0001,1.0000,0.0000,0.0000",
    ]
    np.testing.assert_allclose(read_boxes(tmp_path / "a.txt", 3), BOXES, atol=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_no_minus_zero(tmp_path):
    write_boxes(tmp_path / "a.txt", np.array([[-1.00001, -1, 1, 1]]))
    assert (tmp_path / "a.txt").read_text() == "0.0000,0.0000,1.0000,1.0000\n"


@pytest.mark.parametrize(
    "content", ["2,3,4,5\n6,7,8,9", "2\t3\t4\t5\n6 7 8 9\n\n", "2e0, 3.0, 4e-0,5,\r\n6,7,8,9\r\n"]
)
def test_other_peoples_boxes(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content.encode())
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.txt", 2), [[1, 2, 4, 5], [5, 6, 8, 9]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1,2,3,4\n", "1 lines, fewer than the 2 frames"),
        ("1,2,3,4\n" * 3, "3 lines, more than the 2 frames"),
        ("1,2,3,4\n1,2,3\n", ":2: 3 numbers"),
        ("1,2,3,4\n1,2,3,four\n", ":2: '1,2,3,four'"),
        ("", "empty"),
    ],
)
def test_boxes_that_do_not_fit(tmp_path, content, words):
    with pytest.raises(MmsslError, match=words):
        read_boxes(text(tmp_path / "a.txt", content), 2)


def test_every_benchmark_has_a_layout():
    schema = TypeAdapter(AnyBenchmark).json_schema()
    assert set(LAYOUTS) == set(schema["discriminator"]["mapping"])


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_runs_lie_where_their_benchmark_looks_for_them(tmp_path, name):
    layout = LAYOUTS[name]
    seconds = np.array([0.5, 0.25, 0.125])
    write_run(layout, tmp_path, "a", BOXES, seconds)
    boxes, times = read_run(layout, tmp_path, "a", 3)
    np.testing.assert_allclose(boxes, BOXES, atol=1e-9)
    np.testing.assert_array_equal(times, seconds)
    path = tmp_path / ("a/a_001.txt" if name == "got10k" else "a.txt")
    from_1 = name in ("otb", "tc128", "uav123", "lasot")
    assert path.read_text().startswith("10.5000" if from_1 else "9.5000")


def test_repetitions_share_a_file_of_times(tmp_path):
    layout = LAYOUTS["got10k"]
    for run, second in ((1, 1.0), (3, 3.0), (1, 4.0)):
        write_run(layout, tmp_path, "a", BOXES, np.full(3, second), run)
    columns = np.loadtxt(tmp_path / "a/a_time.txt", delimiter=",")
    np.testing.assert_array_equal(columns, [[4, np.nan, 3]] * 3)
    np.testing.assert_array_equal(read_run(layout, tmp_path, "a", 3, run=3)[1], [3, 3, 3])
    with pytest.raises(MmsslError, match=r"a_002\.txt: no such file"):
        read_run(layout, tmp_path, "a", 3, run=2)


@pytest.mark.parametrize("file", ["Jogging.1", "jogging-1", "Jogging_1", "JOGGING.1"])
def test_other_spellings_of_a_target(tmp_path, file):
    text(tmp_path / f"{file}.txt", "2,3,4,5\n")
    text(tmp_path / "Jogging-2.txt", "9,9,9,9\n")
    boxes, times = read_run(LAYOUTS["otb"], tmp_path, "Jogging.1", 1)
    np.testing.assert_array_equal(boxes, [[1, 2, 4, 5]])
    assert times is None


def test_human4_may_go_without_its_number(tmp_path):
    text(tmp_path / "Human4.txt", "2,3,4,5\n")
    assert len(read_run(LAYOUTS["otb"], tmp_path, "Human4.2", 1)[0]) == 1


def test_two_files_for_one_target(tmp_path):
    for name in ("Jogging-1.txt", "jogging_1.txt"):
        text(tmp_path / name, "2,3,4,5\n")
    with pytest.raises(MmsslError, match=r"Jogging-1\.txt, jogging_1\.txt all may be Jogging\.1"):
        read_run(LAYOUTS["otb"], tmp_path, "Jogging.1", 1)
    with pytest.raises(MmsslError, match="no such file; expected the boxes of Skiing"):
        read_run(LAYOUTS["otb"], tmp_path, "Skiing", 1)


def test_tiger1_from_its_first_frame_loses_the_five_that_do_not_count(tmp_path):
    text(tmp_path / "Tiger1.txt", "".join(f"{t},1,1,1\n" for t in range(1, 355)))
    boxes, _ = read_run(LAYOUTS["otb"], tmp_path, "Tiger1", 349)
    assert boxes[0, 0] == 5
    text(tmp_path / "Tiger2.txt", "1,1,1,1\n" * 370)
    with pytest.raises(MmsslError, match="370 lines, more than the 365 frames"):
        read_run(LAYOUTS["otb"], tmp_path, "Tiger2", 365)


def trajectory(whole, codes):
    codes = np.array(codes)
    regions = np.where((codes == REGION)[:, None], whole / 1e4, np.nan)
    return Trajectory(codes, regions)


@given(
    arrays(np.int64, (4, 8), elements=TEN_THOUSANDTHS),
    st.lists(st.sampled_from([REGION, UNKNOWN, INIT, FAILURE]), min_size=4, max_size=4),
)
def test_trajectories_of_four_decimals_come_back(tmp_path_factory, whole, codes):
    path = tmp_path_factory.mktemp("vot") / "a_001.txt"
    run = trajectory(whole, codes)
    write_trajectory(path, run)
    again = read_trajectory(path)
    np.testing.assert_array_equal(again.codes, run.codes)
    np.testing.assert_allclose(again.regions, run.regions, rtol=0, atol=1e-9)
    assert again.seconds is None


def test_upright_boxes_are_written_as_boxes(tmp_path):
    regions = np.full((4, 8), np.nan)
    regions[1] = [1.00004, 2, 4, 2, 4, 7, 1, 7]
    regions[2] = [0, 1, 2, 0, 3, 2, 1, 3]
    write_trajectory(tmp_path / "a.txt", Trajectory(np.array([1, -1, -1, 2]), regions))
    assert (tmp_path / "a.txt").read_text().splitlines() == [
        "1",
        "1.0000,2.0000,3.0000,5.0000",
        "0.0000,1.0000,2.0000,0.0000,3.0000,2.0000,1.0000,3.0000",
        "2",
    ]


def test_other_peoples_trajectories(tmp_path):
    content = "1\n1.5,2,3,4\n0,0,4,0,4,3,0,3\n0,0,4,0,4,3\n2.0\n0\n1,2,3,4,0.9\n1,0.5\n1,2,3,4,\n\n"
    run = read_trajectory(text(tmp_path / "a_001.txt", content))
    assert run.codes.tolist() == [INIT, REGION, REGION, REGION, FAILURE, UNKNOWN, REGION, INIT, REGION]
    np.testing.assert_array_equal(run.regions[1], [1.5, 2, 4.5, 2, 4.5, 6, 1.5, 6])
    np.testing.assert_array_equal(run.regions[3], [0, 0, 4, 0, 4, 3, 4, 3])
    np.testing.assert_array_equal(run.regions[6], run.regions[8])
    assert np.isnan(run.regions[[0, 4, 5, 7]]).all()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("m0,0,3,3,1,2,3", "a mask, as of VOT2020"),
        ("3", "no such code"),
        ("1,2,3", "3 numbers"),
        (",".join("1" * 10), "10 numbers"),
        ("nan,nan,nan,nan", "not finite"),
        ("x", "could not convert"),
        ("", "0 numbers"),
    ],
)
def test_lines_that_are_no_region(tmp_path, line, words):
    with pytest.raises(MmsslError, match=rf"a_001\.txt:2: .*{words}"):
        read_trajectory(text(tmp_path / "a_001.txt", f"1\n{line}\n0\n"))


def test_a_region_must_be_finite(tmp_path):
    with pytest.raises(MmsslError, match="frame 0: a region that is not finite"):
        write_trajectory(tmp_path / "a.txt", Trajectory(np.array([REGION]), np.full((1, 8), np.nan)))
    assert not list(tmp_path.iterdir())


def test_times_of_a_trajectory(tmp_path):
    run = Trajectory(np.array([1, 0]), np.full((2, 8), np.nan), np.array([0.5, 0.25]))
    path = vot_path(tmp_path, "ball", run=2)
    assert path == tmp_path / "baseline/ball/ball_002.txt"
    assert vot_path(tmp_path, "ball", anchor=-50).name == "ball_00000050.txt"
    write_trajectory(path, run)
    np.testing.assert_array_equal(read_trajectory(path).seconds, run.seconds)
    (path.parent / "ball_002_time.value").unlink()
    assert read_trajectory(path).seconds is None
    text(path.parent / "ball_time.txt", "1,2\n3,4\n")
    np.testing.assert_array_equal(read_trajectory(path).seconds, [2, 4])
    text(path.parent / "ball_time.txt", "1,2\n")
    with pytest.raises(MmsslError, match=r"ball_time\.txt: 1 lines, fewer than the 2 frames"):
        read_trajectory(path)
