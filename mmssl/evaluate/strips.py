"""Film strips: a few frames of a video side by side, named, and marked as right or wrong."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP, _BORDER, _LINE = 8, 3, 14
"""Pixels between strips, of a strip's frame, and of its caption."""
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_COLOUR = {None: (90, 90, 90), True: (0, 114, 178), False: (213, 94, 0)}
"""Of the frame around a query, a right match and a wrong one: blue and vermilion, which nobody confuses."""
_MARK = {None: "query: ", True: "hit: ", False: "miss: "}


@dataclass(frozen=True)
class Strip:
    """The frames of one video, and what is said about it."""

    frames: Tensor
    """(T, 3, H, W) float32 in 0..1."""
    caption: str
    right: bool | None = None
    """Whether it is a right match; None for a query."""


def sheet(rows: Sequence[Sequence[Strip]]) -> bytes:
    """One PNG: a row of strips for each query, which comes first, then its matches."""
    pictures = [[_picture(strip) for strip in row] for row in rows]
    width, height = pictures[0][0].size
    columns = max(len(row) for row in pictures)
    page = Image.new("RGB", (columns * (width + _GAP) + _GAP, len(rows) * (height + _GAP) + _GAP), _PAPER)
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            page.paste(picture, (_GAP + x * (width + _GAP), _GAP + y * (height + _GAP)))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _picture(strip: Strip) -> Image.Image:
    frames = strip.frames.mul(255).round().byte().permute(2, 0, 3, 1).flatten(1, 2)  # (H, T · W, 3)
    film = Image.fromarray(np.ascontiguousarray(frames.numpy()))
    size = (film.width + 2 * _BORDER, film.height + 2 * _BORDER + _LINE)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, size[0] - 1, film.height + 2 * _BORDER - 1), fill=_COLOUR[strip.right])
    picture.paste(film, (_BORDER, _BORDER))
    text = _MARK[strip.right] + strip.caption
    draw.text((_BORDER, film.height + 2 * _BORDER + 1), text, _INK, ImageFont.load_default(10))
    return picture
