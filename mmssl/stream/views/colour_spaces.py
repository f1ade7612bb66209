"""Colours of sRGB images in the spaces that split lightness from colour, for whole batches on any device."""

import torch
from torch import Tensor

from mmssl.sights import LINEAR_TO_XYZ

_SHARES = torch.tensor(LINEAR_TO_XYZ, dtype=torch.float64)
_DARK = (6 / 29) ** 3
"""Share of white below which CIE 1976 takes a straight line for the cube root."""


def _linear() -> Tensor:
    """(256,) float64: the share of full intensity that each level of sRGB means (IEC 61966-2-1)."""
    level = torch.arange(256, dtype=torch.float64) / 255
    return torch.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear().float()


def lightness(x: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 sRGB → (N, 1, H, W) float32: CIE L* under D65, 0..100."""
    return _f(mixed(_levels(x), _SHARES[1:2])).mul_(116).sub_(16)


def ab(x: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 sRGB → (N, 2, H, W) float32: CIE a* and b* under D65, about -110..110."""
    f = _f(mixed(_levels(x), _SHARES))
    scale = torch.tensor([500.0, 200.0], device=x.device).view(2, 1, 1)
    return (f[:, :2] - f[:, 1:]).mul_(scale)


def _levels(x: Tensor) -> Tensor:
    """Of uint8 levels the shares of full intensity, float32."""
    return _LINEAR.to(x.device).index_select(0, x.flatten().int()).view(x.shape)


def _f(share: Tensor) -> Tensor:
    """CIE 1976: the cube root above (6/29)³ and its tangent at that point below, in place.

    As the root of what is at least (6/29)³, and the tangent's slope times what is missing to it: no branches.
    """
    below = (share - _DARK).clamp_(max=0)
    return share.clamp_(min=_DARK).pow_(1 / 3).add_(below, alpha=1 / (3 * _DARK ** (2 / 3)))


def mixed(x: Tensor, weights: Tensor) -> Tensor:
    """(N, 3, H, W) float32 → (N, n, H, W): weighted sums (n, 3) of the three planes, on any device."""
    planes = torch.empty(len(x), len(weights), *x.shape[2:], device=x.device)
    for row, plane in zip(weights.tolist(), planes.unbind(1), strict=True):
        torch.mul(x[:, 0], row[0], out=plane).add_(x[:, 1], alpha=row[1]).add_(x[:, 2], alpha=row[2])
    return planes


_SUMS = {
    "Y": torch.tensor([[0.299, 0.587, 0.114]], dtype=torch.float64),
    "CbCr": torch.tensor(
        [[-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]], dtype=torch.float64
    ),
    "O3": torch.full((1, 3), 3**-0.5, dtype=torch.float64),
    "O12": torch.tensor([[2**-0.5, -(2**-0.5), 0], [6**-0.5, 6**-0.5, -2 * 6**-0.5]], dtype=torch.float64),
}
"""Sums of red, green and blue in 0..1: luma and colour differences of ITU-R BT.601, and opponent colours (van
de Sande et al., "Evaluating Color Descriptors for Object and Scene Recognition", PAMI 2010)."""


def colours(sees: str, x: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 sRGB → (N, C, H, W) float32 in the units of ``mmssl.sights``, not normalised."""
    if sees == "rgb":
        return x.float().div_(255)
    if sees == "L":
        return lightness(x)
    if sees == "ab":
        return ab(x)
    return mixed(x.float(), _SUMS[sees] / 255)
