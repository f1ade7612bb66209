"""The filter against ridge regression over all shifts, and its band against whole spectra."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cycles import respond

from mmssl.models.correlation_filter import Band, cut_off, gaussian, peaks, rolled

SIZES = [(6, 6), (7, 7), (6, 7), (7, 6), (1, 5)]


def whole(size: tuple[int, int]) -> Band:
    """All frequencies of maps of this size, in double precision."""
    return Band(size, 0.5, tolerance=0, dtype=torch.float64)


def dense(x: np.ndarray, z: np.ndarray, y: np.ndarray, lam: float) -> np.ndarray:
    """Ridge regression by the normal equations of every circular shift of x, then asked of every shift of z.

    Row s of X is x moved back by s, and the dual solves (X Xᵀ / n + λ) α = y with n = H W C, so that the
    answer to a shift t of z is Σ_s α_s ⟨x_s, z_t⟩ / n.
    """
    height, width = y.shape
    shifts = list(product(range(height), range(width)))
    rows = np.array([np.roll(x, (-a, -b), axis=(1, 2)).ravel() for a, b in shifts])
    asked = np.array([np.roll(z, (-a, -b), axis=(1, 2)).ravel() for a, b in shifts])
    alpha = np.linalg.solve(rows @ rows.T / x.size + lam * np.eye(len(shifts)), y.ravel())
    return (asked @ rows.T / x.size @ alpha).reshape(height, width)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 4])
def test_the_response_is_that_of_ridge_regression(size: tuple[int, int], channels: int) -> None:
    random = np.random.default_rng(0)
    x, z = random.normal(size=(2, 2, channels, *size))
    y = random.normal(size=size)
    for lam in (1e-2, 1.0):
        response = respond(whole(size), *map(torch.from_numpy, (x, z, y)), lam)
        for b in range(2):
            np.testing.assert_allclose(response[b], dense(x[b], z[b], y, lam), atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_a_whole_filter(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(2, 3, *size, dtype=torch.float64, generator=generator) for _ in range(2))
    y = torch.rand(2, *size, dtype=torch.float64, generator=generator)
    band = whole(size)
    assert torch.autograd.gradcheck(
        lambda x, z: respond(band, x, z, y, 0.1), (x.requires_grad_(), z.requires_grad_())
    )


def test_the_band_gives_the_gradients_of_the_whole_spectrum() -> None:
    x, z = torch.randn(2, 3, 8, 25, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = gaussian((25, 24), 2.0)
    ours = torch.autograd.grad(respond(Band((25, 24), 2.0), x, z, y, 1e-2).square().sum(), (x, z))
    fx, fz = torch.fft.rfft2(x), torch.fft.rfft2(z)
    alpha = torch.fft.rfft2(y) / ((fx.abs() ** 2).mean(1) / (25 * 24) + 1e-2)
    plain = torch.fft.irfft2(alpha * (fz * fx.conj()).mean(1) / (25 * 24), s=(25, 24))
    theirs = torch.autograd.grad(plain.square().sum(), (x, z))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    sigma=st.floats(0.2, 6),
    margin=st.integers(0, 3),
    hann=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_band_is_a_part_of_the_spectrum(height, width, sigma, margin, hann, seed):
    maps = torch.randn(
        2, 3, height + 2 * margin, width + 2 * margin, generator=torch.Generator().manual_seed(seed)
    )
    window = torch.from_numpy(np.outer(np.hanning(height), np.hanning(width))) if hann else 1.0
    spectrum = torch.fft.rfft2(cut_off(maps, margin).double() * window)
    band = Band((height, width), sigma, margin=margin, hann=hann)
    part = torch.complex(*band.spectrum(maps).movedim(-1, 2).unbind(1))
    rows, columns = part.shape[-2:]
    kept = [*range(rows // 2 + 1), *range(height - (rows - 1) // 2, height)]
    assert torch.allclose(part.to(spectrum.dtype), spectrum[:, :, kept, :columns], atol=1e-3)
    # What is left out is nothing in the label.
    label = torch.fft.rfft2(gaussian((height, width), sigma).double())
    assert torch.allclose(
        band.label.double(), torch.view_as_real(label[kept, :columns]).movedim(-1, 0), atol=1e-3
    )
    left = label.abs().clone()
    left[torch.tensor(kept)[:, None], torch.arange(columns)] = 0
    assert left.max() <= 2e-6 * label.abs().max()
    # What comes back is the map without it: the mean of the channels, where every coefficient was one.
    flat = torch.stack([torch.ones_like(part.real), torch.zeros_like(part.real)], dim=1).movedim(2, -1)
    back = band.answer(band.label, flat, band.spectrum(maps)) * (height * width)
    smooth = torch.fft.irfft2((spectrum * label.real).mean(dim=1), s=(height, width))
    assert torch.allclose(back.double(), smooth, atol=1e-4 * float(label.abs().max()))


@pytest.mark.parametrize(("size", "sigma"), [((125, 125), 4.2), ((121, 121), 4.2), ((16, 15), 0.6)])
@pytest.mark.parametrize("hann", [False, True])
def test_the_response_is_that_of_the_whole_spectrum(size: tuple[int, int], sigma: float, hann: bool) -> None:
    x, z = torch.randn(2, 1, 8, *size, generator=torch.Generator().manual_seed(4))
    z = x.roll((3, -2), (2, 3)) + 0.3 * z
    window = torch.from_numpy(np.outer(*(np.hanning(n) for n in size))) if hann else 1.0
    y = gaussian(size, sigma)
    expected = respond(whole(size), x * window, z * window, y.double(), 1e-4)
    found = respond(Band(size, sigma, hann=hann), x, z, y, 1e-4)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)


def test_leading_dimensions_broadcast() -> None:
    """One filter for several scales, as trackers ask it."""
    x, z = torch.randn(2, 1, 4, 9, 8), torch.randn(2, 3, 4, 9, 8)
    band, y = Band((9, 8), 1.0), gaussian((9, 8), 1.0)
    fx = band.spectrum(x.flatten(0, 1)).unflatten(0, (2, 1))
    fz = band.spectrum(z.flatten(0, 1)).unflatten(0, (2, 3))
    together = band.answer(band.fit(fx, band.label, 0.1), fx, fz)
    assert together.shape == (2, 3, 9, 8)
    for b, s in product(range(2), range(3)):
        alone = respond(band, x[b], z[b, s : s + 1], y, 0.1)
        torch.testing.assert_close(together[b, s : s + 1], alone)


@pytest.mark.parametrize("size", [(7, 7), (6, 9), (8, 5)])
def test_the_peak_is_where_the_content_has_moved_to_in_every_sample(size: tuple[int, int]) -> None:
    """A label rolled without an axis lies on the peak by luck only: in 2 of 32 samples, instead of in all."""
    height, width = size
    every = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    x = torch.randn(len(every), 5, *size, generator=torch.Generator().manual_seed(2))
    z = torch.stack([one.roll(tuple(by.tolist()), (1, 2)) for one, by in zip(x, every, strict=True)])
    y = gaussian(size, 1.0)
    response = respond(Band(size, 1.0), x, z, y, 1e-4)
    found = peaks(response)
    assert (found % torch.tensor(size) == every).all()
    assert (found.abs() <= torch.tensor(size) // 2).all()
    labels = rolled(y, found)
    assert (labels.flatten(1).argmax(1) == response.flatten(1).argmax(1)).all()
    expected = torch.stack([y.roll(tuple(by.tolist()), (0, 1)) for by in every])
    assert torch.equal(labels, expected)


def test_a_gaussian_wraps_around() -> None:
    y = gaussian((5, 4), 1.5)
    for down, right in product(range(5), range(4)):
        distance = min(down, 5 - down) ** 2 + min(right, 4 - right) ** 2
        assert float(y[down, right]) == pytest.approx(np.exp(-distance / 4.5))


def test_half_precision_stays_outside() -> None:
    x = torch.randn(2, 4, 11, 11)
    band = Band((11, 11), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        made = band.spectrum(x.bfloat16())
        alpha = band.fit(made, band.label, 1e-4)
        response = band.answer(alpha, made, made)
    assert made.dtype == alpha.dtype == response.dtype == torch.float32
    assert torch.equal(made, band.spectrum(x.bfloat16().float()))
