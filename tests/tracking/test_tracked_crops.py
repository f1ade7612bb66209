"""Which frames a tracker learns from, and how crops are cut out of them."""

import json
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import map_coordinates

from mmssl.errors import MmsslError
from mmssl.shards import encode
from mmssl.stream.clips.base import Timeline
from mmssl.stream.clips.following import Following
from mmssl.stream.decode import EncodedVideo
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import open_video
from mmssl.stream.views.crops import warp
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.tracked_crops import TrackedCrops

PIXELS = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)


def draws(id_: int = 0, pass_: int = 0) -> Draws:
    return Draws(3, "crops", np.array([id_]), np.array([pass_]))


def timeline(frames: int, cuts: tuple[int, ...] = (), rate: float = 30.0) -> Timeline:
    return Timeline(np.arange(frames) / rate, frames / rate, {"cuts": [cut / rate for cut in cuts]})


@given(
    frames=st.integers(1, 60),
    count=st.integers(1, 4),
    more=st.integers(0, 20),
    cuts=st.sets(st.integers(1, 59), max_size=4),
    id_=st.integers(0, 1 << 40),
)
@settings(max_examples=300, deadline=None)
def test_what_follows_is_near_and_in_the_same_shot(frames, count, more, cuts, id_):
    line = timeline(frames, tuple(sorted(cut for cut in cuts if cut < frames)))
    sampler = Following(count, count + more)
    shown = line.frames_at(sampler.moments(line, draws(id_)))
    assert shown.shape == (sampler.count,) == (1 + count,)
    assert (np.diff(shown) >= 0).all()
    assert shown[-1] - shown[0] <= count + more
    shots = np.searchsorted(sorted(cuts), np.arange(frames), side="right")
    assert len(set(shots[shown])) == 1
    if np.bincount(shots).max() > count:
        assert (np.diff(shown) > 0).all()
    else:
        different = len(set(shown.tolist()))
        assert (shown[different - 1 :] == shown[-1]).all()  # the last one is repeated


def test_every_choice_is_equally_likely_and_new_in_every_pass():
    line, sampler = timeline(6, cuts=(1,)), Following(2, 3)
    drawn = [tuple(line.frames_at(sampler.moments(line, draws(i))).tolist()) for i in range(4000)]
    per_template = {1: 3, 2: 3, 3: 1}  # templates, with how many pairs of the next three (or what is left)
    assert {t for t, *_ in drawn} == set(per_template)
    for template, pairs in per_template.items():
        counts = np.unique([d[1] * 10 + d[2] for d in drawn if d[0] == template], return_counts=True)[1]
        assert len(counts) == pairs
        assert len(counts) == 1 or stats.chisquare(counts).pvalue > 1e-3
    counts = np.unique([d[0] for d in drawn], return_counts=True)[1]
    assert stats.chisquare(counts).pvalue > 1e-3
    again = [tuple(line.frames_at(sampler.moments(line, draws(i, 1))).tolist()) for i in range(50)]
    assert again != drawn[:50]


@pytest.mark.parametrize(("count", "within"), [(0, 5), (3, 2)])
def test_what_cannot_follow_is_refused(count, within):
    with pytest.raises(MmsslError, match="at least 1, and at most all"):
        Following(count, within)


@pytest.mark.parametrize("shape", [(40, 64), (41, 63), (40, 64, 3)])
def test_a_window_is_stretched_bilinearly_and_its_middle_stays_its_middle(shape):
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), (0, 0), 2)
    centre, size, side = np.array([30.3, 15.7]), np.array([50.0, 22.0]), 25
    rows, columns = ((np.arange(side) - 12) * size[axis] / side + centre[axis] for axis in (1, 0))
    places = np.meshgrid(rows, columns, indexing="ij")
    planes = pixels.reshape(*shape[:2], -1).astype(float).transpose(2, 0, 1)
    expected = np.stack([map_coordinates(p, places, order=1, mode="nearest") for p in planes], axis=-1)
    got = warp(pixels, centre, size, side).reshape(side, side, -1)
    assert np.abs(got - expected).max() <= 1.5  # OpenCV places samples to a 32nd of a pixel


def moving(frames: int, height: int, width: int, step: tuple[int, int]) -> np.ndarray:
    """(T, H, W, 3) uint8: a textured square on a flat ground, moving by ``step`` (x, y) a frame."""
    noise = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    patch = cv2.resize(noise, (24, 24), interpolation=cv2.INTER_CUBIC)
    video = np.full((frames, height, width, 3), 90, dtype=np.uint8)
    for t, frame in enumerate(video):
        left, top = START[0] + t * step[0], START[1] + t * step[1]
        frame[top : top + 24, left : left + 24] = patch
    return video


START = (38, 22)
"""Left and top: around the point (49.5, 33.5), beside the candidate at (1/3 · 150, 1/3 · 102)."""


def sample(frames: np.ndarray, **meta: Any) -> Sample:
    members = {"video": ("mp4", encode.h264(frames, 30.0, crf=4))}
    if meta:
        members["meta"] = ("json", json.dumps(meta).encode())
    return Sample(0, "clip", "shard", 0, members)


def view(size: int = 31, start: str = "centre", count: int = 2, within: int = 6) -> TrackedCrops:
    return TrackedCrops(Following(count, within), size, *PIXELS, start=start)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (46, 90)])
def test_crops_of_the_centre_are_half_the_frame(height, width):
    frames = np.random.default_rng(0).integers(0, 256, (8, height // 4, width // 4, 3), dtype=np.uint8)
    frames = np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in frames])
    one, looking = sample(frames), view()
    shown = looking.finish(looking.prepare([looking.read(one, draws())] * 2, draws()), draws())
    assert shown.shape == (2, 3, 3, 31, 31)
    assert shown.dtype == torch.float32
    with open_video(EncodedVideo(one.members["video"][1], "mp4")) as video:
        numbers = timeline(8).frames_at(looking.sampler.moments(timeline(8), draws()))
        whole = video.read(numbers).permute(0, 2, 3, 1).numpy()
    middle, half = np.array([width - 1, height - 1]) / 2, np.array([width, height]) / 2
    expected = np.stack([warp(frame, middle, half, 31) for frame in whole]).transpose(0, 3, 1, 2)
    assert np.abs(shown[1].numpy() - expected).max() <= 1  # a part of a frame is cut out as the whole is


@pytest.mark.parametrize("step", [(5, 0), (0, 4), (3, -1)])
def test_textured_crops_follow_what_moves_in_x_and_in_y(step):
    """LUDT's public code hands (y, x) to a tracker that takes (x, y)."""
    looking = view(size=51, start="textured", count=3, within=8)
    crops = looking.read(sample(moving(10, 102, 150, step)), draws()).float()
    assert crops.shape == (4, 3, 51, 51)
    # what stays in place in a crop differs by little; what runs away from it differs by the texture
    assert (crops[1:] - crops[:1]).abs().mean() < 6
    still = TrackedCrops(Following(3, 8), 51, *PIXELS)
    fixed = still.read(sample(moving(10, 102, 150, step)), draws()).float()
    assert (fixed[1:] - fixed[:1]).abs().mean() > 2 * (crops[1:] - crops[:1]).abs().mean()


def test_a_crop_never_crosses_a_cut():
    dark, bright = np.full((3, 32, 32, 3), 40, np.uint8), np.full((9, 32, 32, 3), 200, np.uint8)
    one = sample(np.concatenate([dark, bright]), cuts=[3 / 30])
    for pass_ in range(10):
        levels = view().read(one, draws(pass_=pass_)).float().mean(dim=(1, 2, 3))
        assert levels.max() - levels.min() < 5


def test_bad_videos_and_bad_settings_are_named():
    broken = Sample(0, "clip", "shard", 0, {"video": ("mp4", b"no video")})
    with pytest.raises(Unreadable, match="video"):
        view().read(broken, draws())
    with pytest.raises(MmsslError, match="size 0"):
        view(size=0)


def test_crops_from_anywhere_lie_within_the_frame_and_reach_all_of_it():
    down, right = np.meshgrid(np.arange(60), np.arange(90), indexing="ij")
    places = np.stack([right * 2, down * 4, np.zeros_like(down)], axis=-1).astype(np.uint8)
    looking = view(size=31, start="anywhere")
    one = sample(np.stack([places] * 4))
    shown = torch.stack([looking.read(one, draws(pass_=pass_)) for pass_ in range(30)]).float()
    assert (shown[:, :1] - shown[:, 1:]).abs().max() <= 12  # one place; the rest is compression
    middle = shown[:, 0, :2, 15, 15] / torch.tensor([2.0, 4.0])  # x, y of the crops' middles
    low, high = middle.amin(0), middle.amax(0)
    assert (low >= torch.tensor([22.0, 14.0]) - 3).all()  # half a window from the border
    assert (high <= torch.tensor([67.0, 45.0]) + 3).all()
    assert (high - low >= 0.7 * torch.tensor([45.0, 30.0])).all()
