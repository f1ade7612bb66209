"""Moments: rows of them, and windows, on regular, irregular and short timelines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Timeline
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.clips.moments import Window
from mmssl.stream.views.draws import Draws


def regular(frames: int, rate: float) -> Timeline:
    return Timeline(np.arange(frames) / rate, frames / rate)


def draws(id_: int, pass_: int = 0) -> Draws:
    return Draws(3, "clip", np.array([id_]), np.array([pass_]))


def test_blocks_are_consecutive_frames_at_the_stride():
    timeline = regular(300, 30.0)
    sampler = Blocks(blocks=8, frames=5, stride=0.1)
    assert sampler.count == 40
    for id_ in range(20):
        moments = sampler.moments(timeline, draws(id_))
        np.testing.assert_allclose(np.diff(moments), 0.1, rtol=1e-9)
        assert moments.min() >= 0
        assert moments.max() <= timeline.times[-1]
        assert (np.diff(timeline.frames_at(moments)) == 3).mean() > 0.9  # a moment may lie on a boundary


def test_starts_are_uniform_over_those_that_fit_and_new_in_every_pass():
    timeline = regular(300, 30.0)
    sampler = Blocks(blocks=2, frames=4, stride=0.5)
    starts = np.array([sampler.moments(timeline, draws(i))[0] for i in range(2000)])
    assert stats.kstest(starts, stats.uniform(0, timeline.times[-1] - 3.5).cdf).pvalue > 1e-3
    assert sampler.moments(timeline, draws(0, 1))[0] != starts[0]
    assert sampler.moments(timeline, draws(0))[0] == starts[0]


def test_a_short_video_is_padded_with_its_last_frame():
    timeline = regular(4, 10.0)
    shown = timeline.frames_at(Blocks(blocks=2, frames=4, stride=0.1).moments(timeline, draws(0)))
    assert shown.tolist() == [0, 1, 2, 3, 3, 3, 3, 3]
    one = regular(1, 10.0)
    assert one.frames_at(Blocks(2, 3, 0.5).moments(one, draws(0))).tolist() == [0] * 6


@given(
    frames=st.integers(1, 80),
    count=st.integers(1, 30),
    seconds=st.floats(0.05, 5),
    id_=st.integers(0, 1 << 40),
    gaps=st.integers(0, 1 << 30),
)
@settings(max_examples=200, deadline=None)
def test_a_window_gives_different_frames_while_it_has_them(frames, count, seconds, id_, gaps):
    steps = np.random.default_rng(gaps).uniform(0.01, 0.2, frames)
    timeline = Timeline(np.cumsum(steps) - steps[0], float(steps.sum()))
    moments = Window(count, seconds).moments(timeline, draws(id_))
    assert moments.shape == (count,)
    assert np.isin(moments, timeline.times).all()
    assert (np.diff(moments) >= 0).all()
    # The frame on screen when the window begins may have appeared up to one gap earlier.
    assert moments[-1] - moments[0] <= seconds + 0.2 + 1e-5
    different = len(np.unique(moments))
    if timeline.times[-1] <= seconds:
        assert different == min(count, frames)
    assert (np.diff(moments[:different]) > 0).all()


def test_all_sets_of_frames_of_a_window_are_equally_likely():
    timeline = regular(5, 10.0)
    drawn = [Window(2, 10.0).moments(timeline, draws(i)) * 10 for i in range(4000)]
    pairs = [tuple(np.rint(pair).astype(int).tolist()) for pair in drawn]
    counts = [pairs.count((a, b)) for a in range(5) for b in range(a + 1, 5)]
    assert sum(counts) == 4000
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("make", [lambda: Blocks(0, 5, 0.1), lambda: Blocks(2, 5, 0.0), lambda: Window(3, 0)])
def test_what_cannot_be_sampled_is_refused(make):
    with pytest.raises(MmsslError, match="expected at least 1"):
        make()
