"""Images and clips as rows of patches, and what masked modelling does with such rows."""

from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def patchify(images: Tensor, p: int) -> Tensor:
    """(B, 3, h·p, w·p) to (B, h·w, 3·p²), each patch in the order of a convolution's weights."""
    b, c, height, width = images.shape
    grid = images.reshape(b, c, height // p, p, width // p, p)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)


def unpatchify(patches: Tensor, p: int, rows: int) -> Tensor:
    """The inverse of ``patchify`` for ``rows`` rows of patches."""
    b, n, _ = patches.shape
    grid = patches.reshape(b, rows, n // rows, 3, p, p).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, 3, rows * p, n // rows * p)


def tubelets(clips: Tensor, s: int, p: int) -> Tensor:
    """(B, t·s, 3, h·p, w·p) to (B, t·h·w, 3·s·p²): time first, then rows, then columns.

    Each tubelet of s frames is in the order of a 3D convolution's weights.
    """
    b, frames, c, height, width = clips.shape
    grid = clips.reshape(b, frames // s, s, c, height // p, p, width // p, p)
    return grid.permute(0, 1, 4, 6, 3, 2, 5, 7).reshape(b, -1, c * s * p * p)


def untubelets(rows: Tensor, s: int, p: int, grid: tuple[int, int, int]) -> Tensor:
    """The inverse of ``tubelets`` for a grid of (t, h, w)."""
    t, h, w = grid
    x = rows.reshape(-1, t, h, w, 3, s, p, p).permute(0, 1, 5, 4, 2, 6, 3, 7)
    return x.reshape(-1, t * s, 3, h * p, w * p)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` (B, n) of each sample of ``x`` (B, N, d): (B, n, d)."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


def last_tokens(block: Any, x: Tensor, n: int) -> Tensor:
    """What a timm ``Block`` without extras makes of the last ``n`` tokens of ``x`` (B, N, d): (B, n, d)."""
    attention = block.attn
    qkv = attention.qkv(block.norm1(x)).unflatten(2, (3, attention.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, d / heads)
    seen = scaled_dot_product_attention(q[:, :, -n:], k, v).transpose(1, 2).flatten(2)
    x = x[:, -n:] + attention.proj(seen)
    return x + block.mlp(block.norm2(x))
