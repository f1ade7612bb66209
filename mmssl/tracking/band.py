"""The low frequencies of windowed feature maps: all that a correlation filter ever looks at.

Both the filter α̂ and its response R̂ carry the label's spectrum ŷ as a factor, and ŷ, a Gaussian, is nothing
beyond a few of its widths. So of a map of 125² cells some 50 × 26 of the 125 × 63 coefficients matter. They
are sums over rows and columns with fixed weights: two matrix products, with the Hann window in the weights,
straight from channels-last memory. That takes half the time of a whole FFT and its copies, and everything
after it is done on a sixth of the numbers. The response is the same to single precision.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.models.correlation_filter import Size

TOLERANCE = 1e-6
"""Coefficients of the label below this share of its largest are left out; float32 keeps 6e-8."""


class Band:
    """Maps of one size to the part of ``rfft2`` of the windowed maps that matters, and back.

    Args:
        size: H, W of the maps in cells.
        sigma: of the label, in cells.
    """

    label: Tensor
    """ŷ (R, K) float32: the spectrum of the Gaussian around (0, 0), which is real."""

    def __init__(self, size: Size, sigma: float, device: torch.device) -> None:
        self.size = size
        label = [np.exp(-(np.fft.fftfreq(n, 1 / n) ** 2) / (2 * sigma**2)) for n in size]  # = column · row
        rows, columns = (_highest(part) for part in label)
        self._above = rows + 1  # row frequencies 0 … rows, then as many negative ones as there are
        self._below = min(rows, (size[0] - 1) // 2)
        self._columns = columns + 1
        down, right = (torch.from_numpy(_waves(n, k)) for n, k in zip(size, (rows, columns), strict=True))
        self._down, self._right = down.float().to(device), right.float().to(device)
        y = torch.from_numpy(np.fft.rfft2(np.outer(*label)).real)
        self.label = self._cut(y).float().to(device)

    def _cut(self, spectrum: Tensor) -> Tensor:
        """(…, H, W // 2 + 1) → (…, R, K)."""
        rows = torch.cat(
            [spectrum[..., : self._above, :], spectrum[..., self.size[0] - self._below :, :]], -2
        )
        return rows[..., : self._columns]

    def spectrum(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) → (B, R, K, C) complex64. Fastest where the maps lie channels last."""
        height, width = self.size
        count, channels = maps.shape[:2]
        x = maps.float().permute(0, 2, 3, 1).reshape(count * height, width, channels)
        x = (self._right @ x).view(count, height, -1)  # a real and an imaginary part of each column frequency
        x = (self._down @ x).view(count, 2, self._above, 2, self._columns, channels)
        (cos_cos, cos_sin), (sin_cos, sin_sin) = (part.unbind(2) for part in x.unbind(1))
        above = torch.complex(cos_cos - sin_sin, cos_sin + sin_cos)
        below = torch.complex(cos_cos + sin_sin, cos_sin - sin_cos)[:, 1 : self._below + 1].flip(1)
        return torch.cat([above, below], dim=1)

    def maps(self, spectrum: Tensor) -> Tensor:
        """(…, R, K) complex64 → (…, H, W) float32, the rest of the spectrum being nothing."""
        height, width = self.size
        full = spectrum.new_zeros(*spectrum.shape[:-2], height, width // 2 + 1)
        full[..., : self._above, : self._columns] = spectrum[..., : self._above, :]
        if self._below:
            full[..., -self._below :, : self._columns] = spectrum[..., self._above :, :]
        return torch.fft.irfft2(full, s=self.size)


def _highest(label: NDArray[np.float64]) -> int:
    """The highest frequency of which a label (n,) has more than the tolerance."""
    share = np.abs(np.fft.rfft(label))
    return int(np.flatnonzero(share > TOLERANCE * share.max())[-1])


def _waves(n: int, highest: int) -> NDArray[np.float64]:
    """(2 · (highest + 1), n): real and imaginary parts of exp(−2πi k t / n) times the Hann window."""
    angles = 2 * np.pi * np.outer(np.arange(highest + 1), np.arange(n)) / n
    return np.concatenate([np.cos(angles), -np.sin(angles)]) * np.hanning(n)
