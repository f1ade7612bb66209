"""Partners and leading frames on all kinds of timelines, and two cameras at the same moments."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tiny_tcn import CAMERAS, two_cameras

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Timeline
from mmssl.stream.clips.moments import Window
from mmssl.stream.clips.pairs import LeadingUp, Pairs
from mmssl.stream.clips.spread import Spread
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.views.cameras import CamerasView
from mmssl.stream.views.clip import ClipAugmentation
from mmssl.stream.views.draws import Draws

PIXELS = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def draws(id_: int = 0, pass_: int = 0, seed: int = 3) -> Draws:
    return Draws(seed, "clip", np.array([id_]), np.array([pass_]))


def irregular(frames: int, seed: int) -> Timeline:
    gaps = np.random.default_rng(seed).uniform(0.01, 0.4, frames)
    times = np.cumsum(gaps) - gaps[0]
    return Timeline(times, float(times[-1] + 0.1))


@given(
    frames=st.integers(1, 60),
    count=st.integers(1, 20),
    seconds=st.floats(0.1, 5),
    radius=st.floats(0.02, 1),
    id_=st.integers(0, 1 << 40),
)
@settings(max_examples=200, deadline=None)
def test_partners_are_other_frames_within_the_radius(
    frames: int, count: int, seconds: float, radius: float, id_: int
) -> None:
    timeline = irregular(frames, id_ % 1000)
    sampler = Pairs(Window(count, seconds), radius)
    moments = sampler.moments(timeline, draws(id_))
    anchors, partners = moments[:count], moments[count:]
    assert len(moments) == sampler.count == 2 * count
    np.testing.assert_array_equal(anchors, Window(count, seconds).moments(timeline, draws(id_)))
    assert np.isin(moments, timeline.times).all()
    assert (np.abs(partners - anchors) <= radius + 1e-6).all()
    for anchor, partner in zip(anchors, partners, strict=True):
        near = np.abs(timeline.times - anchor) <= radius
        assert (partner != anchor) == (near.sum() > 1)  # itself only where nothing else is near


def test_every_frame_within_the_radius_is_as_likely() -> None:
    timeline = Timeline(np.arange(100) / 10, 10.0)
    gaps = []
    for id_ in range(1500):
        a, p = Pairs(Window(1, 4.0), 0.3).moments(timeline, draws(id_))
        if 0.5 < a < 9.4:
            gaps.append(round((p - a) * 10))
    values, counts = np.unique(gaps, return_counts=True)
    assert values.tolist() == [-3, -2, -1, 1, 2, 3]
    assert stats.chisquare(counts).pvalue > 1e-3


@given(
    frames=st.integers(1, 40),
    back=st.integers(1, 5),
    stride=st.floats(0.01, 0.5),
    count=st.integers(1, 6),
    id_=st.integers(0, 1 << 40),
)
@settings(max_examples=100, deadline=None)
def test_leading_frames_end_at_the_moment_and_never_see_its_future(
    frames: int, back: int, stride: float, count: int, id_: int
) -> None:
    timeline = irregular(frames, id_ % 1000)
    moments = LeadingUp(Window(count, 1.0), back, stride).moments(timeline, draws(id_)).reshape(count, back)
    anchors = Window(count, 1.0).moments(timeline, draws(id_))
    np.testing.assert_array_equal(moments[:, -1], anchors)
    shown = timeline.times[timeline.frames_at(moments.reshape(-1))].reshape(count, back)
    assert (np.diff(shown, axis=1) >= 0).all()
    assert (shown <= anchors[:, None]).all()
    before = anchors[:, None] - stride * np.arange(back)[::-1]
    lag = np.maximum(before, 0) - shown  # the frame on screen then, which had appeared at most one gap ago
    assert (lag >= -1e-5).all()
    assert (lag <= np.max(np.diff(timeline.times), initial=0.1) + 1e-5).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pairs(Window(2, 1.0), 0.0), "radius 0.0"),
        (lambda: LeadingUp(Window(2, 1.0), 0, 0.1), "0 frames"),
        (lambda: LeadingUp(Window(2, 1.0), 2, 0.0), "stride > 0"),
        (lambda: CamerasView(["video"], 2, Spread(1), 16, *PIXELS), "expected at least 2"),
        (lambda: CamerasView(["video", "video"], 2, Spread(1), 16, *PIXELS), "each named once"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message) -> None:
    with pytest.raises(MmsslError, match=message):
        make()


def seen(view: CamerasView, samples: list[Sample], passes: int = 0, seed: int = 3) -> dict[str, torch.Tensor]:
    ids = np.array([sample.id for sample in samples])
    everyone = Draws(seed, "clip", ids, np.full(len(ids), passes))
    items = [view.read(sample, everyone.rows([row])) for row, sample in enumerate(samples)]
    return view.finish(view.prepare(items, everyone), everyone)


def test_two_cameras_show_the_same_moments_of_different_videos() -> None:
    view = CamerasView(CAMERAS, 2, Window(6, 1.5), 16, *PIXELS)
    samples = [two_cameras(id_) for id_ in range(12)]
    x = seen(view, samples)
    assert x["frames"].shape == (12, 2, 6, 3, 16, 16)
    assert x["times"].shape == (12, 2, 6)
    assert torch.equal(x["times"][:, 0], x["times"][:, 1])
    level = 255 * x["frames"].mean(dim=(3, 4, 5))  # the left camera is dark; 4 grey levels a frame
    bright = level[:, :, 0] > 100
    assert (bright[:, 0] != bright[:, 1]).all()  # never the same camera twice
    assert 0 < bright[:, 0].sum() < 12  # and either may come first
    step = (level - torch.where(bright, 130.0, 10.0)[:, :, None]) / 4
    torch.testing.assert_close(step, (8 * x["times"]).float(), atol=0.5, rtol=0)
    assert (x["times"].diff(dim=2) > 0).all()  # distinct moments


def test_one_camera_of_several_is_chosen_for_each_sample() -> None:
    view = CamerasView(CAMERAS, 1, Window(3, 1.5), 16, *PIXELS)
    x = seen(view, [two_cameras(id_) for id_ in range(12)])
    assert x["frames"].shape == (12, 1, 3, 3, 16, 16)
    bright = 255 * x["frames"].mean(dim=(1, 2, 3, 4, 5)) > 100
    assert 0 < bright.sum() < 12


def test_moments_lie_where_both_cameras_run() -> None:
    view = CamerasView(CAMERAS, 2, Window(8, 10.0), 16, *PIXELS)
    for id_, frames in enumerate([(16, 9), (9, 16), (16, 1), (3, 16)]):
        x = seen(view, [two_cameras(id_, frames=frames)])
        assert x["times"].max() <= (min(frames) - 1) / 8 + 1e-6
        assert torch.equal(x["times"][:, 0], x["times"][:, 1])


def test_cameras_of_different_rates_are_off_by_less_than_a_frame_and_say_so() -> None:
    view = CamerasView(CAMERAS, 2, Window(8, 10.0), 16, *PIXELS)
    x = seen(view, [two_cameras(0, frames=(16, 20), fps=(8.0, 10.0))])
    off = (x["times"][0, 0] - x["times"][0, 1]).abs()
    assert 0 < off.max() < 1 / 8


def test_each_camera_has_its_own_crop_and_colours_and_repeats_them() -> None:
    light = ClipAugmentation(
        flip=0.0, jitter=1.0, brightness=0.9, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, blur=0.0
    )
    view = CamerasView(CAMERAS, 2, Window(4, 1.5), 16, *PIXELS, light)
    sample = two_cameras()
    x, again, later = seen(view, [sample]), seen(view, [sample]), seen(view, [sample], passes=1)
    assert torch.equal(x["frames"], again["frames"])
    assert not torch.equal(x["frames"], later["frames"])
    level = 255 * x["frames"].mean(dim=(3, 4, 5))[0]
    dark = level[:, 0] < level[:, 0].max()
    true = torch.where(dark, 10.0, 130.0)[:, None] + 4 * (8 * x["times"][0]).float()
    factor = (level / true).median(dim=1).values  # of brightness, the same for all frames of a camera
    assert (factor[0] - factor[1]).abs() > 0.02


def test_static_stretches_are_found_in_the_motion_metadata() -> None:
    motion = [0.0] * 6 + [1.0] * 10
    view = CamerasView(CAMERAS, 2, Spread(16), 16, *PIXELS, gate=0.1)
    x = seen(
        view,
        [
            two_cameras(0, meta={"motion": motion}),
            two_cameras(1),
            two_cameras(2, meta={"motion": [0.0] * 16}),
        ],
    )
    assert x["motion_known"].tolist() == [True, False, True]
    assert x["moving"][0].tolist() == [False] * 6 + [True] * 10
    assert x["moving"][1].all()  # nothing is known: no gate
    assert not x["moving"][2].any()  # nothing ever moves
    ungated = CamerasView(CAMERAS, 2, Spread(16), 16, *PIXELS, gate=0.0)
    assert seen(ungated, [two_cameras(2, meta={"motion": [0.0] * 16})])["moving"].all()


def test_segments_of_one_video_keep_its_clock_and_its_number() -> None:
    view = CamerasView(CAMERAS, 2, Spread(16), 16, *PIXELS)
    segments = [
        two_cameras(5, meta={"segment": {"start": 0.0, "of": "long"}}),
        two_cameras(6, meta={"segment": {"start": 1.0, "of": "long"}}),
        two_cameras(7, meta={"segment": {"start": 1.0, "of": "another"}}),
        two_cameras(8, meta={}),
    ]
    x = seen(view, segments)
    first, second, third, fourth = x["sequence"].tolist()
    assert first == second
    assert len({first, third, fourth}) == 3
    assert fourth == 8
    assert min(first, third) >= 1 << 62
    torch.testing.assert_close(x["times"][0, 0, 8:], x["times"][1, 0, :8])  # they overlap by a second


def test_a_camera_that_does_not_decode_is_named() -> None:
    sample = two_cameras()
    sample.members = {**sample.members, "video_right": ("mp4", b"no video at all")}
    with pytest.raises(Unreadable, match="video_right"):
        CamerasView(CAMERAS, 2, Spread(2), 16, *PIXELS).read(sample, draws())
