"""Surface normals from a depth map and the camera that took it.

On a plane n·P = d, seen by a pinhole camera at P = z·K⁻¹(x, y, 1)ᵀ, the inverse depth is affine in the
pixel: 1/z = (K⁻ᵀ n / d)·(x, y, 1). So around every pixel a plane is fitted to 1/z by least squares, and its
normal is Kᵀ times the coefficients. That is exact on planes of any tilt, and the noise of a structured-light
or stereo sensor is even in 1/z, which is what it measures (Khoshelham and Elberink, "Accuracy and Resolution
of Kinect Depth Data for Indoor Mapping Applications", Sensors 2012).
"""

import math

import numpy as np

from mmssl.errors import MmsslError

MAX_TILT = math.radians(80)
"""A neighbour that only a plane seen more edge-on than this could join to the pixel is of another surface."""

_REACH = 2
"""The fit sees (2·2 + 1)² pixels, ``step`` apart."""
_FEWEST = 5
"""Of these at least so many must be known and on the same surface."""


def normals_from_depth(depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 unit normals towards the camera; axes x right, y down, z forward.

    (0, 0, 0) where depth is missing or too few neighbours are on the same surface. Fitted to 5 × 5 pixels
    that are W / 320 pixels apart, at least one: maps of 640 pixels come from sensors that smooth over a few.

    Args:
        depth: (H, W) metres along the z axis; 0, negative, NaN or infinite = missing.
        intrinsics: (3, 3) pixels; the centres of pixels have integer coordinates, as everywhere here.

    Raises:
        MmsslError: not a map, or no intrinsics of a camera.
    """
    k = np.asarray(intrinsics, np.float64)
    if depth.ndim != 2:
        raise MmsslError(f"depth of shape {depth.shape}; expected (H, W)")
    if k.shape != (3, 3) or not np.isfinite(k).all() or not (k[0, 0] > 0 and k[1, 1] > 0):
        raise MmsslError(f"intrinsics {k.tolist()}; expected a finite 3×3 matrix with fx, fy > 0")
    slope_x, slope_y, q, known = _fit(depth, k)
    y, x = np.indices(depth.shape, dtype=np.float32)
    # q = a·x + b·y + c in whole-image pixels.
    c = q - slope_x * x - slope_y * y
    normal = -np.stack(
        [
            k[0, 0] * slope_x,
            k[0, 1] * slope_x + k[1, 1] * slope_y,
            k[0, 2] * slope_x + k[1, 2] * slope_y + c,
        ],
        axis=-1,
    )
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.where(known[..., None], normal / np.maximum(length, 1e-12), 0).astype(np.float32)


def _fit(depth: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The slopes of 1/z along x and y, its fitted value, and where a fit was possible; all (H, W)."""
    z = depth.astype(np.float32)
    there = np.isfinite(z) & (z > 0)
    q = np.divide(1, z, out=np.zeros_like(z), where=there)
    height, width = q.shape
    step = max(1, round(width / 320))
    padded = np.pad(q, _REACH * step)
    # Sums over the accepted neighbours: of 1, x, y, xx, xy, yy, and with d = q - q0: of d, xd, yd.
    sums = np.zeros((9, height, width), np.float32)
    for dy in range(-_REACH * step, _REACH * step + 1, step):
        for dx in range(-_REACH * step, _REACH * step + 1, step):
            top, left = _REACH * step + dy, _REACH * step + dx
            near = padded[top : top + height, left : left + width]
            d = near - q
            bound = math.tan(MAX_TILT) * math.hypot(dx / k[0, 0], dy / k[1, 1])
            accepted = ((near > 0) & (np.abs(d) <= (bound + 1e-6) * q)).astype(np.float32)
            d *= accepted
            for total, factor in zip(sums, (1, dx, dy, dx * dx, dx * dy, dy * dy), strict=False):
                if factor:
                    total += accepted if factor == 1 else factor * accepted
            for total, factor in zip(sums[6:], (1, dx, dy), strict=True):
                if factor:
                    total += d if factor == 1 else factor * d
    n, sx, sy, sxx, sxy, syy, sd, sxd, syd = sums
    n = np.maximum(n, 1)
    mx, my, md = sx / n, sy / n, sd / n
    cxx, cxy, cyy = sxx / n - mx * mx, sxy / n - mx * my, syy / n - my * my
    cxd, cyd = sxd / n - mx * md, syd / n - my * md
    determinant = cxx * cyy - cxy * cxy
    # Neighbours on one line leave the plane undetermined; five in a cross give 0.16 step⁴.
    known = there & (n >= _FEWEST) & (determinant > 0.05 * step**4)
    safe = np.where(known, determinant, 1)
    slope_x = (cyy * cxd - cxy * cyd) / safe
    slope_y = (cxx * cyd - cxy * cxd) / safe
    return slope_x, slope_y, q + md - slope_x * mx - slope_y * my, known
