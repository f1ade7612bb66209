"""Film strips of tracked sequences: truth and boxes drawn on frames that are spread over the sequence."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.tracking.boxes import Boxes, iou

TRUTH = (0, 158, 115)
COLOURS = ((213, 94, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 114, 178), (230, 159, 0))
"""Of the trackers in turn; with the truth's green they are told apart by colour-blind eyes too (Okabe and
Ito)."""
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_GAP, _TEXT = 4, 15


def film(sequence: Sequence, boxes: Mapping[str, Boxes], frames: int = 6, width: int = 176) -> bytes:
    """One PNG: ``frames`` frames side by side, each ``width`` pixels wide, and what the colours mean.

    Args:
        boxes: tracker to (T, 4); the first tracker's overlap stands below each frame. NaN is not drawn.
    """
    numbers = np.unique(np.linspace(0, len(sequence) - 1, frames).round().astype(np.int64))
    first = next(iter(boxes.values()), sequence.truth)
    overlaps = iou(first, sequence.truth)
    tiles = []
    for number in numbers.tolist():
        words = f"{number}" if np.isnan(overlaps[number]) else f"{number} · IoU {overlaps[number]:.2f}"
        drawn = {"truth": sequence.truth[number]} | {name: its[number] for name, its in boxes.items()}
        tiles.append(_tile(sequence, number, drawn, width, words))
    height = max(tile.height for tile in tiles)
    page = Image.new("RGB", (len(tiles) * (width + _GAP) + _GAP, height + _TEXT + 2 * _GAP), _PAPER)
    for column, tile in enumerate(tiles):
        page.paste(tile, (_GAP + column * (width + _GAP), _GAP))
    _legend(page, sequence.name, ["truth", *boxes], height + _GAP)
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _tile(sequence: Sequence, number: int, boxes: Mapping[str, Boxes], width: int, words: str) -> Image.Image:
    frame = Image.fromarray(np.ascontiguousarray(sequence.frames[number].permute(1, 2, 0).numpy()))
    scale = width / frame.width
    picture = frame.resize((width, max(1, round(frame.height * scale))), Image.Resampling.BOX)
    draw = ImageDraw.Draw(picture)
    for colour, box in zip((TRUTH, *_colours(len(boxes) - 1)), boxes.values(), strict=True):
        if np.isfinite(box).all() and (box[2:] > 0).all():
            left, top, right, bottom = (np.concatenate([box[:2], box[:2] + box[2:]]) * scale).tolist()
            corner = (max(left, right - 1), max(top, bottom - 1))
            draw.rectangle(((left, top), corner), outline=colour, width=2)
    tile = Image.new("RGB", (width, picture.height + _TEXT), _PAPER)
    tile.paste(picture, (0, 0))
    ImageDraw.Draw(tile).text((1, picture.height + 1), words, _INK, ImageFont.load_default(10))
    return tile


def _legend(page: Image.Image, name: str, entries: list[str], y: int) -> None:
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    draw.text((_GAP, y), name, _INK, font)
    x = 2.0 * _GAP + draw.textlength(name, font) + 8
    for entry, colour in zip(entries, (TRUTH, *_colours(len(entries) - 1)), strict=True):
        draw.rectangle((x, y + 3, x + 9, y + 11), fill=colour)
        draw.text((x + 13, y), entry, _INK, font)
        x += 13 + draw.textlength(entry, font) + 10


def _colours(count: int) -> list[tuple[int, int, int]]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]
