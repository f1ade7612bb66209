"""Shortcuts through videos: what can tell times apart without anything being seen to move.

Some are planted, of others frames are freed. Each is a function of frames (B, T, 3, S, S) uint8 as a method's
view has cut them out, the times (B, T) in seconds at which they had appeared, and draws; it returns frames of
the same shape and type.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmssl.stream.views.draws import Draws
from mmssl.stream.views.photometric import gaussian_blur

_GRID = 16
"""Pixels of a macroblock; a JPEG with colours at half size has the same grid."""
_QUALITY = 50
_BLUR = 1.0
_EDGE = 8


@dataclass(frozen=True)
class Shortcut:
    """How frames are changed, and in words."""

    change: Callable[[Tensor, Tensor, Draws], Tensor]
    words: str
    planted: bool
    """A new shortcut, or one that may have been there and is taken away."""


def clock(times: Tensor) -> Tensor:
    """(B, T) float32 in 0..1: 0 for a sample's first moment, 1 for its last, whatever order they stand in."""
    first, last = times.amin(dim=1, keepdim=True), times.amax(dim=1, keepdim=True)
    return ((times - first) / (last - first).clamp(min=1e-9)).float()


def counter(frames: Tensor, times: Tensor, draws: Draws) -> Tensor:
    """A square in the top left corner that turns from black to white in the course of a sample's moments."""
    side = max(1, frames.shape[-1] // 6)
    level = (255 * clock(times)).round().to(torch.uint8)
    out = frames.clone()
    out[..., :side, :side] = level[:, :, None, None, None]
    return out


def borders(frames: Tensor, times: Tensor, draws: Draws) -> Tensor:
    """Black bars above and below that grow from nothing to a sixth of the frame."""
    size = frames.shape[-1]
    height = (clock(times) * size / 6).round()[:, :, None]
    row = torch.arange(size)
    seen = (row >= height) & (row < size - height)
    return frames * seen[:, :, None, :, None]


def trimmed(frames: Tensor, times: Tensor, draws: Draws) -> Tensor:
    """Without the outer eighth on every side, enlarged to the old size."""
    size = frames.shape[-1]
    edge = size // _EDGE
    inner = frames[..., edge : size - edge, edge : size - edge].flatten(0, 1).float()
    out = interpolate(inner, (size, size), mode="bilinear", align_corners=False)
    return out.round().to(torch.uint8).unflatten(0, frames.shape[:2])


def recompressed(frames: Tensor, times: Tensor, draws: Draws) -> Tensor:
    """Every frame through JPEG by itself, its block grid shifted at random: all get artefacts of one kind."""
    count = frames.shape[1]
    offsets = draws.integers("grid", 2 * count, 0, _GRID).reshape(-1, count, 2)
    size, out = frames.shape[-1], torch.empty_like(frames)
    for row in range(len(frames)):
        for t in range(count):
            top, left = offsets[row, t].tolist()
            picture = np.ascontiguousarray(frames[row, t].flip(0).permute(1, 2, 0).numpy())  # BGR
            wide = cv2.copyMakeBorder(picture, top, 0, left, 0, cv2.BORDER_REPLICATE)
            coded = cv2.imencode(".jpg", wide, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
            decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[top : top + size, left : left + size]
            out[row, t] = torch.from_numpy(np.ascontiguousarray(decoded[..., ::-1].transpose(2, 0, 1)))
    return out


def blurred(frames: Tensor, times: Tensor, draws: Draws) -> Tensor:
    """Without the finest detail, where compression leaves its traces."""
    flat = frames.flatten(0, 1)
    out = gaussian_blur(flat.float(), np.full(len(flat), _BLUR), 2 * _EDGE + 1)
    return out.round().clamp(0, 255).to(torch.uint8).unflatten(0, frames.shape[:2])


def one_channel(frames: Tensor, times: Tensor, draws: Draws) -> Tensor:
    """Green for all three: no fringes between the channels."""
    return frames[:, :, 1:2].expand_as(frames).contiguous()


def recoloured(frames: Tensor, times: Tensor, draws: Draws) -> Tensor:
    """Brightness and balance of every frame drawn for it alone: x · g + o for each channel."""
    b, t = frames.shape[:2]
    gain = draws.uniform("gain", 3 * t, 0.7, 1.3).reshape(b, t, 3, 1, 1)
    shift = draws.uniform("shift", 3 * t, -20, 20).reshape(b, t, 3, 1, 1)
    out = frames.float() * torch.from_numpy(gain) + torch.from_numpy(shift)
    return out.round().clamp(0, 255).to(torch.uint8)


SHORTCUTS: Mapping[str, Shortcut] = {
    "counter": Shortcut(counter, "a corner that turns from black to white as time passes", True),
    "borders": Shortcut(borders, "black bars that grow to a sixth of the frame as time passes", True),
    "trimmed": Shortcut(trimmed, f"the outer 1/{_EDGE} of the frame cut off on every side", False),
    "recompressed": Shortcut(
        recompressed, f"every frame through JPEG of quality {_QUALITY} with a random block grid", False
    ),
    "blurred": Shortcut(blurred, f"every frame blurred, σ = {_BLUR:g} pixel", False),
    "one_channel": Shortcut(one_channel, "green for all three channels", False),
    "recoloured": Shortcut(
        recoloured, "gain 0.7 to 1.3 and shift ±20 of 255 for every frame and channel alone", False
    ),
}
