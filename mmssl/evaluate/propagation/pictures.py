"""Film strips of masks: what was found over the frames, with the contour of what is true."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmssl.evaluate.propagation.files import palette
from mmssl.evaluate.propagation.regions import contour
from mmssl.evaluate.propagation.task import Answers, Video

TILES, HEIGHT = 6, 112
"""Frames of a strip, and pixels of its height."""
_GAP, _LINE = 6, 14
_PAPER, _INK, _TRUE = (255, 255, 255), (40, 40, 40), (255, 255, 255)


@dataclass(frozen=True)
class Film:
    """Frames of one video side by side."""

    name: str
    picture: NDArray[np.uint8]
    """(HEIGHT, width, 3)."""


def film_of(video: Video, masks: Answers) -> Film:
    """Frames evenly spread over the video, what was found in colours, what is true in white."""
    numbers = np.linspace(0, len(masks) - 1, min(TILES, len(masks))).round().astype(int)
    height, width = video.size
    size = (max(1, round(width * HEIGHT / height)), HEIGHT)
    tiles = []
    for number in numbers.tolist():
        frame = video.frames[number].permute(1, 2, 0).numpy()
        found = masks[number]
        shown = np.where(found[..., None] > 0, frame * 0.45 + palette()[found] * 0.55, frame)
        picture = np.asarray(Image.fromarray(shown.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))
        true = np.asarray(Image.fromarray(video.truth[number]).resize(size, Image.Resampling.NEAREST))
        edges = np.any([contour(true == label) for label in range(1, video.labels)], axis=0)
        tiles.append(np.where(edges[..., None], np.array(_TRUE, np.uint8), picture))
    return Film(video.name, np.concatenate(tiles, axis=1))


def sheet(films: Sequence[Film]) -> bytes:
    """One PNG, a film a row with its name below."""
    width = max(film.picture.shape[1] for film in films) + 2 * _GAP
    row = HEIGHT + _LINE + _GAP
    page = Image.new("RGB", (width, len(films) * row + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for at, film in enumerate(films):
        page.paste(Image.fromarray(film.picture), (_GAP, _GAP + at * row))
        draw.text((_GAP, _GAP + at * row + HEIGHT + 1), film.name, _INK, ImageFont.load_default(10))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()
