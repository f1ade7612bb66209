"""Crops of search windows against bilinear sampling written out in double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.tracking.crops import _with_grid_sample, cut_out


def sampled(frame: torch.Tensor, window: np.ndarray, size: int) -> np.ndarray:
    """(3, size, size) float64: every output pixel's centre looked up between its four neighbours."""
    pixels = frame.numpy().astype(np.float64)
    x, y, w, h = window
    # A box x, w covers the columns x … x + w − 1, so its edges lie at x − ½ and x − ½ + w.
    at_x = np.clip(x - 0.5 + (np.arange(size) + 0.5) * w / size, 0, pixels.shape[2] - 1)
    at_y = np.clip(y - 0.5 + (np.arange(size) + 0.5) * h / size, 0, pixels.shape[1] - 1)
    left, top = np.floor(at_x).astype(int), np.floor(at_y).astype(int)
    right, bottom = np.minimum(left + 1, pixels.shape[2] - 1), np.minimum(top + 1, pixels.shape[1] - 1)
    u, v = at_x - left, (at_y - top)[:, None]
    upper = pixels[:, top][:, :, left] * (1 - u) + pixels[:, top][:, :, right] * u
    lower = pixels[:, bottom][:, :, left] * (1 - u) + pixels[:, bottom][:, :, right] * u
    return upper * (1 - v) + lower * v


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(-150, 200), y=st.floats(-150, 200), w=st.floats(0.5, 300), h=st.floats(0.5, 300),
    size=st.sampled_from([7, 32, 125]),
)  # fmt: skip
def test_a_crop_is_bilinear_with_the_border_going_on(x, y, w, h, size):
    frame = noise(61, 83)
    window = np.array([x, y, w, h])
    expected = sampled(frame, window, size)
    crop = cut_out([frame], window[None, None], size)
    assert crop.shape == (1, 3, size, size)
    assert crop.dtype == torch.uint8
    assert np.abs(crop[0].numpy() - expected).max() < 0.6
    on_accelerators = _with_grid_sample(frame, window[None], size)
    assert np.abs(on_accelerators[0].numpy() - expected).max() < 0.6


def test_a_window_of_the_crops_own_size_is_a_copy():
    frame = noise(90, 70)
    crop = cut_out([frame], np.array([[[10.0, 20.0, 32.0, 32.0]]]), 32)
    torch.testing.assert_close(crop[0], frame[:, 20:52, 10:42])


def test_frames_of_different_sizes_and_layouts_in_one_batch():
    frames = [noise(50, 60, 1), noise(120, 31, 2).contiguous(), noise(9, 200, 3)]
    windows = np.random.default_rng(0).uniform(2, 60, (3, 4, 4))
    crops = cut_out(frames, windows, 20)
    assert crops.is_contiguous(memory_format=torch.channels_last)
    for i, frame in enumerate(frames):
        for j in range(4):
            alone = cut_out([frame], windows[i : i + 1, j : j + 1], 20)
            torch.testing.assert_close(crops[4 * i + j], alone[0])


@pytest.mark.parametrize(
    ("window", "constant"),
    [((500, 5, 30, 30), [2]), ((5, 9999, 16, 16), [1]), ((-500, -500, 40, 10), [1, 2])],
)
def test_a_window_outside_shows_the_nearest_border(window, constant):
    frame = noise(40, 50)
    crop = cut_out([frame], np.array([[window]], dtype=np.float64), 16)[0]
    for axis in constant:
        assert (crop == crop.narrow(axis, 0, 1)).all()
    assert np.abs(crop.numpy() - sampled(frame, np.array(window), 16)).max() < 0.6
