"""The discriminative correlation filter in closed form (DCFNet, Wang et al. 2017; UDT, CVPR 2019).

Ridge regression from every circular shift of a feature map x to the value of a label y at that shift:
α̂ = ŷ / (Σ_c |x̂_c|² / (HWC) + λ), and the response to a map z is R = F⁻¹(α̂ · Σ_c ẑ_c x̂_c* / (HWC)), whose
peak says how far z's content has moved. Half spectra throughout: maps are real. Always float32, also under
autocast, because half-precision sums over H · W · C products lose the peak.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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


@torch.compiler.disable
def spectrum(x: Tensor) -> Tensor:
    """(…, H, W) float → (…, H, W // 2 + 1) complex64; complex128 of float64."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    made: Tensor = _Spectrum.apply(x) if x.ndim > 2 else torch.fft.rfft2(x)
    return made


def fit(x: Tensor, size: Size, label: Tensor, lam: float) -> Filter:
    """The filter that answers spectra ``x`` (B, C, H, W // 2 + 1) with ``label`` ŷ (B, H, W // 2 + 1)."""
    return Filter(label / (_energy(x) / (size[0] * size[1] * x.shape[-3]) + lam), x, size)


def answer(learned: Filter, z: Tensor) -> Tensor:
    """R (B, H, W) float32 to spectra ``z`` (B, C, H, W // 2 + 1); leading dimensions broadcast."""
    height, width = learned.size
    correlation = _products(z, learned.x) / (height * width * learned.x.shape[-3])
    return torch.fft.irfft2(learned.alpha * correlation, s=learned.size)


def learn(x: Tensor, label: Tensor, lam: float) -> Filter:
    """The filter that answers maps ``x`` (B, C, H, W) with ``label`` ŷ (B, H, W // 2 + 1), a spectrum."""
    return fit(spectrum(x), (x.shape[-2], x.shape[-1]), label, lam)


def respond(learned: Filter, z: Tensor) -> Tensor:
    """R (B, H, W) float32 of maps ``z`` (B, C, H, W); leading dimensions broadcast."""
    return answer(learned, spectrum(z))


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


@torch.compiler.disable
def _energy(x: Tensor) -> Tensor:
    """Σ_c |x|² (…, H, W // 2 + 1) of a spectrum (…, C, H, W // 2 + 1)."""
    if x.ndim == 3:
        return (x.real.square() + x.imag.square()).sum(dim=-3)
    made: Tensor = _Energy.apply(x)
    return made


@torch.compiler.disable
def _products(z: Tensor, x: Tensor) -> Tensor:
    """Σ_c z x* (…, H, W // 2 + 1) of spectra (…, C, H, W // 2 + 1)."""
    z, x = torch.broadcast_tensors(z, x)
    if z.ndim == 3:
        return (z * x.conj()).sum(dim=-3)
    made: Tensor = _Products.apply(z, x)
    return made


class _Spectrum(torch.autograd.Function):
    """rfft2 of one sample after the other, which stays in cache, and an adjoint in half spectra.

    torch's own backward fills up the half spectrum with zeros and transforms all of it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size = x.shape[-2:]
        kind = torch.complex128 if x.dtype == torch.float64 else torch.complex64
        out = x.new_empty((*x.shape[:-1], x.shape[-1] // 2 + 1), dtype=kind)
        for one, made in zip(x, out, strict=True):
            torch.fft.rfft2(one, out=made)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        height, width = ctx.size
        # The inverse counts each column but the first, and the last of an even width, twice.
        weight = g.real.new_full((g.shape[-1],), 0.5)
        weight[0] = 1
        if width % 2 == 0:
            weight[-1] = 1
        out = g.real.new_empty((*g.shape[:-1], width))
        for one, made in zip(g, out, strict=True):
            torch.fft.irfft2(one * weight, s=(height, width), norm="forward", out=made)
        return out


class _Products(torch.autograd.Function):
    """Σ_c z x* sample after sample, without a product of whole batches."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(z, x)
        return torch.stack([(a * b.conj()).sum(dim=-3) for a, b in zip(z, x, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        z, x = ctx.saved_tensors
        dz, dx = torch.empty_like(z), torch.empty_like(x)
        for one, a, b, da, db in zip(g.unsqueeze(-3), z, x, dz, dx, strict=True):
            torch.mul(one, b, out=da)
            torch.mul(one.conj(), a, out=db)
        return dz, dx


class _Energy(torch.autograd.Function):
    """Σ_c |x|² sample after sample."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.stack([(a.real.square() + a.imag.square()).sum(dim=-3) for a in x])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x * (2 * g).unsqueeze(-3)
