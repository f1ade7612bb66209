"""Pages for the report: what is taken for what, and which pictures are like which words."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAPER, INK, SOFT = (255, 255, 255), (40, 40, 40), (120, 120, 120)
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)
"""Blue and vermilion, which nobody confuses."""
GAP = 8
_CELL, _WIDEST, _NUMBERS = 30, 640, 24
"""Pixels of a cell, of a matrix without names, and the most classes whose cells bear names and numbers."""


def font(size: int = 11) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def png(page: Image.Image) -> bytes:
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def heat(values: Tensor, low: float, high: float) -> np.ndarray:
    """(rows, columns) → (rows, columns, 3) uint8, white = ``low`` to blue = ``high``."""
    share = ((values.double() - low) / max(high - low, 1e-12)).nan_to_num().clamp(0, 1).numpy()[..., None]
    return np.rint((1 - share) * np.array(PAPER) + share * np.array(RIGHT)).astype(np.uint8)


def cells(values: Tensor, low: float, high: float, cell: int) -> Image.Image:
    """A matrix as squares of ``cell`` pixels."""
    coloured = heat(values, low, high).repeat(cell, axis=0).repeat(cell, axis=1)
    return Image.fromarray(np.ascontiguousarray(coloured))


def confusion_picture(confusion: Tensor, words: Sequence[str]) -> bytes:
    """PNG: of the samples of each class (row), the share that is taken for each class (column), in %."""
    percent = 100 * confusion.double() / confusion.sum(dim=1, keepdim=True).clamp_min(1)
    if len(words) > _NUMBERS:
        return _unnamed(percent)
    names = [shortened(word, 190) for word in words]
    margin = int(max(font().getlength(name) for name in names)) + 2 * GAP
    side, foot = _CELL * len(words), 22
    page = Image.new("RGB", (margin + side + GAP, margin + side + foot), PAPER)
    page.paste(cells(percent, 0, 100, _CELL), (margin, margin))
    draw = ImageDraw.Draw(page)
    draw.rectangle((margin - 1, margin - 1, margin + side, margin + side), outline=SOFT)
    for number, name in enumerate(names):
        middle = margin + number * _CELL + _CELL // 2
        draw.text((margin - GAP, middle), name, INK, font(), anchor="rm")
        upright = Image.new("RGB", (margin - GAP, 14), PAPER)
        ImageDraw.Draw(upright).text((0, 7), name, INK, font(), anchor="lm")
        page.paste(upright.rotate(90, expand=True), (middle - 7, 0))
    for row, values in enumerate(percent.tolist()):
        for column, value in enumerate(values):
            at = (margin + column * _CELL + _CELL // 2, margin + row * _CELL + _CELL // 2)
            if round(value):
                draw.text(at, f"{value:.0f}", PAPER if value > 55 else INK, font(), anchor="mm")
    draw.text((margin, margin + side + 5), "% of a row's class taken for a column's", SOFT, font())
    return png(page)


def _unnamed(percent: Tensor) -> bytes:
    cell = max(1, _WIDEST // len(percent))
    matrix = cells(percent, 0, 100, cell)
    page = Image.new("RGB", (matrix.width + 2 * GAP, matrix.height + GAP + 22), PAPER)
    page.paste(matrix, (GAP, GAP))
    about = (
        f"{len(percent)} classes in their order; white 0 to blue 100 % of a row's class taken for a column's"
    )
    ImageDraw.Draw(page).text((GAP, matrix.height + GAP + 5), about, SOFT, font())
    return png(page)


def shortened(text: str, width: int, size: int = 11) -> str:
    """As much of ``text`` as fits ``width`` pixels, with … where it goes on."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def wrapped(text: str, width: int, lines: int, size: int = 11) -> list[str]:
    """``text`` in at most so many lines of ``width`` pixels, the last one shortened where there is more."""
    found: list[str] = []
    words = text.split()
    while words and len(found) < lines - 1:
        taken = 1
        while taken < len(words) and font(size).getlength(" ".join(words[: taken + 1])) <= width:
            taken += 1
        found.append(shortened(" ".join(words[:taken]), width, size))
        words = words[taken:]
    return [*found, shortened(" ".join(words), width, size)] if words else found
