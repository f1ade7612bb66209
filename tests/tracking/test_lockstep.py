"""Many runs side by side find what each finds alone."""

import threading

import numpy as np
import pytest
from moving_patch import film, random_features, truth

from mmssl.errors import MmsslError
from mmssl.tracking.frames import Frames
from mmssl.tracking.lockstep import Job, lockstep
from mmssl.tracking.tracker import PRESETS, Tracker, Trackers

pytestmark = pytest.mark.usefixtures("one_thread")


class Kept(Frames):
    """Frames in memory, which remember who asked for which."""

    def __init__(self, frames, name="kept"):
        self.frames, self.name = frames, name
        self.asked, self.threads = [], set()

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, number):
        self.asked.append(number)
        self.threads.add(threading.get_ident())
        if self.frames[number] is None:
            raise MmsslError(f"{self.name}: frame {number} is gone")
        return self.frames[number]


@pytest.fixture(scope="module")
def features():
    return random_features()


@pytest.fixture(scope="module")
def films():
    """Sequences of 2 to 9 frames, and the truth of each."""
    rng = np.random.default_rng(0)
    made = []
    for seed, length in enumerate((9, 2, 6, 4)):
        steps = rng.integers(-4, 5, (length - 1, 2))
        centres = np.array([80, 70]) + np.concatenate([[[0, 0]], np.cumsum(steps, axis=0)])
        made.append((film(centres, np.ones(length), seed=seed), truth(centres, np.ones(length))))
    return made


def alone(features, frames, box):
    tracker = Tracker(features, PRESETS["dcfnet"])
    tracker.init(frames[0], box)
    return np.stack([box, *(tracker.update(frame)[0] for frame in frames[1:])])


@pytest.mark.parametrize("lanes", [1, 2, 9])
def test_lanes_change_nothing(features, films, lanes):
    jobs = [Job(Kept(frames), range(len(frames)), boxes[0]) for frames, boxes in films]
    found = {}
    for index, boxes, seconds in lockstep(Trackers(features, PRESETS["dcfnet"]), jobs, lanes):
        assert len(boxes) == len(seconds) == len(jobs[index].numbers)
        assert (seconds > 0).all()
        found[index] = boxes
    assert sorted(found) == [0, 1, 2, 3]
    for index, (frames, boxes) in enumerate(films):
        assert np.abs(found[index] - alone(features, frames, boxes[0])).max() < 1e-3


def test_runs_may_go_backward_skip_frames_and_end_at_once(features, films):
    frames, boxes = films[0]
    kept = Kept(frames)
    orders = [range(8, -1, -1), [4], range(0, 9, 2)]
    jobs = [Job(kept, order, boxes[order[0]]) for order in orders]
    found = {index: got for index, got, _ in lockstep(Trackers(features, PRESETS["dcfnet"]), jobs, 2)}
    for index, order in enumerate(orders):
        expected = alone(features, [frames[number] for number in order], boxes[order[0]])
        assert np.abs(found[index] - expected).max() < 1e-3


def test_a_short_run_is_handed_over_before_a_long_one(features, films):
    jobs = [Job(Kept(frames), range(len(frames)), boxes[0]) for frames, boxes in films[:2]]
    assert [index for index, *_ in lockstep(Trackers(features, PRESETS["dcfnet"]), jobs, 2)] == [1, 0]


def test_frames_are_decoded_in_order_in_the_background(features, films):
    frames, boxes = films[0]
    kept = Kept(frames)
    list(lockstep(Trackers(features, PRESETS["dcfnet"]), [Job(kept, range(9), boxes[0])], 1))
    assert kept.asked == list(range(9))
    assert threading.get_ident() not in kept.threads


def test_what_is_wrong_is_said_with_the_sequences_name(features, films):
    frames, boxes = films[2]
    trackers = Trackers(features, PRESETS["dcfnet"])
    with pytest.raises(MmsslError, match=r"Crossing: frame 3: box .* above 0"):
        list(lockstep(trackers, [Job(Kept(frames, "Crossing"), range(3, 6), np.array([9.0, 9, 0, 4]))], 1))
    with pytest.raises(MmsslError, match="David: no frames"):
        list(lockstep(trackers, [Job(Kept(frames, "David"), [], boxes[0])], 1))
    broken = [*frames[:4], None, *frames[5:]]
    with pytest.raises(MmsslError, match="Girl: frame 4 is gone"):
        list(lockstep(trackers, [Job(Kept(broken, "Girl"), range(6), boxes[0])], 1))
    with pytest.raises(MmsslError, match="lanes: 0"):
        next(lockstep(trackers, [], 0))
    assert list(lockstep(trackers, [], 3)) == []


def test_a_run_that_is_given_up_stops_decoding(features, films):
    frames, boxes = films[0]
    kept = Kept(frames * 20)
    jobs = [Job(Kept(films[1][0]), range(2), films[1][1][0]), Job(kept, range(180), boxes[0])]
    running = lockstep(Trackers(features, PRESETS["dcfnet"]), jobs, 2)
    next(running)
    running.close()
    assert len(kept.asked) < 20
