"""Frames of a clip as grids of overlapping patches, each of them moved and scaled a little on its own."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Sampler
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.draws import Draws

_RATIO = math.log(4 / 3)


class NodesView(ClipView):
    """``nodes`` (B, T, N, 3, patch, patch) float32, normalised, and ``times`` (B, T) float64 in seconds.

    The N = G² patches of a frame lie on a grid, row by row, ``step`` pixels apart. Of each a random part is
    enlarged to the patch's size, drawn anew for every patch of every frame: what lies at the same place of
    two frames can then not be recognised by where in its patch it lies (Jabri et al., NeurIPS 2020).
    They are cut in ``finish``, in one ``grid_sample`` of the frames as ``ClipView`` shows them.

    Args:
        size: of a frame, in pixels.
        patch, step: side of a patch, and from one to the next, in pixels.
        area: smallest and largest share of a patch that is shown; (1, 1) shows patches as they are.

    Raises:
        MmsslError: a step below 1, a patch larger than the frame or so large that there is but one, or shares
            that are not 0 < smallest <= largest <= 1.
    """

    def __init__(
        self,
        sampler: Sampler,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        patch: int,
        step: int,
        area: tuple[float, float] = (0.7, 0.9),
        augmentation: ClipAugmentation | None = None,
        field: str = "video",
    ) -> None:
        super().__init__(sampler, size, mean, std, augmentation, field)
        self.patch, self.area = patch, area
        self.corners = grid(size, patch, step)
        if not 0 < area[0] <= area[1] <= 1:
            raise MmsslError(
                f"area: expected 0 < smallest <= largest <= 1, found {area[0]:g} and {area[1]:g}"
            )

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        seen = super().finish(x, draws)
        frames = seen["frames"]
        boxes = torch.from_numpy(self.boxes(draws, frames.shape[1])).to(frames.device)
        nodes = cut_nodes(frames.flatten(0, 1), boxes.flatten(0, 1), self.patch)
        return {"nodes": nodes.unflatten(0, frames.shape[:2]), "times": seen["times"]}

    def boxes(self, draws: Draws, frames: int) -> NDArray[np.float32]:
        """(B, T, N, 4) top, left, height, width in pixels of the part of each patch that is shown.

        The share of the area is uniform, width / height log-uniform in ¾ … 4/3 as far as the part then fits
        into its patch, and the place uniform where it fits; nothing is rounded to whole pixels.
        """
        unit = draws.uniform("nodes", 4 * frames * len(self.corners)).astype(np.float64)
        area, ratio, top, left = np.moveaxis(unit.reshape(len(draws), frames, len(self.corners), 4), -1, 0)
        share = self.area[0] + (self.area[1] - self.area[0]) * area
        widest = np.minimum(_RATIO, -np.log(share))  # beyond it, one side would be longer than the patch
        stretch = np.exp(widest * (2 * ratio - 1) / 2)
        height, width = self.patch * np.sqrt(share) / stretch, self.patch * np.sqrt(share) * stretch
        y = self.corners[:, 0] + top * (self.patch - height)
        x = self.corners[:, 1] + left * (self.patch - width)
        return np.stack([y, x, height, width], axis=-1).astype(np.float32)


def grid(size: int, patch: int, step: int) -> NDArray[np.int64]:
    """(G², 2) top and left of the patches of a frame of this size, row by row.

    Raises:
        MmsslError: as ``NodesView``.
    """
    if step < 1 or patch < 1 or size < patch + step:
        raise MmsslError(
            f"patches of {patch} pixels every {step} in frames of {size}; expected at least 2 × 2 of them"
        )
    starts = np.arange(0, size - patch + 1, step)
    return np.stack(np.meshgrid(starts, starts, indexing="ij"), axis=-1).reshape(-1, 2)


def cut_nodes(frames: Tensor, boxes: Tensor, patch: int) -> Tensor:
    """Enlarge boxes (M, N, 4) of frames (M, 3, H, W) to (M, N, 3, patch, patch), bilinearly.

    Pixels are squares, as for ``resize``; a box that is no larger than the patch needs no antialiasing.
    """
    m, n = boxes.shape[:2]
    height, width = frames.shape[2:]
    place = (torch.arange(patch, device=frames.device, dtype=frames.dtype) + 0.5) / patch
    y = (boxes[..., 0:1] + boxes[..., 2:3] * place) * (2 / height) - 1  # (M, N, patch) in -1..1
    x = (boxes[..., 1:2] + boxes[..., 3:4] * place) * (2 / width) - 1
    shape = (m, n, patch, patch)
    where = torch.stack([x[:, :, None, :].expand(shape), y[:, :, :, None].expand(shape)], dim=-1)
    cut = grid_sample(frames, where.flatten(1, 2), padding_mode="border", align_corners=False)
    return cut.unflatten(2, (n, patch)).transpose(1, 2)
