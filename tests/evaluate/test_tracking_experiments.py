"""Which runs an experiment asks for: the toolkits' frame ranges and boxes, and VOT's restarts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_tracking import HEIGHT, WIDTH, Given, sequence

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.experiments import RUNS, anchored, ope, part, sre, tre, vot_anchor
from mmssl.evaluate.tracking.protocols import VotReset
from mmssl.evaluate.tracking.protocols.vot_reset import ResetJudged
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.supervised import supervise, trajectory
from mmssl.evaluate.tracking.trajectory import FAILURE, INIT, REGION, UNKNOWN


def still(length, box=(10, 20, 40, 30), size=(100, 80)):
    blank = torch.zeros(3, size[1], size[0], dtype=torch.uint8)
    truth = np.tile(np.array(box, dtype=np.float64), (length, 1))
    return Sequence("still", Given([blank] * length, "still"), truth, size=size)


def test_one_pass_sees_everything():
    (run,) = ope(one := sequence(30))
    assert run.numbers.tolist() == list(range(30))
    assert run.sequence is one
    assert run.box.tolist() == one.truth[0].tolist()


def test_tre_starts_where_the_toolkit_does():
    """100 frames: the last start is the 81st, 1-based; the others are ⌊1 + k · 81/19⌋."""
    runs = tre(still(100))
    starts = [int(run.numbers[0]) + 1 for run in runs]
    assert starts == [1, 5, 9, 13, 18, 22, 26, 30, 35, 39, 43, 47, 52, 56, 60, 64, 69, 73, 77, 81]
    assert all(run.numbers[-1] == 99 for run in runs)
    assert len(runs[-1].numbers) == 20
    assert len({run.name for run in runs}) == 20


@given(length=st.integers(39, 400))
def test_tre_has_twenty_starts_that_rise_and_leave_twenty_frames(length):
    runs = tre(still(length))
    starts = [int(run.numbers[0]) for run in runs]
    assert len(runs) == 20
    assert starts[0] == 0
    assert starts[-1] == length - 20
    assert starts == sorted(starts)


def test_tre_never_starts_without_a_box():
    one = still(60)
    one.truth[10:20] = 0
    one.truth[20:25] = np.nan
    one.truth[25:30, 0] = -1  # 0 in the file, which counts from 1
    starts = {int(run.numbers[0]) for run in tre(one)}
    assert starts.isdisjoint(range(10, 30))
    assert max(starts) == 40


def test_too_short_for_tre_is_run_once():
    (run,) = tre(still(19))
    assert len(run.numbers) == 19


def test_sre_by_hand():
    boxes = {run.name.removeprefix("sre_"): run.box.tolist() for run in sre(still(5))}
    assert boxes == {
        "left": [5, 20, 40, 30], "right": [15, 20, 40, 30], "up": [10, 16, 40, 30], "down": [10, 24, 40, 30],
        "top_left": [6, 17, 44, 33], "top_right": [10, 17, 44, 33],
        "bottom_left": [6, 20, 44, 33], "bottom_right": [10, 20, 44, 33],
        "scale_0.8": [14, 23, 32, 24], "scale_0.9": [12, 22, 36, 27],
        "scale_1.1": [8, 19, 44, 33], "scale_1.2": [6, 17, 48, 36],
    }  # fmt: skip
    assert all(len(run.numbers) == 5 for run in sre(still(5)))


def half_up(x):
    return float(np.floor(x + 0.5))


def toolkit(r, kind, width, height):
    """OTB's own shiftInitBB in its own words: boxes counted from 1, corners, then the image's border."""
    x, y, w, h = r
    right, bottom = x + w - 1, y + h - 1
    if kind.startswith("scale"):
        ratio = float(kind.partition("_")[2])
        cx, cy = x + w / 2, y + h / 2
        x, y, w, h = (half_up(v) for v in (cx - ratio * w / 2, cy - ratio * h / 2, ratio * w, ratio * h))
    elif kind in ("left", "right"):
        x += half_up(0.1 * w + 0.5) * (1 if kind == "right" else -1)
    elif kind in ("up", "down"):
        y += half_up(0.1 * h + 0.5) * (1 if kind == "down" else -1)
    else:
        x1 = half_up(x - 0.1 * w) if "left" in kind else x
        y1 = half_up(y - 0.1 * h) if "top" in kind else y
        x2 = half_up(right + 0.1 * w) if "right" in kind else right
        y2 = half_up(bottom + 0.1 * h) if "bottom" in kind else bottom
        x, y, w, h = x1, y1, x2 - x1 + 1, y2 - y1 + 1
    x, y = max(x, 1), max(y, 1)
    return [x, y, min(w, width - x + 1), min(h, height - y + 1)]


@given(st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(8, 39)] * 2))
def test_sre_is_the_toolkits(box):
    for run in sre(still(2, box)):
        expected = toolkit(
            np.array(box, float) + np.array([1, 1, 0, 0]), run.name.removeprefix("sre_"), 100, 80
        )
        assert run.box.tolist() == pytest.approx(np.array(expected) - [1, 1, 0, 0])


def test_anchors_run_forward_and_backward():
    one = replace(sequence(120), anchors=(0, 50, -100))
    forward, middle, backward = vot_anchor(one)
    assert (forward.name, middle.name, backward.name) == ("0", "50", "-100")
    assert middle.numbers.tolist() == list(range(50, 120))
    assert backward.numbers.tolist() == list(range(100, -1, -1))
    assert backward.box.tolist() == one.truth[100].tolist()
    assert torch.equal(backward.sequence.frames[3], one.frames[97])


def test_anchors_where_a_benchmark_names_none():
    one = still(120)
    one.truth[100] = np.nan
    assert anchored(one).anchors == (0, 50, -119)
    named = replace(one, anchors=(7,))
    assert anchored(named) is named


def test_a_part_has_all_that_is_known_of_its_frames():
    one = replace(
        sequence(10),
        absent=np.arange(10) == 4,
        cover=np.arange(10),
        polygons=np.arange(80.0).reshape(10, 8),
        frame_attributes={"occlusion": np.arange(10) > 6},
        attributes=("SV",),
    )
    numbers = np.array([8, 4, 2])
    cut = part(one, numbers)
    assert len(cut) == 3
    assert cut.truth.tolist() == one.truth[numbers].tolist()
    assert cut.absent.tolist() == [False, True, False]
    assert cut.cover.tolist() == [8, 4, 2]
    assert cut.polygons[0, 0] == 64
    assert cut.frame_attributes["occlusion"].tolist() == [True, False, False]
    assert (cut.name, cut.attributes, cut.size) == (one.name, ("SV",), (WIDTH, HEIGHT))


@pytest.mark.parametrize("wrong", [[np.nan] * 4, [5, 5, 0, 10]])
def test_a_start_without_a_box_is_named(wrong):
    one = still(30)
    one.truth[0] = wrong
    with pytest.raises(MmsslError, match="still: frame 0: expected a box to start"):
        RUNS["ope"](one)


class Scripted:
    """Gives the truth, except at the frames where it is told to miss; frames are known by their pixels."""

    def __init__(self, one, misses):
        self.one, self.misses, self.started = one, set(misses), []

    def _number(self, frame):
        return int(frame[0, 0, 0])

    def init(self, frame, box):
        self.started.append((self._number(frame), box.tolist()))

    def update(self, frame):
        number = self._number(frame)
        box = self.one.truth[number].copy()
        if number in self.misses:
            self.misses.discard(number)
            return np.array([80.0, 60, 10, 10]), 0.1
        return np.where(np.isnan(box), 5.0, box), 1.0


def numbered(length):
    frames = [torch.full((3, 80, 100), number, dtype=torch.uint8) for number in range(length)]
    return replace(still(length, (10, 10, 20, 20)), frames=Given(frames, "still"))


def test_a_failure_restarts_five_frames_later():
    one = numbered(40)
    tracker = Scripted(one, misses=[7, 20])
    run = supervise(tracker, one)
    assert [number for number, _ in tracker.started] == [0, 12, 25]
    assert np.flatnonzero(run.codes == FAILURE).tolist() == [7, 20]
    assert np.flatnonzero(run.codes == INIT).tolist() == [0, 12, 25]
    assert np.flatnonzero(run.codes == UNKNOWN).tolist() == [8, 9, 10, 11, 21, 22, 23, 24]
    assert (np.isfinite(run.regions).all(axis=1) == (run.codes == REGION)).all()
    judged = VotReset(2018).judge([run], one)
    assert isinstance(judged, ResetJudged)
    assert judged.values["failures"] == 2
    assert judged.values["accuracy"] == 100


def test_a_failure_near_the_end_is_the_last_thing():
    run = supervise(Scripted(one := numbered(20), misses=[17]), one)
    assert run.codes[17:].tolist() == [FAILURE, UNKNOWN, UNKNOWN]


def test_no_restart_where_there_is_no_truth_and_no_failure_either():
    one = numbered(30)
    one.truth[10:14] = np.nan
    tracker = Scripted(one, misses=[6, 11])  # 11 has no truth to miss, but by then nothing runs
    run = supervise(tracker, one)
    assert [number for number, _ in tracker.started] == [0, 14]
    assert np.flatnonzero(run.codes == FAILURE).tolist() == [6]
    unmissed = supervise(Scripted(one, misses=[12]), one)
    assert unmissed.codes[12] == REGION


def test_a_miss_is_one_of_the_polygon_not_of_the_box_around_it():
    """A box in the corner of the upright box around a diamond overlaps only the former."""
    one = numbered(4)
    diamond = np.array([20.0, 10, 30, 20, 20, 30, 10, 20])
    one = replace(one, polygons=np.tile(diamond, (4, 1)))

    class Corner(Scripted):
        def update(self, frame):
            return np.array([10.0, 10, 3, 3]), 1.0

    assert supervise(Corner(one, []), one).codes[1] == FAILURE
    assert supervise(Corner(one, []), replace(one, polygons=None)).codes[1] == REGION


def test_a_run_as_a_trajectory():
    run = trajectory(np.array([[1.0, 2, 3, 4], [2, 3, 4, 5]]))
    assert run.codes.tolist() == [INIT, REGION]
    assert np.isnan(run.regions[0]).all()
    assert run.regions[1].tolist() == [2, 3, 6, 3, 6, 8, 2, 8]
