"""Patches of frames as nodes: where they lie, what is shown of each, and that their place is not told."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from order_videos import RATE, gradient, sample, seen
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.nodes import NodesView, cut_nodes

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
SIZE, PATCH, STEP, T = 64, 16, 8, 3
SHARED = ClipAugmentation(
    scale=(0.3, 0.6), brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, blur=0.0
)


def nodes_view(
    area: tuple[float, float] = (0.7, 0.9), augmentation: Any = None, size: int = SIZE, **settings: Any
) -> NodesView:
    patches = {"patch": PATCH, "step": STEP} | settings
    sampler = Blocks(1, T, 1 / RATE)
    return NodesView(sampler, size, MEAN, STD, area=area, augmentation=augmentation, **patches)


def draws(samples: int, seed: int = 0) -> Draws:
    return Draws(seed, "clip", np.arange(samples), np.zeros(samples, dtype=np.int64))


def shown(view: NodesView, **settings: Any) -> Tensor:
    """(2, T, N, 3, p, p) of two videos in which nothing moves."""
    nodes: Tensor = seen(view, [sample(0, gradient()), sample(1, gradient())], **settings)["nodes"]
    return nodes


def test_whole_patches_are_those_of_the_frame_row_by_row() -> None:
    videos = [sample(0, np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8))]
    frames = seen(ClipView(Blocks(1, T, 1 / RATE), SIZE, MEAN, STD), videos)["frames"]
    nodes = seen(nodes_view((1.0, 1.0)), videos)["nodes"]
    assert nodes.shape == (1, T, 49, 3, PATCH, PATCH)
    for number in range(49):
        top, left = number // 7 * STEP, number % 7 * STEP
        expected = frames[:, :, :, top : top + PATCH, left : left + PATCH]
        torch.testing.assert_close(nodes[:, :, number], expected, atol=1e-4, rtol=0)


def test_red_grows_along_the_rows_of_the_grid_and_green_down_its_columns() -> None:
    colour = shown(nodes_view())[0, 0].mean(dim=(2, 3)).unflatten(0, (7, 7))
    assert (colour[:, 1:, 0] > colour[:, :-1, 0]).all()
    assert (colour[1:, :, 1] > colour[:-1, :, 1]).all()


def test_a_box_is_enlarged_as_opencv_resizes_it() -> None:
    frame = np.random.default_rng(1).random((12, 9, 3)).astype(np.float32)
    expected = cv2.resize(frame, (16, 16), interpolation=cv2.INTER_LINEAR)
    whole = torch.tensor([[[0.0, 0.0, 12.0, 9.0]]])
    cut = cut_nodes(torch.from_numpy(frame).permute(2, 0, 1)[None], whole, 16)
    np.testing.assert_allclose(cut[0, 0].permute(1, 2, 0), expected, atol=1e-5)


def test_boxes_that_are_not_whole_pixels_show_what_lies_there() -> None:
    y, x = np.mgrid[:40, :40] + 0.5  # centres of pixels
    ramp = torch.from_numpy(np.stack([x, y, x + y])).float()[None]
    top, left, height, width = 5.25, 7.5, 10.5, 12.25
    cut = cut_nodes(ramp, torch.tensor([[[top, left, height, width]]]), 16)[0, 0]
    place = (np.arange(16) + 0.5) / 16
    np.testing.assert_allclose(cut[0], np.broadcast_to(left + width * place, (16, 16)), atol=1e-4)
    np.testing.assert_allclose(cut[1].T, np.broadcast_to(top + height * place, (16, 16)), atol=1e-4)


def test_parts_lie_within_their_patches_and_have_the_shares_and_shapes_asked_for() -> None:
    view = nodes_view()
    top, left, height, width = np.moveaxis(view.boxes(draws(60), T), -1, 0)
    y, x = top - view.corners[:, 0], left - view.corners[:, 1]
    for start, length in ((y, height), (x, width)):
        assert start.min() >= -1e-4
        assert (start + length).max() <= PATCH + 1e-4
    share, ratio = height * width / PATCH**2, width / height
    assert 0.7 - 1e-4 <= share.min() < 0.71
    assert 0.89 < share.max() <= 0.9 + 1e-4
    assert 3 / 4 - 1e-4 <= ratio.min() < 0.76
    assert 1.3 < ratio.max() <= 4 / 3 + 1e-4
    assert float(share.mean()) == pytest.approx(0.8, abs=0.005)
    assert float(np.log(ratio).mean()) == pytest.approx(0.0, abs=0.005)


def test_every_patch_of_every_frame_draws_its_own_part() -> None:
    """Else a node would be recognised by where in its patch things lie, and not by what lies there."""
    view = nodes_view()
    boxes = view.boxes(draws(400), T) - np.pad(view.corners, ((0, 0), (0, 2)))
    assert len(np.unique(boxes.reshape(-1, 4), axis=0)) == boxes.size // 4
    for a, b in ((boxes[:, 0], boxes[:, 1]), (boxes[:, :, 0], boxes[:, :, 1])):
        for number in range(4):
            correlation = np.corrcoef(a[..., number].ravel(), b[..., number].ravel())[0, 1]
            assert abs(correlation) < 5 / a[..., number].size ** 0.5


def test_frames_in_which_nothing_moves_share_their_crop_and_flip_but_not_the_parts_of_their_patches() -> None:
    still = shown(nodes_view((1.0, 1.0), SHARED))
    torch.testing.assert_close(still, still[:, :1].expand_as(still), atol=2 / 255, rtol=0)
    assert (still[0] - still[1]).abs().mean() > 5 / 255  # another sample is cut otherwise
    jittered = shown(nodes_view((0.7, 0.9), SHARED))
    assert (jittered[:, 0] - jittered[:, 1]).abs().amax(dim=(2, 3, 4)).min() > 0.5 / 255


def test_nodes_are_repeated_exactly_and_depend_on_pass_and_seed_but_not_on_the_batch() -> None:
    view = nodes_view(augmentation=SHARED)
    both = shown(view)
    assert torch.equal(both, shown(view))
    alone = seen(view, [sample(1, gradient())])["nodes"]
    torch.testing.assert_close(alone[0], both[1])
    assert not torch.allclose(both, shown(view, pass_=1))
    assert not torch.allclose(both, shown(view, seed=1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patch": 64, "step": 8}, "expected at least 2 × 2"),
        ({"step": 0}, "expected at least 2 × 2"),
        ({"area": (0.9, 0.7)}, "area"),
        ({"area": (0.5, 1.1)}, "area"),
    ],
)
def test_grids_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MmsslError, match=words):
        nodes_view(**settings)
