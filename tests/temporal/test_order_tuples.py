"""Tuples of moments: what their shape and place promise, on timelines of every kind."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmssl.stream.clips.base import Timeline
from mmssl.stream.clips.tuples import FiveFrames, Tuples, Units
from mmssl.stream.views.draws import Draws

SAMPLERS: list[Tuples] = [
    FiveFrames((0.2, 0.8), 0.01),
    Units(4, 1, 1.0, (0.1, 0.5), 0.01),
    Units(3, 4, 0.1, (0.2, 0.4), 0.01),
    Units(1, 8, 0.1, (0.0, 0.0), 0.01),
]


def one(id_: int, pass_: int = 0, seed: int = 3) -> Draws:
    return Draws(seed, "clip", np.array([id_]), np.array([pass_]))


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """1 to 150 frames at irregular times, with motion (some of it none) and cuts, or without."""
    frames = draw(st.integers(1, 150))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    gaps = generator.uniform(0.5, 1.5, frames) * draw(st.sampled_from([1 / 60, 1 / 25, 1 / 8]))
    times = np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
    meta: dict[str, list[float]] = {}
    if draw(st.booleans()):
        moving = generator.random(frames) < draw(st.sampled_from([0.0, 0.5, 1.0]))
        meta["motion"] = (moving * generator.uniform(0, 0.5, frames)).tolist()
    if draw(st.booleans()):
        meta["cuts"] = np.sort(generator.choice(times, min(frames, 2), replace=False)).tolist()
    return Timeline(times, float(times[-1] + gaps[-1]), meta)


def travelled(timeline: Timeline, first: int, last: int) -> float:
    """Motion from one frame to another, summed up one frame at a time."""
    if "motion" not in timeline.meta:
        return float("inf") if last > first else 0.0
    return sum(
        timeline.meta["motion"][t] * (timeline.times[t + 1] - timeline.times[t]) for t in range(first, last)
    )


def shots(timeline: Timeline) -> list[tuple[float, float]]:
    """First and last frame's time of every shot."""
    edges = sorted({0.0, *timeline.meta.get("cuts", [])})
    ends = [*edges[1:], float("inf")]
    found = []
    for low, high in zip(edges, ends, strict=True):
        inside = [t for t in timeline.times if low - 1e-9 <= t < high - 1e-9]
        if inside:
            found.append((inside[0], inside[-1]))
    return found


@settings(max_examples=150, deadline=None)
@given(timelines(), st.sampled_from(SAMPLERS), st.integers(0, 1000))
def test_moments_ascend_inside_one_shot(timeline: Timeline, sampler: Tuples, id_: int) -> None:
    moments = sampler.moments(timeline, one(id_))
    assert moments.shape == (sampler.count,)
    assert (np.diff(moments) >= 0).all()
    assert any(low - 1e-6 <= moments[0] and moments[-1] <= high + 2e-6 for low, high in shots(timeline))


@settings(max_examples=150, deadline=None)
@given(timelines(), st.integers(0, 1000))
def test_five_frames_keep_their_spacing_or_shrink_to_the_longest_shot(timeline: Timeline, id_: int) -> None:
    shortest, longest = 0.2, 0.8
    a, b, c, d, e = moments = FiveFrames((shortest, longest), 0.01).moments(timeline, one(id_))
    wanted = FiveFrames((shortest, longest), 0.01).shape(one(id_))
    room = max(last - first for first, last in shots(timeline))
    factor = min(1.0, room / wanted[-1])
    np.testing.assert_allclose(moments - a, wanted * factor, atol=1e-9)
    if factor == 1.0:
        assert shortest - 1e-9 <= b - a <= 2 * shortest + 1e-6
        assert shortest - 1e-9 <= e - d <= 2 * shortest + 1e-6
        assert shortest - 1e-9 <= d - b <= longest + 1e-6
        assert 0.25 - 1e-6 <= (c - b) / (d - b) <= 0.75 + 1e-6


@settings(max_examples=100, deadline=None)
@given(timelines(), st.sampled_from(SAMPLERS), st.integers(0, 1000))
def test_there_is_motion_between_neighbours_wherever_a_place_allows_it(
    timeline: Timeline, sampler: Tuples, id_: int
) -> None:
    shape = sampler.shape(one(id_))
    room = max(last - first for first, last in shots(timeline))
    shape = shape * min(1.0, room / shape[-1])

    def least(place: np.ndarray) -> float:
        frames = [max(t for t in range(len(timeline.times)) if timeline.times[t] <= m + 1e-6) for m in place]
        compared = [frames[index] for index in sampler.compared]
        return min(travelled(timeline, i, j) if j > i else -1.0 for i, j in itertools.pairwise(compared))

    possible = [
        least(first + shape)
        for first in timeline.times
        if any(low <= first and first + shape[-1] <= high + 1e-6 for low, high in shots(timeline))
    ]
    found = least(sampler.moments(timeline, one(id_)))
    best = max(possible)
    if best >= sampler.floor + 1e-9:
        assert found >= sampler.floor - 1e-9
    elif best < sampler.floor - 1e-9:
        assert max(found, 0.0) == pytest.approx(max(best, 0.0), abs=1e-9)


def test_places_are_drawn_with_the_motion_inside_as_their_weight() -> None:
    motion = np.array([0.1, 0.1, 0.1, 0.5, 1.0, 1.0, 0.2, 0.1, 0.1, 0.1])
    times = np.arange(10) / 2
    timeline = Timeline(times, 5.0, {"motion": motion.tolist()})
    sampler = Units(2, 1, 1.0, (1.0, 1.0), 0.0)  # two frames, a second apart
    starts = [sampler.moments(timeline, one(id_))[0] for id_ in range(4000)]
    seen = np.array([starts.count(t) for t in times[:8]])
    weight = np.array([motion[t] + motion[t + 1] for t in range(8)])
    assert stats.chisquare(seen, 4000 * weight / weight.sum()).pvalue > 1e-3


def test_without_motion_in_the_metadata_places_are_uniform() -> None:
    timeline = Timeline(np.arange(10) / 2, 5.0)
    starts = [Units(2, 1, 1.0, (1.0, 1.0), 0.01).moments(timeline, one(id_))[0] for id_ in range(4000)]
    assert stats.chisquare([starts.count(t) for t in np.arange(8) / 2]).pvalue > 1e-3


def test_clips_have_their_stride_and_their_pause() -> None:
    timeline = Timeline(np.arange(300) / 30, 10.0)
    for id_ in range(50):
        clips = Units(3, 5, 0.1, (0.2, 0.4), 0.01).moments(timeline, one(id_)).reshape(3, 5)
        np.testing.assert_allclose(np.diff(clips, axis=1), 0.1, rtol=1e-9)
        pauses = clips[1:, 0] - clips[:-1, -1]
        assert (pauses >= 0.2 - 1e-6).all()
        assert (pauses <= 0.4 + 1e-6).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_sample_in_the_same_pass_gives_the_same_moments(sampler: Tuples) -> None:
    timeline = Timeline(np.arange(300) / 30, 10.0)
    first = sampler.moments(timeline, one(5))
    np.testing.assert_array_equal(first, sampler.moments(timeline, one(5)))
    assert not np.array_equal(first, sampler.moments(timeline, one(5, pass_=1)))
    assert not np.array_equal(first, sampler.moments(timeline, one(6)))


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"motion": [0.1] * 9}, "motion: expected 10 numbers"),
        ({"motion": [-0.1] * 10}, "none below 0"),
        ({"motion": [float("nan")] * 10}, "finite"),
        ({"motion": ["fast"] * 10}, "list of numbers"),
        ({"cuts": [[1.0]]}, "cuts: expected a list of finite numbers"),
    ],
)
def test_metadata_that_is_none_is_refused_by_name(meta: dict[str, list[float]], message: str) -> None:
    timeline = Timeline(np.arange(10) / 10, 1.0, meta)
    with pytest.raises(ValueError, match=message):
        SAMPLERS[1].moments(timeline, one(0))
