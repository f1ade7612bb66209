"""Colours of sRGB images in the spaces that split lightness from colour, for whole batches on any device."""

import torch
from torch import Tensor

_XYZ = torch.tensor(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=torch.float64
)
"""IEC 61966-2-1: linear red, green, blue to CIE X, Y, Z under D65."""
_WHITE = _XYZ / _XYZ.sum(1, keepdim=True)
"""X, Y, Z as shares of those of white, so that greys have exactly no colour."""


def _linear() -> Tensor:
    """(256,) float64: the share of full intensity that each level of sRGB means (IEC 61966-2-1)."""
    level = torch.arange(256, dtype=torch.float64) / 255
    return torch.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear().float()


def _f(share: Tensor) -> Tensor:
    """CIE 1976: the cube root, a straight line near black."""
    return torch.where(share > (6 / 29) ** 3, share.pow(1 / 3), share * (841 / 108) + 4 / 29)


def _response(x: Tensor, rows: slice) -> Tensor:
    """f of X, Y, Z (``rows`` of them) as shares of white: (N, 3, H, W) uint8 → (N, n, H, W)."""
    linear = _LINEAR.to(x.device)[x.int()]
    return _f(torch.einsum("cd,ndhw->nchw", _WHITE[rows].to(linear), linear))


def lightness(x: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 sRGB → (N, 1, H, W) float32: CIE L* under D65, 0..100."""
    return _response(x, slice(1, 2)) * 116 - 16


def ab(x: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 sRGB → (N, 2, H, W) float32: CIE a* and b* under D65, about -110..110."""
    f = _response(x, slice(0, 3))
    return torch.stack([500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def mixed(x: Tensor, matrix: tuple[tuple[float, float, float], ...]) -> Tensor:
    """(N, 3, H, W) uint8 → (N, n, H, W) float32: n weighted sums of red, green and blue in 0..1."""
    weights = torch.tensor(matrix, dtype=torch.float64, device=x.device) / 255
    return torch.einsum("cd,ndhw->nchw", weights.float(), x.float())


LINEAR_SPACES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "rgb": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "Y": ((0.299, 0.587, 0.114),),
    "CbCr": (
        (-0.299 / 1.772, -0.587 / 1.772, 0.5),
        (0.5, -0.587 / 1.402, -0.114 / 1.402),
    ),
    "O3": ((3**-0.5, 3**-0.5, 3**-0.5),),
    "O12": ((2**-0.5, -(2**-0.5), 0), (6**-0.5, 6**-0.5, -2 * 6**-0.5)),
}
"""Red, green and blue of 0..1 to luma and colour differences of BT.601, and to opponent colours."""


def colours(sees: str, x: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 sRGB → (N, C, H, W) float32 in the units of ``mmssl.sights``, not normalised."""
    if sees == "L":
        return lightness(x)
    if sees == "ab":
        return ab(x)
    return mixed(x, LINEAR_SPACES[sees])
