"""What all sources of images with depth share: reading depth, checking its unit, writing the fields."""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

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

NORMALS_COST = 8
"""What normals take in a shard, in sizes of the raw depth map; decides where shards are cut, nothing else."""

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
        scale: the configured ``depth_scale``; None where the layout itself says that the unit is metres.

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
        raise BadInput(f"{problem}: the file's unit is not metres")
    fitting, unit = min(
        _SCALES.items(), key=lambda entry: abs(math.log(median * scale / entry[0] / _TYPICAL))
    )
    raise BadInput(
        f"{problem} with depth_scale {scale:g}: depth_scale {fitting:g} ({unit}) would give "
        f"{median * scale / fitting:.3g} m"
    )


def depth_members(depth: Depth, intrinsics: Matrix | None, normals: bool) -> dict[str, bytes]:
    """``depth.png``, and ``normals.png`` if asked for.

    Raises:
        BadInput: normals without intrinsics.
    """
    members = {"depth.png": depth.png or encode.depth_png(depth.metres)}
    if normals:
        if intrinsics is None:
            raise BadInput(
                "normals need the camera; expected a file of it, or source.intrinsics: [fx, fy, cx, cy]"
            )
        members["normals.png"] = encode.normals_png(normals_from_depth(depth.metres, np.array(intrinsics)))
    return members


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) of an image that ``image_member`` has accepted, from its header."""
    with Image.open(io.BytesIO(data)) as image:
        return image.height, image.width


def refuse_unequal(image: tuple[int, int], other: tuple[int, int], what: str) -> None:
    """Raise BadInput unless two (height, width) are the same."""
    if image != other:
        raise BadInput(
            f"{what} of {other[1]}×{other[0]} pixels, image of {image[1]}×{image[0]}; expected equal sizes, "
            "each pixel the same ray"
        )


def camera(values: tuple[float, float, float, float]) -> Matrix:
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
