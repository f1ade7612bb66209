"""Colour, blur and solarisation against torchvision: exact where claimed, close where stated."""

import itertools

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv
from view_tools import MEAN, STD

from mmssl.stream.views.photometric import (
    Colour,
    colour_jitter,
    colour_normalise,
    gaussian_blur,
    normalise,
    solarise,
)

UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Statistics that leave images in 0..1."""


def jitter(x, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, order=(0, 1, 2, 3)) -> torch.Tensor:
    columns = [np.full(len(x), value) for value in (brightness, contrast, saturation, hue)]
    return colour_normalise(x, colour_jitter(*columns, np.tile(order, (len(x), 1))), *UNIT)


@pytest.fixture(scope="module")
def gentle() -> torch.Tensor:
    """(6, 3, 24, 20) uint8 of mid-tones, which no jitter of the tests drives out of range."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randint(90, 150, (6, 3, 1, 1), generator=generator)
    return (base + torch.randint(-20, 21, (6, 3, 24, 20), generator=generator)).to(torch.uint8)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.5])
def test_brightness_contrast_saturation_are_those_of_torchvision(photographs, factor: float) -> None:
    x = torch.stack([image[:, :150, :150] for image in photographs])
    unit = x.float() / 255
    for ours, theirs in [
        (jitter(x, brightness=factor), tv.adjust_brightness(unit, factor)),
        (jitter(x, contrast=factor), tv.adjust_contrast(unit, factor)),
        (jitter(x, saturation=factor), tv.adjust_saturation(unit, factor)),
    ]:
        # torchvision's own grey weights are rounded to four digits (0.2989, 0.587, 0.114).
        torch.testing.assert_close(ours, theirs, atol=5e-4, rtol=0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_every_order_is_folded_exactly_where_nothing_is_clamped(gentle, order) -> None:
    factors = {0: 1.2, 1: 0.6, 2: 1.4}
    step = {0: tv.adjust_brightness, 1: tv.adjust_contrast, 2: tv.adjust_saturation}
    expected = gentle.float() / 255
    for op in order:
        expected = step[op](expected, factors[op])
    assert expected.min() > 0
    assert expected.max() < 1
    ours = jitter(gentle, 1.2, 0.6, 1.4, 0.0, (*order, 3))
    torch.testing.assert_close(ours, expected, atol=5e-4, rtol=0)


def test_each_image_has_its_own_order_and_factors(gentle) -> None:
    rng = np.random.default_rng(1)
    columns = [rng.uniform(0.7, 1.2, 6) for _ in range(3)] + [rng.uniform(-0.1, 0.1, 6)]
    order = rng.permuted(np.tile(np.arange(4), (6, 1)), axis=1)
    together = colour_normalise(gentle, colour_jitter(*columns, order), *UNIT)
    for i in range(6):
        alone = jitter(gentle[i : i + 1], *(float(c[i]) for c in columns), order[i])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


def test_folding_equals_applying_one_step_after_the_other(gentle) -> None:
    """All 24 orders, hue included, against a float64 loop over the four steps."""
    luma = np.array([0.299, 0.587, 0.114])
    pixels = gentle[0].flatten(1).double().numpy() / 255
    only_hue = colour_jitter(np.ones(1), np.ones(1), np.ones(1), np.array([0.07]), np.array([[0, 1, 2, 3]]))
    for order in itertools.permutations(range(4)):
        x = pixels
        for op in order:
            if op == 0:
                x = 1.1 * x
            elif op == 1:
                x = 0.7 * x + 0.3 * (luma @ x).mean()
            elif op == 2:
                x = 1.3 * x - 0.3 * (luma @ x)
            else:
                x = only_hue.matrix[0] @ x
        ours = jitter(gentle[:1], 1.1, 0.7, 1.3, 0.07, order)[0].flatten(1).double().numpy()
        np.testing.assert_allclose(ours, x, atol=1e-5)


@pytest.mark.parametrize("turn", [-0.2, -0.1, -0.02, 0.02, 0.1, 0.2])
def test_hue_keeps_the_mean_and_greys_and_turns_as_far_as_torchvision(turn: float) -> None:
    def hues(x: torch.Tensor) -> torch.Tensor:
        chroma_1 = x[0] - 0.5 * x[1] - 0.5 * x[2]
        chroma_2 = (x[1] - x[2]) * 3**0.5 / 2
        return torch.atan2(chroma_2, chroma_1)

    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(1, 3, 50, 50, generator=generator) * 60 + 100).to(torch.uint8)
    unit = x[0].float() / 255
    ours, theirs = jitter(x, hue=turn)[0], tv.adjust_hue(unit, turn)
    torch.testing.assert_close(ours.mean(0), unit.mean(0), atol=1e-3, rtol=0)
    grey = torch.full((1, 3, 4, 4), 77, dtype=torch.uint8)
    torch.testing.assert_close(jitter(grey, hue=turn), grey / 255, atol=1e-3, rtol=0)
    error = (hues(ours) - hues(theirs) + torch.pi).remainder(2 * torch.pi) - torch.pi
    # HSV measures the hue along a hexagon, a rotation along a circle: they differ by up to 1.1 degrees at
    # each end of the turn.
    coloured = (unit.amax(0) - unit.amin(0)) > 0.05
    assert error[coloured].abs().max() < 0.045


def test_hue_stays_close_to_torchvision_on_photographs(photographs) -> None:
    """The root mean square difference is well below the change that torchvision itself makes."""
    x = torch.stack([image[:, :150, :150] for image in photographs])
    unit = x.float() / 255
    for turn in (-0.2, -0.1, 0.1, 0.2):
        theirs = tv.adjust_hue(unit, turn)
        difference = (jitter(x, hue=turn) - theirs).pow(2).mean().sqrt()
        assert difference < 0.6 * (theirs - unit).pow(2).mean().sqrt()


def test_grey_is_that_of_torchvision_and_only_where_chosen(photographs) -> None:
    x = torch.stack([image[:, :100, :100] for image in photographs])
    ones, order = np.ones(4), np.tile(np.arange(4), (4, 1))
    colour = colour_jitter(ones, 0.5 * ones, ones, 0 * ones, order)
    jitters, greys = np.array([True, True, False, False]), np.array([True, False, True, False])
    ours = colour_normalise(x, colour.chosen(jitters, greys), *UNIT)
    unit = x.float() / 255
    for i in range(4):
        expected = tv.adjust_contrast(unit[i], 0.5) if jitters[i] else unit[i]
        expected = tv.rgb_to_grayscale(expected, 3) if greys[i] else expected
        torch.testing.assert_close(ours[i], expected, atol=5e-4, rtol=0)


def test_statistics_are_those_of_torchvision(photographs) -> None:
    x = torch.stack([image[:, :100, :100] for image in photographs])
    expected = tv.normalize(x.float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(normalise(x, MEAN, STD), expected, atol=1e-5, rtol=1e-5)
    identity = Colour(np.tile(np.eye(3), (4, 1, 1)), np.zeros((4, 3)))
    torch.testing.assert_close(colour_normalise(x, identity, MEAN, STD), expected, atol=1e-4, rtol=0)


def test_colours_are_clamped_to_the_range_of_an_image(photographs) -> None:
    x = photographs[0][None]
    ones = np.ones(1)
    bright = colour_jitter(1.8 * ones, ones, ones, 0 * ones, np.array([[0, 1, 2, 3]]))
    ours = colour_normalise(x, bright, MEAN, STD)
    expected = tv.normalize(tv.adjust_brightness(x.float() / 255, 1.8), list(MEAN), list(STD))
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "kernel"), [((96, 96), 9), ((32, 20), 3), ((224, 224), 23), ((5, 40), 9)])
def test_blur_is_that_of_torchvision(size, kernel: int) -> None:
    x = torch.rand(5, 3, *size, generator=torch.Generator().manual_seed(0))
    sigma = np.array([0.1, 0.5, 1.0, 1.7, 2.0])
    ours = gaussian_blur(x, sigma, kernel)
    for i in range(5):
        expected = tv.gaussian_blur(x[i].double(), [kernel, kernel], [float(sigma[i])] * 2)
        torch.testing.assert_close(ours[i].double(), expected, atol=2e-4, rtol=0)


def test_blur_of_images_smaller_than_the_kernel() -> None:
    x = torch.rand(2, 3, 1, 1)
    assert torch.equal(gaussian_blur(x, np.array([1.0, 2.0]), 9), x)
    flat = torch.full((1, 3, 2, 3), 0.25)
    torch.testing.assert_close(gaussian_blur(flat, np.array([2.0]), 9), flat)


def test_solarisation_is_that_of_torchvision(photographs) -> None:
    x = photographs[1]
    ours = solarise(normalise(x[None], MEAN, STD), MEAN, STD)
    expected = tv.normalize(tv.solarize(x, 128).float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(ours[0], expected, atol=1e-4, rtol=0)


def test_the_whole_jitter_stays_close_to_torchvision_with_its_clamps(photographs) -> None:
    """SimCLR's ranges, random orders: what one clamp and the linear hue alter is under a quarter of
    the root mean square change that torchvision makes, and brightness and spread stay the same."""
    rng = np.random.default_rng(5)
    count = 32
    x = torch.stack([photographs[i % 4][:, :120, :120] for i in range(count)])
    factors = [rng.uniform(0.2, 1.8, count) for _ in range(3)] + [rng.uniform(-0.2, 0.2, count)]
    order = rng.permuted(np.tile(np.arange(4), (count, 1)), axis=1)
    ours = colour_normalise(x, colour_jitter(*factors, order), *UNIT)
    steps = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]
    unit = theirs = x.float() / 255
    for position in range(4):
        theirs = torch.stack(
            [steps[op](theirs[i], float(factors[op][i])) for i, op in enumerate(order[:, position])]
        )
    difference, change = ((a - b).pow(2).mean().sqrt() for a, b in ((ours, theirs), (theirs, unit)))
    assert difference < 0.25 * change
    assert abs(ours.mean() - theirs.mean()) < 0.02
    assert abs(ours.std() / theirs.std() - 1) < 0.05
