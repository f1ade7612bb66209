"""Search windows cut out of frames: many windows, of many sizes, to one square size."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from mmssl.stream.views.crops import warp
from mmssl.tracking.boxes import Boxes, centres


def cut_out(frames: Sequence[Tensor], windows: Boxes, size: int) -> Tensor:
    """(B · n, 3, size, size) uint8 in channels-last memory, on the frames' device: of each frame n windows.

    Bilinear, without smoothing before, as the papers' code samples. A window may reach beyond its frame or
    lie outside: the pixels at the border go on for ever. OpenCV cuts on the CPU (0.1 ms a window of 125²; a
    batched grid-sample takes several times that), grid-sample on an accelerator; they agree to rounding.

    Args:
        frames: B frames (3, H, W) uint8, of any sizes.
        windows: (B, n, 4) as all boxes; their edges are the outer edges of the crops' first and last pixels.
    """
    if not frames or frames[0].device.type == "cpu":
        return _with_opencv(frames, windows, size)
    return torch.cat(
        [_with_grid_sample(frame, own, size) for frame, own in zip(frames, windows, strict=True)]
    )


def _with_opencv(frames: Sequence[Tensor], windows: Boxes, size: int) -> Tensor:
    count = windows.shape[1]
    crops = np.empty((len(frames) * count, size, size, 3), np.uint8)
    middles = centres(windows)
    for i, frame in enumerate(frames):
        pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
        for j in range(count):
            warp(pixels, middles[i, j], windows[i, j, 2:], size, out=crops[i * count + j])
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def _with_grid_sample(frame: Tensor, windows: Boxes, size: int) -> Tensor:
    """The crops of one frame; places are worked out in double precision, like OpenCV's."""
    extent = np.array([frame.shape[2], frame.shape[1]])
    places = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.moveaxis(centres(windows)[:, None] + places[:, None] * windows[:, None, 2:], 2, 0)  # (n, size)
    x, y = ((2 * at + 1) / length - 1 for at, length in zip((x, y), extent, strict=True))
    shape = (len(windows), size, size)
    grid = np.stack([np.broadcast_to(x[:, None], shape), np.broadcast_to(y[:, :, None], shape)], axis=-1)
    crops = grid_sample(
        frame[None].float().expand(len(windows), -1, -1, -1), torch.from_numpy(grid).to(frame.device).float(),
        mode="bilinear", padding_mode="border", align_corners=False,
    )  # fmt: skip
    return crops.round().to(torch.uint8).contiguous(memory_format=torch.channels_last)
