"""Colour spaces against skimage and closed forms, over all of sRGB."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab, rgb2ycbcr

from mmssl.sights import SIGHTS
from mmssl.stream.views.colour_spaces import colours

SPACES = [name for name, sight in SIGHTS.items() if sight.modality == "image"]


@pytest.fixture(scope="module")
def every_colour() -> torch.Tensor:
    """(2, 3, 136, 136) uint8: every eighth level and the last of each channel, and the darkest corner."""
    levels = np.append(np.arange(0, 256, 8), 255)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij")).reshape(3, -1)
    dark = np.stack(np.meshgrid(*[np.arange(0, 10)] * 3, indexing="ij")).reshape(3, -1)
    pixels = np.concatenate([grid, dark], axis=1)
    pixels = np.pad(pixels, ((0, 0), (0, 2 * 136**2 - pixels.shape[1])), mode="edge").astype(np.uint8)
    return torch.from_numpy(pixels.reshape(3, 2, 136, 136).transpose(1, 0, 2, 3).copy())


def as_last(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).double().numpy()


def test_lab_is_that_of_skimage(every_colour) -> None:
    wanted = rgb2lab(as_last(every_colour) / 255)
    # skimage rounds the white point and the matrix to other digits: white itself is off by 0.01 there.
    assert np.abs(as_last(colours("L", every_colour)) - wanted[..., :1]).max() < 0.01
    assert np.abs(as_last(colours("ab", every_colour)) - wanted[..., 1:]).max() < 0.03


def test_luma_and_its_differences_are_those_of_skimage(every_colour) -> None:
    """skimage gives 8-bit numbers: 219 levels of luma from 16, 224 of the differences around 128."""
    wanted = rgb2ycbcr(as_last(every_colour) / 255)
    assert np.abs(as_last(colours("Y", every_colour)) * 219 + 16 - wanted[..., :1]).max() < 2e-3
    assert np.abs(as_last(colours("CbCr", every_colour)) * 224 + 128 - wanted[..., 1:]).max() < 2e-2


def test_opponent_colours_turn_the_cube(every_colour) -> None:
    """An orthogonal map: lengths stay, and the intensity is the distance along the grey axis."""
    turned = torch.cat([colours("O12", every_colour), colours("O3", every_colour)], 1)
    rgb = every_colour.float() / 255
    torch.testing.assert_close(turned.norm(dim=1), rgb.norm(dim=1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned[:, 2], rgb.sum(1) / math.sqrt(3), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned[:, 0], (rgb[:, 0] - rgb[:, 1]) / math.sqrt(2), atol=1e-5, rtol=1e-5)


def test_greys_have_no_colour_and_white_is_full() -> None:
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for name in ("ab", "CbCr", "O12"):
        assert colours(name, grey).abs().max() < 1e-4
    for name, white in (("L", 100), ("Y", 1), ("O3", math.sqrt(3))):
        ladder = colours(name, grey).flatten()
        assert (ladder.diff() > 0).all()
        assert ladder[0] == pytest.approx(0, abs=1e-5)
        assert ladder[-1] == pytest.approx(white, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("rgb", 0, 1),
        ("L", 0, 100),
        ("ab", -110, 110),
        ("Y", 0, 1),
        ("CbCr", -0.5, 0.5),
        ("O3", 0, math.sqrt(3)),
    ],
)
def test_ranges_are_those_of_the_vocabulary(name: str, low: float, high: float, every_colour) -> None:
    found = colours(name, every_colour)
    slack = 1e-4 * (high - low)
    assert found.min() > low - slack
    assert found.max() < high + slack
    assert found.shape[1] == SIGHTS[name].channels


@pytest.mark.parametrize("name", SPACES)
def test_pixels_do_not_depend_on_their_neighbours_and_the_input_stays(name: str, every_colour) -> None:
    before = every_colour.clone()
    whole = colours(name, every_colour)
    assert whole.dtype == torch.float32
    assert whole.is_contiguous()
    assert torch.equal(every_colour, before)
    torch.testing.assert_close(colours(name, every_colour[1:, :, 5:9, 7:8]), whole[1:, :, 5:9, 7:8])
