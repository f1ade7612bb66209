"""What the world promises beyond geometry: determinism, disjoint splits, fair labels, time-reversal pairs."""

import dataclasses
import hashlib
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from mmssl.errors import MmsslError
from mmssl.miniworld import CLASSES, REVERSED, SPLITS, Clip, MiniworldConfig, clip, draw_scene, render
from mmssl.miniworld.photographs import COLUMNS, photograph, texture_region
from mmssl.miniworld.scene import compose, draw_labels
from mmssl.miniworld.vocabulary import BACKGROUNDS, MOTIONS, TEXTURES, captions, motion_state

SMALL = MiniworldConfig(size=48, frames=5)

HASH = """
import dataclasses, hashlib, numpy as np
from mmssl.miniworld import MiniworldConfig, clip
h = hashlib.sha256()
for split in ("train", "test"):
    made = clip(split, 7, MiniworldConfig(size=48, frames=5))
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        h.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
print(h.hexdigest())
"""


def test_same_bytes_in_every_process() -> None:
    digest = hashlib.sha256()
    for split in ("train", "test"):
        made = clip(split, 7, SMALL)
        for field in dataclasses.fields(made):
            value = getattr(made, field.name)
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    other = subprocess.run([sys.executable, "-c", HASH], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest.hexdigest()


def test_split_index_and_seed_each_change_the_clip() -> None:
    base = clip("train", 3, SMALL).frames
    others = [
        clip("val", 3, SMALL),
        clip("train", 4, SMALL),
        clip("train", 3, SMALL.model_copy(update={"seed": 1})),
    ]
    for other in others:
        assert np.abs(base.astype(int) - other.frames).mean() > 5


def test_shapes_and_types_are_as_documented(clips: list[Clip]) -> None:
    made = clips[0]
    t, size = 8, 96
    expected = {
        "frames": ((t, size, size, 3), np.uint8),
        "frames_right": ((t, size, size, 3), np.uint8),
        "flow": ((t - 1, size, size, 2), np.float32),
        "visible": ((t - 1, size, size), bool),
        "depth": ((t, size, size), np.float32),
        "normals": ((t, size, size, 3), np.float32),
        "segmentation": ((t, size, size), np.uint8),
        "boxes": ((t, 3, 4), np.float32),
        "intrinsics": ((3, 3), np.float64),
        "poses": ((t, 4, 4), np.float64),
        "poses_right": ((t, 4, 4), np.float64),
    }
    for name, (shape, dtype) in expected.items():
        value = getattr(made, name)
        assert (value.shape, value.dtype) == (shape, np.dtype(dtype)), name
    assert made.labels.keys() == CLASSES.keys()


def test_splits_share_no_photograph_pixel() -> None:
    names = [name for split in SPLITS for name in BACKGROUNDS[split]]
    assert len(names) == len(set(names))
    assert not set(names) & {file for file, _ in TEXTURES.values()}
    spans = sorted(COLUMNS.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    for texture, (file, _) in TEXTURES.items():
        widths = [texture_region(texture, split).shape[1] for split in SPLITS]
        assert sum(widths) <= photograph(file).shape[1]
        assert min(widths) > 60


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_balanced_and_independent(split: str) -> None:
    drawn = [draw_labels(split, index, seed=0) for index in range(640)]
    for label, names in CLASSES.items():
        for prefix in (len(names) * 3, 640):
            counts = [sum(d[label] == name for d in drawn[:prefix]) for name in names]
            assert max(counts) == min(counts), (label, prefix)
    pairs = {(d["shape"], d["texture"]) for d in drawn}
    assert len(pairs) == 64


def test_labels_of_a_clip_are_those_drawn_for_it() -> None:
    drawn = draw_labels("val", 5, seed=0)
    made = clip("val", 5, SMALL)
    assert {label: CLASSES[label][number] for label, number in made.labels.items()} == drawn


def test_there_are_at_least_eight_motions_in_pairs() -> None:
    assert len(MOTIONS) >= 8
    for name, other in REVERSED.items():
        assert name != other
        assert REVERSED[other] == name


@pytest.mark.parametrize("name", [name for name in MOTIONS if MOTIONS[name].direction == 1])
def test_a_motion_backwards_is_its_reverse(name: str) -> None:
    """Run backwards from where it ended, a motion gives frame for frame the states of its reverse."""
    steps, phase = np.arange(16) / 16, 0.37
    forwards = motion_state(name, phase + steps)
    backwards = motion_state(REVERSED[name], -(phase + steps[-1]) + steps)
    for field in ("x", "y", "nearness"):
        np.testing.assert_allclose(getattr(forwards, field)[::-1], getattr(backwards, field), atol=1e-12)
    np.testing.assert_allclose(forwards.angle[::-1], backwards.angle, atol=1e-9)


@pytest.mark.parametrize("name", list(MOTIONS))
def test_a_motion_is_a_closed_path_without_jumps(name: str) -> None:
    """Over two cycles in small steps, no state moves faster than the quick way back: 8 units a cycle."""
    cycle = np.linspace(0, 2, 2001)
    state = motion_state(name, cycle)
    for values in (state.x, state.y, state.nearness, np.cos(state.angle), np.sin(state.angle)):
        assert np.abs(np.diff(values)).max() < 8.1 / 1000
        assert np.abs(values).max() <= 1
        np.testing.assert_allclose(values[:1001], values[1000:], atol=1e-9)


def test_a_reversed_scene_renders_the_same_frames_backwards() -> None:
    for index in range(10):
        scene = draw_scene("train", index, SMALL)
        forwards, backwards = render(scene, SMALL), render(scene.reversed(), SMALL)
        np.testing.assert_array_equal(forwards.frames[::-1], backwards.frames)
        np.testing.assert_array_equal(forwards.frames_right[::-1], backwards.frames_right)
        np.testing.assert_array_equal(forwards.depth[::-1], backwards.depth)
        names = [CLASSES["motion"][made.labels["motion"]] for made in (forwards, backwards)]
        assert REVERSED[names[0]] == names[1]


def states(motion: str, frame: int, clips: int) -> np.ndarray:
    """(clips, 9) where the main object is at one frame, in the camera: all that geometry shows of it."""
    config = MiniworldConfig(size=32, frames=6, distractors=0)
    rows = []
    for index in range(clips):
        labels = {"shape": "disc", "texture": "brick", "motion": motion}
        rng = np.random.default_rng([index, CLASSES["motion"].index(motion)])
        scene = compose(rng, "train", labels, config)
        seen = scene.poses[frame, :3, :3] @ scene.things[-1].placement[frame]
        seen[:, 2] += scene.poses[frame, :3, 3]
        rows.append(seen.ravel())
    return np.array(rows)


@pytest.mark.parametrize("name", [name for name in MOTIONS if MOTIONS[name].direction == 1])
@pytest.mark.parametrize("frame", [0, 2, 5])
def test_no_single_frame_tells_a_pair_apart(name: str, frame: int) -> None:
    """At a known frame index, even the first or last, a pair's states have one distribution."""
    one, other = states(name, frame, 300), states(REVERSED[name], frame, 300)
    smallest = min(ks_2samp(one[:, k], other[:, k]).pvalue for k in range(one.shape[1]))
    assert smallest > 1e-3 / one.shape[1]
    x = np.concatenate([one, other])
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    accuracy = cross_val_score(KNeighborsClassifier(15), x, np.repeat([0, 1], 300), cv=5).mean()
    assert accuracy < 0.5 + 4 * 0.5 / 600**0.5


def test_other_motions_and_two_frames_are_told_apart() -> None:
    """The control of the test above: the same classifier succeeds where there is something to see."""
    config = MiniworldConfig(size=32, frames=16, distractors=0)

    def steps(motion: str) -> np.ndarray:
        rows = []
        for index in range(100):
            labels = {"shape": "disc", "texture": "brick", "motion": motion}
            scene = compose(np.random.default_rng(index), "train", labels, config)
            rows.append(np.diff(scene.things[-1].placement[:6, 0, 2]))
        return np.sort(np.array(rows), axis=1)

    x, y = np.concatenate([steps("right"), steps("left")]), np.repeat([0, 1], 100)
    assert cross_val_score(KNeighborsClassifier(5), x, y, cv=5).mean() > 0.95


def test_captions_name_shape_texture_and_motion() -> None:
    seen = set()
    for shape in CLASSES["shape"]:
        for texture in CLASSES["texture"]:
            for motion in CLASSES["motion"]:
                said = captions(shape, texture, motion)
                assert len(set(said)) == 5
                way = MOTIONS[motion]
                for caption in said:
                    assert shape in caption
                    assert TEXTURES[texture][1] in caption
                    assert way.verb in caption or way.gerund in caption
                seen.update(said)
    assert len(seen) == 5 * 8 * 8 * 10  # no caption fits two combinations


def test_unknown_split_or_negative_index_is_refused() -> None:
    with pytest.raises(MmsslError, match="unknown split 'dev'; expected one of train, val, test"):
        clip("dev", 0, SMALL)
    with pytest.raises(MmsslError, match="clip index -1; expected 0 or more"):
        clip("train", -1, SMALL)
