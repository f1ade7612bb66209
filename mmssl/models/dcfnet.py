"""The two convolutions of DCFNet (Wang et al., 2017) and UDT (Wang et al., CVPR 2019) as a timm backbone.

timm's name is ``dcfnet``: an ``EncoderConfig(name="dcfnet", image_size=125, …)`` is trained, stored, started
from weights and evaluated like any other encoder.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__: list[str] = []

WIDTH = 32
PIXELS = (1 / 255, 1 / 255, 1 / 255)
"""The ``std`` of its encoder: features are learned on pixels in 0..255 less their mean, which is what the
constants of the response normalisation are made for."""
CACHEFUL = 1 << 17
"""Numbers that are worked on at a time: half a megabyte each of a few matrices."""


class DCFNet(nn.Module):
    """conv 3×3 → ReLU → conv 3×3 → local response normalisation; maps as large as the image.

    Both convolutions pad with zeros. Cut 2 cells off every side and the rest is what they give without
    padding, which is how the papers train.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.num_features = width
        self.feature_info = [{"num_chs": width, "reduction": 1, "module": "conv2"}]
        self.pretrained_cfg: dict[str, Any] = {}
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = ResponseNorm(width)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, width, H, W)."""
        return self.norm(self.conv2(self.conv1(x).relu_()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, width): the mean of the map, for evaluations of whole images."""
        return self.forward_features(x).mean(dim=(2, 3))

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int], intermediates_only: bool = True, stop_early: bool = True
    ) -> list[Tensor]:
        return [self.forward_features(x) for _ in indices]


class ResponseNorm(nn.Module):
    """b_c = a_c / (k + α/n Σ a²_j)^¾ over the n = 5 channels around c (Krizhevsky et al., NeurIPS 2012, 3.3).

    The sum over channels is a product with a banded matrix and s^−¾ two roots. On a CPU a few thousand pixels
    go through all of it while they are in cache: several times faster than torch's ``LocalResponseNorm``,
    which pads and pools a five-dimensional view of everything.
    """

    band: Tensor

    def __init__(self, channels: int, n: int = 5, alpha: float = 1e-4, k: float = 1.0) -> None:
        super().__init__()
        self.k = k
        near = (torch.arange(channels)[:, None] - torch.arange(channels)).abs() <= n // 2
        self.register_buffer("band", near * (alpha / n), persistent=False)

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same; channels_last, as its result is, avoids a copy."""
        y: Tensor = _ResponseNorm.apply(x, self.band, self.k)
        return y


class _ResponseNorm(torch.autograd.Function):
    """y = x s^−¾ with s = k + A x², A symmetric, and dx = g s^−¾ − 3/2 x A (g x s^−7/4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, band: Tensor, k: float) -> Tensor:
        ctx.save_for_backward(x, band)
        ctx.k = k
        y = torch.empty_like(x, memory_format=torch.channels_last)
        for a, b, (p, s) in _pixels(x, y, scratch=2):
            _powers(a, band.to(s.dtype), k, p, s)
            torch.mul(a, p, out=b)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        x, band = ctx.saved_tensors
        dx = torch.empty_like(x, memory_format=torch.channels_last)
        for a, h, b, (p, s, q) in _pixels(x, g, dx, scratch=3):
            kind = band.to(s.dtype)
            _powers(a, kind, ctx.k, p, s)
            p.mul_(h)  # g s^−¾
            s.square_().mul_(p).mul_(a)  # g x s^−7/4
            torch.mm(s, kind, out=q)
            torch.sub(p, q.mul_(a), alpha=1.5, out=b)
        return dx, None, None


def _powers(a: Tensor, band: Tensor, k: float, p: Tensor, s: Tensor) -> None:
    """``p`` = s^−¾ and ``s`` = s^−½ of s = k + A a²."""
    torch.mul(a, a, out=p)
    torch.addmm(s.new_full((), k), p, band, out=s).rsqrt_()
    torch.sqrt(s, out=p)
    p.mul_(s)


def _pixels(*maps: Tensor, scratch: int) -> Iterator[Any]:
    """Maps (B, C, H, W) as matrices (pixels, C), a cacheful at a time, and matrices to work in."""
    rows = [x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(0, 2) for x in maps]
    count, channels = rows[0].shape
    size = CACHEFUL // channels if maps[0].device.type == "cpu" else max(count, 1)
    kind = torch.promote_types(maps[0].dtype, torch.float32)
    work = [rows[0].new_empty(min(size, count), channels, dtype=kind) for _ in range(scratch)]
    for first in range(0, count, size):
        parts = [x[first : first + size] for x in rows]
        yield *parts, [x[: len(parts[0])] for x in work]


@register_model
def dcfnet(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    num_classes: int = 0,
    width: int = WIDTH,
) -> DCFNet:
    """What ``timm.create_model("dcfnet", width=…)`` calls; all but ``width`` is timm's own convention."""
    if pretrained:
        raise ValueError("dcfnet has no weights of timm's; start from a file or a stage")
    return DCFNet(width)
