"""What all sources of images with depth share: reading depth, checking its unit, writing the fields."""

import io
import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from pydantic import Field

from mmssl.config import Config
from mmssl.shards import encode
from mmssl.shards.normals import normals_from_depth
from mmssl.shards.sources.base import BadInput
from mmssl.shards.sources.files import Files
from mmssl.shards.sources.sequences import numbers

INVALID = 65535
"""What 7-Scenes writes where the sensor saw nothing; TUM and others write 0."""

PLAUSIBLE = (0.05, 50.0)
"""Metres between which the median of a depth map lies, if its unit is right."""

_SCALES = {
    1: "metres",
    100: "centimetres",
    256: "as KITTI",
    1000: "millimetres",
    5000: "as TUM RGB-D",
    10000: "tenths of a millimetre",
    1e6: "micrometres",
}
_TYPICAL = 2.0

Matrix = list[list[float]]


@dataclass(frozen=True)
class Depth:
    """A depth map that was read, and the bytes to store if they need no change."""

    metres: np.ndarray
    """(H, W) float32; 0 = missing."""
    png: bytes | None = None
    """16-bit millimetres, where the raw file is that already."""


def png_depth(data: bytes, scale: float) -> Depth:
    """A 16-bit PNG of ``scale`` units per metre; 0 and 65535 = missing.

    Raises:
        BadInput: not a whole 16-bit grey PNG, or its unit cannot be ``scale``; see ``check_range``.
    """
    raw = grey16(data)
    missing = (raw == 0) | (raw == INVALID)
    metres = np.where(missing, 0, raw.astype(np.float64) / scale)
    check_range(metres, scale)
    metres[metres > 65.535] = 0
    as_it_is = scale == 1000 and not (raw == INVALID).any()
    return Depth(metres.astype(np.float32), data if as_it_is else None)


def grey16(data: bytes) -> np.ndarray:
    """(H, W) uint16 of a PNG.

    Raises:
        BadInput: damaged, or of another kind.
    """
    try:
        # Pillow notices a truncated file; OpenCV fills what is missing with zeros.
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            mode, raw = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"depth is not a readable PNG ({error})") from error
    if not mode.startswith("I;16"):
        raise BadInput(f"depth has pixels of mode {mode}; expected 16-bit grey")
    return raw


def check_range(metres: np.ndarray, scale: float | None = None) -> None:
    """Refuse depth whose unit must be wrong.

    Args:
        metres: (H, W), 0 = missing.
        scale: the configured ``depth_scale``; None where the layout itself fixes the unit.

    Raises:
        BadInput: nothing is known, or the median of what is known is outside 0.05..50 m. The message names
            the ``depth_scale`` that would give a plausible median.
    """
    known = metres[metres > 0]
    if not known.size:
        raise BadInput("depth is missing everywhere: no pixel is above 0")
    median = float(np.median(known))
    low, high = PLAUSIBLE
    if low <= median <= high:
        return
    problem = f"depth of {median:.3g} m (median of the known pixels); expected {low:g}..{high:g} m"
    if scale is None:
        raise BadInput(f"{problem}: not the unit of this layout")
    fitting, unit = min(
        _SCALES.items(), key=lambda entry: abs(math.log(median * scale / entry[0] / _TYPICAL))
    )
    raise BadInput(
        f"{problem} with depth_scale {scale:g}: depth_scale {fitting:g} ({unit}) would give "
        f"{median * scale / fitting:.3g} m"
    )


class DepthOptions(Config):
    """What is stored of an image with depth, besides the two."""

    normals: bool = False
    """Store surface normals, computed from depth and intrinsics at full size."""
    short_side: int | None = Field(default=None, ge=16)
    """Reduce everything to this many pixels of the shorter side: images by their mean over areas, the maps to
    the nearest pixel, intrinsics with them. Normals of 640×480 take a megabyte, and are slow to read."""

    def image(self, column: str, data: bytes) -> tuple[str, bytes]:
        """Column and bytes of the image as it is stored; re-encoded only if it is reduced."""
        height, width = image_size(data)
        size = self.size(height, width)
        if size == (height, width):
            return column, data
        return "image.jpg", encode.jpeg(resize_image(data, size))

    def members(
        self,
        column: str,
        image: bytes,
        depth: Depth,
        intrinsics: Matrix | None,
        ids: np.ndarray | None = None,
    ) -> tuple[dict[str, bytes], Matrix | None]:
        """All fields of an image and its maps, which have one size, and the intrinsics of what is stored.

        Args:
            ids: (H, W) uint8 class ids, 255 = ignored; stored as ``segmentation``.

        Raises:
            BadInput: maps of another size than the image, or normals without intrinsics.
        """
        height, width = image_size(image)
        refuse_unequal((height, width), depth.metres.shape, "depth")
        size = self.size(height, width)
        stored_column, stored = self.image(column, image)
        whole = size == (height, width)
        png = depth.png if whole else None
        members = {
            stored_column: stored,
            "depth.png": png or encode.depth_png(nearest(depth.metres, size)),
        }
        if self.normals:
            if intrinsics is None:
                raise BadInput(
                    "normals need the camera; expected its file, or source.intrinsics: [fx, fy, cx, cy]"
                )
            normals = normals_from_depth(depth.metres, np.array(intrinsics))
            members["normals.png"] = encode.normals_png(nearest(normals, size))
        if ids is not None:
            refuse_unequal((height, width), ids.shape, "labels")
            members["segmentation.png"] = encode.segmentation_png(nearest(ids, size))
        return members, scaled(intrinsics, (height, width), size)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what is stored."""
        scale = min(1.0, (self.short_side or min(height, width)) / min(height, width))
        return round(height * scale), round(width * scale)

    def cost(self, image: int, depth: int) -> int:
        """Bytes in a shard, roughly, from those of the raw files; decides where shards are cut."""
        # Three components of 16 bits, of which only the highest compress.
        return image + depth * (10 if self.normals else 1)


def nearest(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, …) to (h, w, …): the pixel that holds each new centre; nothing is mixed across edges."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, pixels.shape[:2], strict=True)
    )
    return pixels[rows[:, None], columns] if pixels.shape[:2] != size else pixels


def scaled(intrinsics: Matrix | None, old: tuple[int, int], new: tuple[int, int]) -> Matrix | None:
    """Intrinsics after resizing from (height, width) ``old``; centres of pixels have integer coordinates."""
    if intrinsics is None or old == new:
        return intrinsics
    y, x = new[0] / old[0], new[1] / old[1]
    (fx, skew, cx), (_, fy, cy), _ = intrinsics
    return [[fx * x, skew * x, (cx + 0.5) * x - 0.5], [0.0, fy * y, (cy + 0.5) * y - 0.5], [0.0, 0.0, 1.0]]


def resize_image(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8 of an encoded image that was checked already: means over areas."""
    return np.asarray(cv2.resize(pixels_of(data), size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def pixels_of(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 sRGB of an encoded image.

    Raises:
        BadInput: damaged.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"not a readable image ({error})") from error


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) of an image that ``image_member`` has accepted, from its header."""
    with Image.open(io.BytesIO(data)) as image:
        return image.height, image.width


def refuse_unequal(image: tuple[int, int], other: tuple[int, ...], what: str) -> None:
    """Raise BadInput unless two (height, width) are the same."""
    if image != other:
        raise BadInput(
            f"{what} of {other[1]}×{other[0]} pixels, image of {image[1]}×{image[0]}; expected equal sizes, "
            "each pixel the same ray"
        )


def camera_matrix(values: tuple[float, float, float, float]) -> Matrix:
    """The 3×3 matrix of fx, fy, cx, cy."""
    fx, fy, cx, cy = values
    return [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]


def matrix(tree: Files, path: str, size: int) -> Matrix:
    """A square matrix from a text file, one row a line.

    Raises:
        BadInput: missing, of another shape, or not finite.
    """
    rows = numbers(tree.read(path).decode("utf-8", "replace"), path)
    if [len(row) for row in rows] != [size] * size or not np.isfinite(rows).all():
        raise BadInput(f"{path}: expected a {size}×{size} matrix")
    return rows
