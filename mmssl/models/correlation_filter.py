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

    Spectra are real tensors (…, 2, R, K, C), real parts before imaginary ones, and so are ŷ and α̂ without C.
    There and back a transform is two matrix products with fixed weights, straight from channels-last maps:
    less than half the time of an FFT and its copies, and all in between has a sixth of the numbers.

    Args:
        size: H, W of the maps in cells, without margins.
        sigma: width of the label in cells.
        margin: cells at every side of the maps given that are left out; they cost no copy.
        hann: whether a Hann window is laid over the maps, as trackers do.
        tolerance: which coefficients are left out; 0 keeps all that are not zero.
        dtype: float32 or float64.
    """

    label: Tensor
    """ŷ (2, R, K) of the Gaussian around (0, 0)."""
    columns: Tensor
    rows: Tensor
    rows_back: Tensor
    columns_back: Tensor

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
        height, width = size
        y = [_bell(n, sigma) for n in size]  # = column · row
        r, k = (_highest(part, tolerance) for part in y)
        self._rows = np.r_[0 : r + 1, height - min(r, (height - 1) // 2) : height]  # negative ones come last
        self._columns = k + 1
        down, right = (np.hanning(n) if hann else np.ones(n) for n in size)
        cos, sin = _waves(np.arange(k + 1), width)
        twice = np.where(np.isin(np.arange(k + 1), [0, width / 2]), 1, 2)[:, None]  # the other half's share
        row_cos, row_sin = _waves(self._rows, height)
        turn = np.array([[row_cos, row_sin], [-row_sin, row_cos]])  # (part, part before, R, H)
        constants = {
            # (H, W) → (H, part, K) → (part, R, K), and back; a part is real or imaginary
            "columns": _beside(np.concatenate([cos, -sin]) * right, margin),
            "rows": _beside(turn * down, margin).transpose(0, 2, 3, 1).reshape(2 * len(self._rows), -1),
            "rows_back": turn.transpose(3, 1, 0, 2).reshape(2 * height, -1),
            "columns_back": np.concatenate([twice * cos, -twice * sin]) / (height * width),
            "label": self._cut(np.fft.rfft2(np.outer(*y))),
        }
        for name, constant in constants.items():
            made = torch.from_numpy(np.ascontiguousarray(constant)).to(dtype)
            self.register_buffer(name, made, persistent=False)

    def _cut(self, spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
        part = spectrum[self._rows, : self._columns]
        return np.stack([part.real, part.imag])

    @torch.compiler.disable
    def spectrum(self, maps: Tensor) -> Tensor:
        """(B, C, H + 2 margin, W + 2 margin) → (B, 2, R, K, C). Fastest where maps lie channels last."""
        with torch.autocast(maps.device.type, enabled=False):
            count, channels, height, width = maps.shape
            x = maps.to(self.label.dtype).permute(0, 2, 3, 1).reshape(count * height, width, channels)
            x = self.rows @ (self.columns @ x).view(count, 2 * height, -1)
            return x.view(count, 2, len(self._rows), self._columns, channels)

    @torch.compiler.disable
    def spectrum_of_label(self, y: Tensor) -> Tensor:
        """ŷ (…, 2, R, K) of any label (…, H, W), no window laid over it."""
        part = torch.fft.rfft2(y)[..., self._rows, : self._columns]
        return torch.stack([part.real, part.imag], dim=-3)

    def fit(self, x: Tensor, label: Tensor, lam: float) -> Tensor:
        """α̂ (…, 2, R, K) of the filter that answers maps of spectra ``x`` with ``label`` ŷ (…, 2, R, K)."""
        energy = x.square().sum(dim=(-4, -1)) / self._cells(x)
        return label / (energy + lam).unsqueeze(-3)

    @torch.compiler.disable
    def answer(self, alpha: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """R (…, H, W) of the filter ``alpha``, learned of ``x``, to spectra ``z``; dimensions broadcast."""
        (xr, xi), (zr, zi), (ar, ai) = x.unbind(-4), z.unbind(-4), alpha.unbind(-3)
        real, imaginary = (zr * xr + zi * xi).sum(-1), (zi * xr - zr * xi).sum(-1)
        response = torch.cat([ar * real - ai * imaginary, ar * imaginary + ai * real], dim=-2)
        with torch.autocast(response.device.type, enabled=False):
            by_column = self.rows_back @ (response / self._cells(x))
            return by_column.unflatten(-2, (self.size[0], 2)).flatten(-2) @ self.columns_back

    def _cells(self, x: Tensor) -> int:
        """HWC of the maps that spectra ``x`` are of."""
        return self.size[0] * self.size[1] * x.shape[-1]


def cut_off(maps: Tensor, margin: int) -> Tensor:
    """(…, H, W) without ``margin`` cells at every side."""
    height, width = maps.shape[-2:]
    return maps[..., margin : height - margin, margin : width - margin]


def gaussian(size: Size, sigma: float) -> Tensor:
    """y (H, W) float32: a Gaussian of height 1 and width ``sigma`` cells; its peak (0, 0) wraps around."""
    return torch.from_numpy(np.outer(*(_bell(n, sigma) for n in size))).float()


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


def _bell(n: int, sigma: float) -> NDArray[np.float64]:
    """(n,): a Gaussian of height 1 around 0, which wraps around."""
    return np.exp(-(np.fft.fftfreq(n, 1 / n) ** 2) / (2 * sigma**2))


def _highest(label: NDArray[np.float64], tolerance: float) -> int:
    """The highest frequency of which a label (n,) has more than the tolerance."""
    share = np.abs(np.fft.rfft(label))
    return int(np.flatnonzero(share > tolerance * share.max())[-1])


def _waves(frequencies: NDArray[np.int64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(k, n) each: cosines and sines of 2π f t / n."""
    angles = 2 * np.pi * np.outer(frequencies, np.arange(n)) / n
    return np.cos(angles), np.sin(angles)


def _beside(weights: NDArray[np.float64], margin: int) -> NDArray[np.float64]:
    """(…, n) → (…, n + 2 margin): margins have no weight."""
    return np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(margin, margin)])
