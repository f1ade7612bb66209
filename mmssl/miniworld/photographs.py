"""The photographs that texture the world, cut so that no two splits share a pixel of them.

A texture class is one photograph; each split has its own columns of it. A patch keeps its luminance
pattern and loses its colours: it is painted with two random ones, so colour says nothing about the class.
"""

from functools import cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from mmssl.miniworld.vocabulary import BACKGROUNDS, SHAPES, TEXTURES

Pixels = NDArray[np.uint8]

COLUMNS: dict[str, tuple[float, float]] = {"train": (0.0, 0.5), "val": (0.5, 0.75), "test": (0.75, 1.0)}
"""Split → the columns of every texture's photograph that belong to it, as shares of the width."""

MARGIN = 1.1
"""A sprite covers -MARGIN..MARGIN of the object's plane, so that the shape's edge is never at its border."""


@cache
def photograph(file: str) -> Pixels:
    """A photograph from scikit-image's wheel: (H, W, 3) uint8 sRGB, read-only."""
    with (files("skimage") / "data" / file).open("rb") as stream, Image.open(stream) as image:
        pixels = np.asarray(image.convert("RGB")).copy()
    pixels.flags.writeable = False
    return pixels


@cache
def texture_region(texture: str, split: str) -> Pixels:
    """The part of a texture's photograph that belongs to ``split``: (H, W) uint8 luminance."""
    grey = cv2.cvtColor(photograph(TEXTURES[texture][0]), cv2.COLOR_RGB2GRAY)
    first, last = (round(share * grey.shape[1]) for share in COLUMNS[split])
    return np.ascontiguousarray(grey[:, first:last])


@cache
def _background_at(file: str, short_side: int) -> Pixels:
    pixels = photograph(file)
    scale = short_side / min(pixels.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=how))


def draw_background(rng: Generator, split: str, short_side: int) -> Pixels:
    """One of the split's photographs in varied light, perhaps mirrored: (H, W, 3) uint8 sRGB.

    The shorter side has ``short_side`` pixels, which the renderer matches to its own sampling, so that a
    background neither flickers nor blurs. Its colours stay muted and near the photograph's own: were every
    clip's background unique, instance discrimination would have no reason to look at the object.
    """
    names = BACKGROUNDS[split]
    pixels = _background_at(names[rng.integers(len(names))], short_side)
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hue = (np.arange(256) + rng.integers(-8, 9)) % 180
    saturation = np.arange(256) * rng.uniform(0.3, 0.7)
    value = 255 * (np.arange(256) / 255) ** rng.uniform(0.8, 1.3) * rng.uniform(0.7, 0.95)
    table = np.stack([hue, saturation, value], axis=-1).round().astype(np.uint8)
    turned = cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB)
    return np.ascontiguousarray(turned[:, ::-1]) if rng.integers(2) else np.asarray(turned)


def soften(picture: Pixels, blur: float, haze: float) -> Pixels:
    """Blur (standard deviation in pixels) and pull colours towards their mean (0 = not at all, 1 = fully)."""
    if blur > 0:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blur))
    if haze > 0:
        mean = picture.mean(axis=(0, 1))
        picture = (picture + haze * (mean - picture)).round().astype(np.uint8)
    return picture


@cache
def _alpha(shape: str, side: int) -> Pixels:
    """Coverage of each sprite pixel by the shape: (side, side) uint8, from 8 × 8 points a pixel."""
    line = ((np.arange(side * 8, dtype=np.float32) + 0.5) / (side * 8) * 2 - 1) * np.float32(MARGIN)
    inside = SHAPES[shape](*np.meshgrid(line, line)).astype(np.float32)
    return (
        np.asarray(cv2.resize(inside * 255, (side, side), interpolation=cv2.INTER_AREA))
        .round()
        .astype(np.uint8)
    )


def draw_sprite(rng: Generator, split: str, shape: str, texture: str, side: int) -> Pixels:
    """A textured shape: (side, side, 4) uint8 sRGB with premultiplied coverage as the fourth channel."""
    region = texture_region(texture, split)
    widest = photograph(TEXTURES[texture][0]).shape[1] // 4  # the narrowest split's width: same scale in all
    crop = min(int(widest * rng.uniform(0.75, 1.0)), *region.shape)
    top, left = (int(rng.integers(room - crop + 1)) for room in region.shape)
    patch = np.rot90(region[top : top + crop, left : left + crop], int(rng.integers(4)))
    patch = cv2.resize(np.ascontiguousarray(patch), (side, side), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    contrast = np.clip((patch - patch.mean()) / (patch.std() + 1e-3) / 4 + 0.5, 0, 1)[..., None]
    hue = rng.uniform(0, 180)
    other = hue + rng.uniform(30, 90) * rng.choice([-1, 1])
    dark = _colour(hue, rng.uniform(0.5, 0.9), rng.uniform(0.1, 0.35))
    light = _colour(other, rng.uniform(0.15, 0.7), rng.uniform(0.85, 1.0))
    alpha = _alpha(shape, side)[..., None]
    colour = (dark + contrast * (light - dark)) * (alpha / np.float32(255))
    return np.concatenate([colour.round().astype(np.uint8), alpha], axis=-1)


def _colour(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    """Hue in OpenCV's half degrees, saturation and value in 0..1, to RGB (3,) float32 0..255."""
    hsv = np.array([[[hue % 180 * 2, saturation, value]]], np.float32)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))[0, 0] * np.float32(255)
