"""Input, truth and prediction below one another, for the report."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmssl.files import write_bytes
from mmssl.pictures import depth_picture, normals_picture, segmentation_picture, sight_picture
from mmssl.stream.views.shown import Shown

TILE = 112
"""Pixels of a tile's side; whole pictures that are no squares are shown as the square the encoder sees."""
_GAP, _MARGIN = 4, 68
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class Compared:
    """One sample."""

    seen: Mapping[str, Tensor]
    """Name of an encoder to what it was shown, (C, S, S) normalised."""
    truth: Tensor
    """(C, H, W) as it is stored."""
    predicted: Tensor
    """(C, H, W) likewise."""


def write_pictures(
    folder: Path | None, name: str, shown: Mapping[str, Shown], modality: str, samples: Sequence[Compared]
) -> None:
    """Write ``folder/pictures/NAME.png``, a sample a column; nothing without a folder or samples."""
    if folder is None or not samples:
        return
    rows = [*(f"{one} sees" if len(shown) > 1 else "input" for one in shown), "truth", "prediction"]
    step = TILE + _GAP
    page = Image.new("RGB", (_MARGIN + len(samples) * step, _GAP + len(rows) * step), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(10)
    for row, words in enumerate(rows):
        draw.text((_GAP, _GAP + row * step + TILE // 2 - 6), words, _INK, font)
    for column, sample in enumerate(samples):
        inputs = [sight_picture(sight, sample.seen[one][None])[0] for one, sight in shown.items()]
        tiles = [
            *(picture.mul(255).round().to(torch.uint8) for picture in inputs),
            *_coloured(modality, sample),
        ]
        for row, tile in enumerate(tiles):
            picture = Image.fromarray(np.ascontiguousarray(tile.permute(1, 2, 0).numpy()))
            kernel = Image.Resampling.BILINEAR if row < len(inputs) else Image.Resampling.NEAREST
            page.paste(picture.resize((TILE, TILE), kernel), (_MARGIN + column * step, _GAP + row * step))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    write_bytes(folder / "pictures" / f"{name}.png", buffer.getvalue())


def _coloured(modality: str, sample: Compared) -> tuple[Tensor, ...]:
    """Truth and prediction (3, H, W) uint8, on one scale."""
    paint = {"depth": depth_picture, "normals": normals_picture, "segmentation": segmentation_picture}
    both = paint[modality](torch.cat([sample.truth, sample.predicted], dim=2))
    return both.split(sample.truth.shape[2], dim=2)
