"""J and F against their definitions, a second implementation with distance transforms, and hand counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from mmssl.evaluate.propagation.regions import contour, contour_accuracy, jaccard, statistics


def contour_by_loops(mask):
    height, width = mask.shape
    edge = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                if v < height and u < width and mask[v, u] != mask[y, x]:
                    edge[y, x] = True
    return edge


def accuracy_by_distances(found, truth):
    reach = np.ceil(0.008 * np.sqrt(found.shape[0] ** 2 + found.shape[1] ** 2))
    ours, theirs = contour_by_loops(found), contour_by_loops(truth)
    if not ours.any() and not theirs.any():
        return 1.0
    if not ours.any() or not theirs.any():
        return 0.0
    precision = (distance_transform_edt(~theirs)[ours] <= reach).mean()
    recall = (distance_transform_edt(~ours)[theirs] <= reach).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


masks = st.tuples(st.integers(1, 24), st.integers(1, 30)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


@settings(max_examples=100, deadline=None)
@given(masks)
def test_both_measures_are_what_their_definitions_say(pair):
    found, truth = pair
    np.testing.assert_array_equal(contour(found), contour_by_loops(found))
    assert contour_accuracy(found, truth) == pytest.approx(accuracy_by_distances(found, truth))
    shared = sum(a and b for a, b in zip(found.flat, truth.flat, strict=True))
    union = sum(a or b for a, b in zip(found.flat, truth.flat, strict=True))
    assert jaccard(found, truth) == pytest.approx(shared / union if union else 1)
    assert jaccard(truth, truth) == contour_accuracy(truth, truth) == 1


def test_reach_grows_with_the_image():
    rng = np.random.default_rng(0)
    for shape in ((240, 427), (100, 130), (30, 700)):
        found, truth = (
            np.kron(rng.random((5, 5)) > 0.5, np.ones((shape[0] // 5, shape[1] // 5))) > 0 for _ in "ab"
        )
        assert contour_accuracy(found, truth) == pytest.approx(accuracy_by_distances(found, truth))


def square(left, size=100):
    mask = np.zeros((size, size), dtype=bool)
    mask[10:30, left : left + 20] = True
    return mask


@pytest.mark.parametrize(("shift", "f"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 44 / 80), (60, 0.0)])
def test_shifted_squares_by_hand(shift, f):
    """Of 100² pixels, reach ceil(1.13) = 2; a square's contour is a ring of 80 pixels.

    Shifted by 3: of the upper and the lower side 20 pixels each lie within reach, of the near upright side 2
    at either end, of the far one none."""
    assert contour(square(10)).sum() == 80
    assert contour_accuracy(square(10 + shift), square(10)) == pytest.approx(f)
    overlap = max(0, 20 - shift) * 20
    assert jaccard(square(10 + shift), square(10)) == pytest.approx(overlap / (800 - overlap))


def test_masks_without_a_contour():
    empty, full = np.zeros((100, 100), dtype=bool), np.ones((100, 100), dtype=bool)
    assert jaccard(empty, empty) == contour_accuracy(empty, empty) == 1
    assert jaccard(full, full) == contour_accuracy(full, full) == 1
    assert jaccard(full, empty) == 0
    assert contour_accuracy(full, empty) == 1, "the image's border is no contour, so neither has one"
    assert jaccard(empty, square(10)) == contour_accuracy(empty, square(10)) == 0
    assert jaccard(square(10), empty) == contour_accuracy(square(10), empty) == 0


def test_a_single_pixel():
    one, beside, far = (np.zeros((100, 100), dtype=bool) for _ in range(3))
    one[50, 50] = beside[50, 52] = far[50, 60] = True
    assert contour(one).sum() == 4
    assert jaccard(one, beside) == 0
    assert contour_accuracy(one, beside) == 1
    assert contour_accuracy(one, far) == 0


def test_quarters_share_the_frames_at_which_they_meet():
    values = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    mean, recall, decay = statistics(values)
    assert mean == pytest.approx(0.55)
    assert recall == pytest.approx(4 / 8), "0.5 itself is not above"
    assert decay == pytest.approx(0.8 - 0.3), "frames 0 to 2 and 5 to 7"


@pytest.mark.parametrize("frames", [1, 2, 3, 40, 256, 257, 300, 1000])
def test_decay_of_long_videos_does_not_overflow(frames):
    falling = np.linspace(1, 0, frames) if frames > 1 else np.ones(1)
    bounds = [int(np.floor(1 + (frames - 1) * part / 4 + 0.5)) - 1 for part in range(5)]
    wanted = falling[: bounds[1] + 1].mean() - falling[bounds[3] : bounds[4] + 1].mean()
    assert statistics(falling)[2] == pytest.approx(wanted)
    assert statistics(falling)[2] >= 0
