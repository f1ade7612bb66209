"""Crops: torchvision's distribution, torchvision's pixels, and every odd size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv
from view_tools import make_draws

from mmssl.stream.views.crops import crop_resize, draw_crops, draw_flips, image_sizes


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(256, 256, (0.08, 1.0)), (480, 200, (0.2, 1.0)), (60, 600, (0.3, 1.0)), (32, 32, (0.2, 1.0))],
)
def test_boxes_have_the_distribution_of_torchvision(height: int, width: int, scale) -> None:
    count = 3000
    ours = draw_crops(make_draws(range(count)), np.tile([[height, width]], (count, 1)), scale)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(count)]
    )
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3, column
    for both in (ours, theirs):
        assert (both[:, 2:].min(axis=1) >= 1).all()
    area = [both[:, 2] * both[:, 3] for both in (ours, theirs)]
    shape = [both[:, 3] / both[:, 2] for both in (ours, theirs)]
    assert stats.ks_2samp(*area).pvalue > 1e-3
    assert stats.ks_2samp(*shape).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (7, 100)])
def test_when_no_candidate_fits_the_box_is_the_fallback_of_torchvision(height: int, width: int) -> None:
    box = draw_crops(make_draws(range(5)), np.tile([[height, width]], (5, 1)), (1.0, 1.0))
    expected = RandomResizedCrop.get_params(torch.empty(3, height, width), [1.0, 1.0], [3 / 4, 4 / 3])
    assert (box == np.array(expected)).all()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=8),
    st.integers(0, 99),
)
def test_boxes_lie_inside_images_of_any_size(sizes: list[tuple[int, int]], seed: int) -> None:
    both = np.array(sizes)
    box = draw_crops(make_draws(range(len(sizes)), seed=seed), both, (0.01, 1.0))
    assert (box[:, :2] >= 0).all()
    assert (box[:, 2:] >= 1).all()
    assert (box[:, :2] + box[:, 2:] <= both).all()


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [1, 31, 96, 224])
def test_pixels_are_those_of_pillow_and_torchvision(photographs, kernel: str, size: int) -> None:
    draws = [make_draws(range(4)).view(v) for v in range(6)]
    boxes = np.stack([draw_crops(d, image_sizes(photographs)) for d in draws], axis=1)
    flips = np.stack([draw_flips(d, 0.5) for d in draws], axis=1)
    ours = crop_resize(photographs, boxes, size, flips, kernel)
    assert ours.shape == (4, 6, 3, size, size)
    assert ours.dtype == torch.uint8
    assert ours.is_contiguous()
    assert 0 < flips.sum() < flips.size
    for b, image in enumerate(photographs):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        for v in range(6):
            top, left, h, w = boxes[b, v].tolist()
            box, filter_ = (left, top, left + w, top + h), Image.Resampling[kernel.upper()]
            expected = np.asarray(picture.crop(box).resize((size, size), filter_))
            if flips[b, v]:
                expected = expected[:, ::-1]
            by_pillow = torch.from_numpy(expected.copy()).permute(2, 0, 1)
            # Bicubic overshoots, which 8-bit arithmetic clips after the first of the two passes, so that
            # single pixels at sharp edges differ by a few levels, from torchvision in float32 above all.
            difference = (ours[b, v].int() - by_pillow.int()).abs()
            assert difference.max() <= (8 if kernel == "bicubic" else 1)
            assert (difference > 1).float().mean() <= 0.001
            floats = tv.resized_crop(
                image.contiguous().float(),
                top,
                left,
                h,
                w,
                [size, size],
                interpolation=kernel,
                antialias=True,
            ).clamp(0, 255)
            floats = tv.horizontal_flip(floats) if flips[b, v] else floats
            difference = (ours[b, v].float() - floats).abs()
            assert difference.max() <= (8 if kernel == "bicubic" else 1.01)
            assert (difference > 1.01).float().mean() <= 0.005
            assert difference.mean() <= 0.5


def test_planar_and_interleaved_memory_give_the_same(photographs) -> None:
    boxes = draw_crops(make_draws(range(4)), image_sizes(photographs))[:, None]
    flips = np.array([[True], [False], [True], [False]])
    planar = [image.contiguous() for image in photographs]
    one, other = crop_resize(photographs, boxes, 64, flips), crop_resize(planar, boxes, 64, flips)
    assert (one.int() - other.int()).abs().max() <= 1


def test_the_whole_of_an_image_of_the_right_size_is_untouched_and_mirrored_exactly() -> None:
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    box = np.array([[[0, 0, 32, 32]] * 2])
    for kernel in ("bilinear", "bicubic"):
        out = crop_resize([image], box, 32, np.array([[False, True]]), kernel)
        assert torch.equal(out[0, 0], image)
        assert torch.equal(out[0, 1], image.flip(-1))


def test_a_fine_pattern_does_not_alias() -> None:
    columns = (torch.arange(240) % 2 * 255).to(torch.uint8).expand(3, 240, 240).contiguous()
    out = crop_resize([columns], np.array([[[0, 0, 240, 240]]]), 60, np.array([[False]]))
    assert (out[..., 1:-1].float() - 127.5).abs().max() < 2
    assert (out.float() - 127.5).abs().max() < 16


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.sampled_from(["bilinear", "bicubic"]))
def test_a_flat_image_stays_flat_at_any_size(height: int, width: int, size: int, kernel) -> None:
    image = (
        torch.tensor([10, 128, 250], dtype=torch.uint8)[:, None, None].expand(3, height, width).contiguous()
    )
    out = crop_resize([image], np.array([[[0, 0, height, width]]]), size, np.array([[True]]), kernel)
    assert (out[0, 0].int() - torch.tensor([10, 128, 250])[:, None, None]).abs().max() <= 1
