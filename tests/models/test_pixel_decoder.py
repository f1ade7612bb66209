"""The decoder reaches every size from every grid, and every pixel depends on what lies below it."""

import pytest
import torch
from torch import nn

from mmssl.models.pixel_decoder import PixelDecoder


@pytest.mark.parametrize(
    ("grid", "size", "doublings"), [(2, 32, 4), (4, 4, 0), (3, 20, 3), (4, 3, 0), (7, 56, 3)]
)
def test_reaches_the_size_in_as_few_doublings_as_can_be(grid: int, size: int, doublings: int) -> None:
    decoder = PixelDecoder(8, grid, 5, size, 64)
    assert decoder(torch.randn(2, 8, grid, grid)).shape == (2, 5, size, size)
    assert sum(isinstance(layer, nn.Upsample) for layer in decoder.layers) == doublings
    assert grid * 2 ** max(doublings - 1, 0) < max(size, grid + 1)


def test_channels_halve_down_to_32() -> None:
    widths = [
        layer.out_channels for layer in PixelDecoder(16, 1, 3, 32, 128).layers if isinstance(layer, nn.Conv2d)
    ]
    assert widths == [128, 64, 32, 32, 32, 32, 3]
    narrow = [
        layer.out_channels for layer in PixelDecoder(16, 1, 3, 4, 8).layers if isinstance(layer, nn.Conv2d)
    ]
    assert narrow == [8, 8, 8, 3]  # what starts narrower than that stays as it is


def test_places_are_kept() -> None:
    torch.manual_seed(0)
    decoder = PixelDecoder(4, 8, 1, 32, 32).eval()
    features = torch.randn(1, 4, 8, 8)
    changed = features.clone()
    changed[..., 1, 6] += 1.0
    with torch.no_grad():
        difference = (decoder(features) - decoder(changed))[0, 0].abs()
    where = difference.nonzero()
    assert difference[4:8, 24:28].min() > 0  # the cell's own pixels
    # two convolutions reach one pixel of the coarser grid and one of the finer beyond the cell
    assert where.min(0).values.tolist() == [4 - 3, 24 - 3]
    assert where.max(0).values.tolist() == [7 + 3, 27 + 3]
