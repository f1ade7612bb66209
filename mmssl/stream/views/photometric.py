"""How a view looks: colour, blur and solarisation of a whole batch, in as few passes over it as possible.

Every function takes float or uint8 tensors on any device and parameters with one row per image; the
parameters come from numpy (see ``Draws``) and are moved to the images' device.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the grey level (ITU-R BT.601, as in Pillow and torchvision)."""

_TURN = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
"""The cross product with the unit vector along the grey axis; a positive turn leads from red to green."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Colour:
    """N affine colour maps: pixel y = A x + (u · m) (1, 1, 1), where m is the image's mean colour.

    The second term is how contrast, which pulls towards the mean grey level, stays exact.
    """

    matrix: Floats
    """(N, 3, 3), A."""
    mean: Floats
    """(N, 3), u."""

    def rows(self, part: slice | NDArray[np.int64]) -> "Colour":
        return Colour(self.matrix[part], self.mean[part])

    def chosen(self, jitter: NDArray[np.bool_], grey: NDArray[np.bool_]) -> "Colour":
        """Keep the map where ``jitter`` (N,), the identity elsewhere; then grey where ``grey`` (N,)."""
        matrix = np.where(jitter[:, None, None], self.matrix, np.eye(3))
        mean = np.where(jitter[:, None], self.mean, 0.0)
        return Colour(np.where(grey[:, None, None], (LUMA @ matrix)[:, None, :], matrix), mean)


def colour_jitter(
    brightness: Floats, contrast: Floats, saturation: Floats, hue: Floats, order: NDArray[np.int64]
) -> Colour:
    """Fold brightness, contrast, saturation and hue, in each image's own order, into one affine map.

    The first three are torchvision's (multiply; blend with the mean grey level; blend with the grey image),
    without rounding and clamping in between: one clamp follows at the end. Hue is the rotation of the colour
    cube by 2π · hue about its grey axis: it turns the hue by the same angle as torchvision's shift in HSV
    (within 2 degrees), and keeps the mean of the three channels where HSV keeps their maximum.

    Args:
        brightness, contrast, saturation: (N,) factors, 1 = unchanged.
        hue: (N,) shares of the colour circle, 0 = unchanged.
        order: (N, 4) permutations; 0 brightness, 1 contrast, 2 saturation, 3 hue.
    """
    count = len(brightness)
    identity = np.eye(3)
    angle = 2 * math.pi * hue
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    rotation = cosine * identity + (1 - cosine) / 3 + sine * _TURN
    steps = np.stack(
        [
            brightness[:, None, None] * identity,
            contrast[:, None, None] * identity,
            saturation[:, None, None] * identity + (1 - saturation)[:, None, None] * LUMA,
            rotation,
        ],
        axis=1,
    )
    rows = np.arange(count)
    matrix = np.broadcast_to(identity, (count, 3, 3))
    mean = np.zeros((count, 3))
    for position in range(4):
        chosen = order[:, position]
        # The grey level that contrast pulls towards is that of the image as it is at this position. What it
        # adds is grey, and of the later steps only brightness changes a grey.
        pull = np.where(chosen == 1, 1 - contrast, 0.0)
        later = np.where(chosen == 0, brightness, 1.0)
        mean = later[:, None] * mean + pull[:, None] * (LUMA @ matrix)
        matrix = steps[rows, chosen] @ matrix
    return Colour(matrix, mean)


def colour_normalise(x: Tensor, colour: Colour, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Map the colours of uint8 images, clamp to the range of an image, normalise; all in one product.

    Args:
        x: (N, 3, H, W) uint8.
        mean, std: the encoder's statistics, for images in 0..1.

    Returns:
        (N, 3, H, W) float32: (clamp(colours, 0, 1) - mean) / std.
    """
    n, _, h, w = x.shape
    flat = x.flatten(2).float()
    spread = np.asarray(std)
    matrix = _like(colour.matrix / (255 * spread)[:, None], flat)
    pull = _like(colour.mean[:, None, :] / (255 * spread)[:, None], flat)
    bias = pull @ flat.mean(2, keepdim=True) - _like(np.asarray(mean) / spread, flat)[:, None]
    y = torch.baddbmm(bias, matrix, flat).view(n, 3, h, w)
    for c in range(3):
        y[:, c].clamp_(-mean[c] / std[c], (1 - mean[c]) / std[c])
    return y


def normalise(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(..., 3, H, W) uint8 → float32: (x / 255 - mean) / std."""
    y = x.float()
    spread = np.asarray(std)
    y.mul_(_like(1 / (255 * spread), y).view(3, 1, 1))
    return y.sub_(_like(np.asarray(mean) / spread, y).view(3, 1, 1))


def gaussian_blur(x: Tensor, sigma: Floats, kernel: int) -> Tensor:
    """Gaussian blur with each image's own σ; borders are reflected.

    Two one-dimensional passes, each a weighted sum of shifted images. Weights further than 4 of the largest
    σ are left out (their sum is below 1e-4, a fortieth of a grey level at most).

    Args:
        x: (N, 3, H, W) float.
        sigma: (N,) pixels, > 0.
        kernel: width of the kernel in pixels, odd.
    """
    radius = min(kernel // 2, math.ceil(4 * float(sigma.max()))) if len(sigma) else 0
    for axis in (3, 2):
        x = _blur_axis(x, sigma, min(radius, x.shape[axis] - 1), axis)
    return x


def _blur_axis(x: Tensor, sigma: Floats, radius: int, axis: int) -> Tensor:
    if radius < 1:
        return x
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    taps = _like(weights, x)[:, :, None, None, None].unbind(1)
    length = x.shape[axis]
    padded = F.pad(x, (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius), mode="reflect")
    y = padded.narrow(axis, 0, length) * taps[0]
    for offset in range(1, 2 * radius + 1):
        y.addcmul_(padded.narrow(axis, offset, length), taps[offset])
    return y


def solarise(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Invert the pixels of normalised images (N, 3, H, W) that are brighter than one half of the range."""
    spread = np.asarray(std)
    threshold = _like((0.5 - np.asarray(mean)) / spread, x).view(3, 1, 1)
    inverse = _like((1 - 2 * np.asarray(mean)) / spread, x).view(3, 1, 1) - x
    return torch.where(x >= threshold, inverse, x)


def _like(values: NDArray[np.float64], x: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(x.device, non_blocking=True)
