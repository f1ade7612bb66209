"""What LUDT starts from and how it is followed for a few frames."""

import cv2
import numpy as np
import pytest
from scipy import stats

from mmssl.stream.views.tracklet import entropy, hog, most_textured, tracklet


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + smooth / smooth.std() * 50, 0, 255).astype(np.uint8)


def test_entropy_is_scipys():
    grey = texture(20, 30)
    counts = np.unique(grey, return_counts=True)[1]
    assert entropy(grey) == pytest.approx(stats.entropy(counts, base=2))
    assert entropy(np.full((3, 3), 7, np.uint8)) == 0


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("column", [0, 3])
def test_the_most_textured_box_is_found(row, column):
    height, width = 96, 180
    grey = np.full((height, width), 100, np.uint8)
    size = np.array([width, height]) / 6
    x, y = width * (column + 1) / 6, height * (row + 1) / 6
    grey[int(y) - 8 : int(y) + 8, int(x) - 15 : int(x) + 15] = texture(16, 30)
    np.testing.assert_allclose(most_textured(grey, size), [x - 0.5, y - 0.5])


@pytest.mark.parametrize(("right", "down"), [(2.5, 0.0), (0.0, 1.5), (-2.0, 1.0), (0.0, 0.0)])
def test_a_moving_texture_is_followed_within_a_pixel_and_a_half(right, down):
    world = texture(160, 240)
    size = np.array([36.0, 24.0])
    frames = []
    for t in range(12):
        move = np.array([[1, 0, right * t], [0, 1, down * t]])
        frames.append(cv2.warpAffine(world, move, (240, 160), borderMode=cv2.BORDER_REFLECT))
    start = np.array([110.0, 70.0])
    found = np.array(list(tracklet(frames, start, size)))
    assert found.shape == (12, 2)
    np.testing.assert_array_equal(found[0], start)
    expected = start + np.arange(12)[:, None] * [right, down]
    assert np.abs(found - expected).max() < 1.5


def test_a_target_that_leaves_stays_within_the_frame():
    world = texture(100, 400)
    frames = [world[:, 12 * t : 12 * t + 150] for t in range(14)]
    found = np.array(list(tracklet(frames, np.array([40.0, 50.0]), np.array([25.0, 17.0]))))
    assert (found >= 0).all()
    assert (found <= [149, 99]).all()


def test_gradients_fall_into_the_bins_of_their_direction():
    ramp = np.tile(np.arange(96, dtype=np.uint8) * 2, (96, 1))
    across, down = hog(ramp), hog(np.ascontiguousarray(ramp.T))
    assert across.shape == (9, 24, 24)
    assert across[:, 5:-5, 5:-5].mean((1, 2)).argmax() == 0
    assert set(np.argsort(down[:, 5:-5, 5:-5].mean((1, 2)))[-2:]) == {4, 5}  # a right angle lies between them
    assert across.max() <= 0.2
    assert hog(np.full((96, 96), 9, np.uint8)).max() == 0
