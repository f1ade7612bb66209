"""The discriminative correlation filter in closed form (DCFNet, Wang et al. 2017; UDT, CVPR 2019).

Ridge regression from every circular shift of a feature map x to the value of a label y at that shift:
α̂ = ŷ / (Σ_c |x̂_c|² / (HWC) + λ), and the response to a map z is R = F⁻¹(α̂ · Σ_c ẑ_c x̂_c* / (HWC)), whose
peak says how far z's content has moved. Half spectra throughout: maps are real. Always float32, also under
autocast, because half-precision sums over H · W · C products lose the peak.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

Size = tuple[int, int]
"""Height and width of a feature map."""


@dataclass(frozen=True)
class Filter:
    """What has been learned of B targets; leading dimensions may be any, ``(B,)`` in what follows."""

    alpha: Tensor
    """α̂ (B, H, W // 2 + 1) complex64."""
    x: Tensor
    """x̂ (B, C, H, W // 2 + 1) complex64."""
    size: Size
    """H, W: a half spectrum does not say whether W was odd."""


def spectrum(x: Tensor) -> Tensor:
    """(…, H, W) float → (…, H, W // 2 + 1) complex64."""
    return torch.fft.rfft2(x.float())


def learn(x: Tensor, label: Tensor, lam: float) -> Filter:
    """The filter that answers maps ``x`` (B, C, H, W) with ``label`` ŷ (B, H, W // 2 + 1), a spectrum."""
    size = (x.shape[-2], x.shape[-1])
    x = spectrum(x)
    energy = (x.real.square() + x.imag.square()).sum(dim=-3) / (size[0] * size[1] * x.shape[-3])
    return Filter(label / (energy + lam), x, size)


def respond(learned: Filter, z: Tensor) -> Tensor:
    """R (B, H, W) float32 of maps ``z`` (B, C, H, W); leading dimensions broadcast."""
    height, width = learned.size
    correlation = (spectrum(z) * learned.x.conj()).sum(dim=-3) / (height * width * learned.x.shape[-3])
    return torch.fft.irfft2(learned.alpha * correlation, s=learned.size)


def gaussian(size: Size, sigma: float) -> Tensor:
    """y (H, W) float32: a Gaussian of height 1 and width ``sigma`` cells; its peak (0, 0) wraps around."""
    down, right = (torch.fft.fftfreq(n, 1 / n).square() for n in size)
    return (-(down[:, None] + right[None]) / (2 * sigma**2)).exp()


def peaks(response: Tensor) -> Tensor:
    """Where R (…, H, W) is highest: (…, 2) int64 shifts down and right, −⌊n/2⌋ … ⌈n/2⌉ − 1 (circular)."""
    height, width = response.shape[-2:]
    index = response.flatten(-2).argmax(dim=-1)
    shifts = torch.stack([index // width, index % width], dim=-1)
    size = torch.tensor([height, width], device=response.device)
    return torch.where(shifts >= (size + 1) // 2, shifts - size, shifts)


def rolled(y: Tensor, shifts: Tensor) -> Tensor:
    """(B, H, W): ``y`` (H, W) moved circularly so that its peak lies at ``shifts`` (B, 2), in both axes."""
    height, width = y.shape
    rows = (torch.arange(height, device=y.device) - shifts[:, :1]) % height
    columns = (torch.arange(width, device=y.device) - shifts[:, 1:]) % width
    return y[rows[:, :, None], columns[:, None, :]]
