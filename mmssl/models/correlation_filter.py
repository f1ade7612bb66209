"""The discriminative correlation filter in closed form (DCFNet, Wang et al. 2017; UDT, CVPR 2019).

Ridge regression from every circular shift of a feature map x to the value of a label y at that shift:
α̂ = ŷ / (Σ_c |x̂_c|² / (HWC) + λ), and the response to a map z is R = F⁻¹(α̂ · Σ_c ẑ_c x̂_c* / (HWC)), whose
peak says how far z's content has moved. Always single precision at least, also under autocast, because
half-precision sums over H · W · C products lose the peak.

Filter and response carry ŷ as a factor, and ŷ, a Gaussian, is nothing beyond a few of its widths. So of a map
of 125² cells some 50 × 26 of the 125 × 63 coefficients of a half spectrum matter, and no others are worked
out: ``Band``. The response is the same to single precision.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Size = tuple[int, int]
"""Height and width of a feature map."""

TOLERANCE = 1e-6
"""Coefficients of the label below this share of its largest are left out; float32 keeps 6e-8."""


class Band(nn.Module):
    """The filter of maps of one size, on those R × K of its frequencies that the label has.

    Spectra lie channels last, (…, R, K, C). On a processor they are sums over rows and columns with fixed
    weights, two matrix products straight from channels-last maps: half the time of an FFT and its copies, and
    all that follows has a sixth of the numbers.

    Args:
        size: H, W of the maps in cells, without margins.
        sigma: width of the label in cells.
        margin: cells at every side of the maps given that are left out; they cost no copy.
        hann: whether a Hann window is laid over the maps, as trackers do.
        tolerance: which coefficients are left out; 0 keeps all that are not zero.
        dtype: float32 or float64.
    """

    window: Tensor
    down: Tensor
    right: Tensor
    label: Tensor
    """ŷ (R, K): the spectrum of the Gaussian around (0, 0), which is real."""

    def __init__(
        self,
        size: Size,
        sigma: float,
        *,
        margin: int = 0,
        hann: bool = False,
        tolerance: float = TOLERANCE,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.size = size
        self._margin = margin
        label = [np.exp(-(np.fft.fftfreq(n, 1 / n) ** 2) / (2 * sigma**2)) for n in size]  # = column · row
        rows, columns = (_highest(part, tolerance) for part in label)
        self._above = rows + 1  # row frequencies 0 … rows, then as many negative ones as there are
        self._below = min(rows, (size[0] - 1) // 2)
        self._columns = columns + 1
        windows = [np.hanning(n) if hann else np.ones(n) for n in size]
        waves = [_waves(n, k) * window for n, k, window in zip(size, (rows, columns), windows, strict=True)]
        down, right = (np.pad(wave, ((0, 0), (margin, margin))) for wave in waves)
        spectrum = np.fft.rfft2(np.outer(*label)).real
        constants = {"window": np.outer(*windows), "down": down, "right": right}
        for name, constant in constants.items():
            self.register_buffer(name, torch.from_numpy(constant).to(dtype), persistent=False)
        self.register_buffer("label", self._cut(torch.from_numpy(spectrum)).to(dtype), persistent=False)

    def _cut(self, spectrum: Tensor) -> Tensor:
        """(…, H, W // 2 + 1) → (…, R, K)."""
        above = spectrum[..., : self._above, : self._columns]
        return torch.cat([above, spectrum[..., self.size[0] - self._below :, : self._columns]], dim=-2)

    @torch.compiler.disable
    def spectrum(self, maps: Tensor) -> Tensor:
        """(B, C, H + 2 margin, W + 2 margin) → (B, R, K, C) complex. Fastest where maps lie channels last."""
        with torch.autocast(maps.device.type, enabled=False):
            x = maps.to(self.label.dtype)
            return self._by_products(x) if maps.device.type == "cpu" else self._by_fft(x)

    def _by_fft(self, x: Tensor) -> Tensor:
        return self._cut(torch.fft.rfft2(cut_off(x, self._margin) * self.window)).movedim(1, -1)

    def _by_products(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        x = x.permute(0, 2, 3, 1).reshape(count * height, width, channels)
        x = (self.right @ x).view(count, height, -1)  # a real and an imaginary part of each column frequency
        x = (self.down @ x).view(count, 2, self._above, 2, self._columns, channels)
        (cos_cos, cos_sin), (sin_cos, sin_sin) = (part.unbind(2) for part in x.unbind(1))
        above = torch.complex(cos_cos - sin_sin, cos_sin + sin_cos)
        below = torch.complex(cos_cos + sin_sin, cos_sin - sin_cos)[:, 1 : self._below + 1].flip(1)
        return torch.cat([above, below], dim=1)

    def spectrum_of_label(self, y: Tensor) -> Tensor:
        """ŷ (…, R, K) complex of any label (…, H, W), no window laid over it."""
        return self._cut(torch.fft.rfft2(y))

    def fit(self, x: Tensor, label: Tensor, lam: float) -> Tensor:
        """α̂ (…, R, K) of the filter that answers maps of spectra ``x`` with ``label`` ŷ (…, R, K)."""
        energy = torch.view_as_real(x).square().sum(dim=(-1, -2))
        return label / (energy / self._cells(x) + lam)

    @torch.compiler.disable
    def answer(self, alpha: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """R (…, H, W) of the filter ``alpha``, learned of ``x``, to spectra ``z``; dimensions broadcast."""
        height, width = self.size
        response = alpha * (z * x.conj()).sum(dim=-1) / self._cells(x)
        full = response.new_zeros(*response.shape[:-2], height, width // 2 + 1)
        full[..., : self._above, : self._columns] = response[..., : self._above, :]
        if self._below:
            full[..., -self._below :, : self._columns] = response[..., self._above :, :]
        return torch.fft.irfft2(full, s=self.size)

    def _cells(self, x: Tensor) -> int:
        """HWC of the maps that spectra ``x`` are of."""
        return self.size[0] * self.size[1] * x.shape[-1]


def cut_off(maps: Tensor, margin: int) -> Tensor:
    """(…, H, W) without ``margin`` cells at every side."""
    height, width = maps.shape[-2:]
    return maps[..., margin : height - margin, margin : width - margin]


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


def _highest(label: NDArray[np.float64], tolerance: float) -> int:
    """The highest frequency of which a label (n,) has more than the tolerance."""
    share = np.abs(np.fft.rfft(label))
    return int(np.flatnonzero(share > tolerance * share.max())[-1])


def _waves(n: int, highest: int) -> NDArray[np.float64]:
    """(2 · (highest + 1), n): real and imaginary parts of exp(−2πi k t / n)."""
    angles = 2 * np.pi * np.outer(np.arange(highest + 1), np.arange(n)) / n
    return np.concatenate([np.cos(angles), -np.sin(angles)])
