"""Fixed sine and cosine positions for vision transformers, of images and of clips."""

from typing import Any

import torch
from torch import Tensor


def sincos_positions(rows: int, columns: int, dim: int) -> Tensor:
    """(rows·columns, dim) float32 in row-major order; ``dim`` is a multiple of 4.

    Half of the channels encode the column, half the row, each as sin and cos of the coordinate times
    10000^(−2i/(dim/2)) (Vaswani et al. 2017, section 3.5, once for each axis; MAE, appendix A).
    """
    if dim % 4:
        raise ValueError(f"positions of width {dim}: expected a multiple of 4")
    frequency = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (x, y)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()


def sincos_space_time(grid: tuple[int, int, int], dim: int) -> Tensor:
    """(t·h·w, dim) float32 for a grid of (t, h, w), time first, then rows, then columns; ``dim`` is even.

    The channels go to the three axes in equal, even numbers, what remains to time; each axis is encoded as in
    ``sincos_positions``.
    """
    if dim % 2 or dim < 6:
        raise ValueError(f"positions of width {dim}: expected an even number, at least 6")
    space = dim // 6
    pairs = (dim // 2 - 2 * space, space, space)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [
        axis.reshape(-1, 1) * 10000.0 ** -(torch.arange(n, dtype=torch.float64) / n)
        for axis, n in zip(axes, pairs, strict=True)
    ]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()


def use_sincos_positions(backbone: Any) -> None:
    """Set a timm ViT's positional embedding to the fixed one and stop its gradient; prefix tokens get 0."""
    positions = backbone.pos_embed
    rows, columns = backbone.patch_embed.grid_size
    with torch.no_grad():
        positions.zero_()
        positions[0, positions.shape[1] - rows * columns :] = sincos_positions(
            rows, columns, positions.shape[2]
        )
    positions.requires_grad_(False)
