"""The filter in Fourier space against ridge regression over all shifts, and its hand-written gradients."""

from itertools import product

import numpy as np
import pytest
import torch

from mmssl.models.correlation_filter import (
    answer,
    fit,
    gaussian,
    learn,
    peaks,
    respond,
    rolled,
    spectrum,
)

SIZES = [(6, 6), (7, 7), (6, 7), (7, 6), (1, 5)]


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
    label = torch.fft.rfft2(torch.from_numpy(y))
    for lam in (1e-2, 1.0):
        response = respond(learn(torch.from_numpy(x), label, lam), torch.from_numpy(z))
        for b in range(2):
            np.testing.assert_allclose(response[b], dense(x[b], z[b], y, lam), atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_a_whole_filter(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(2, 3, *size, dtype=torch.float64, generator=generator) for _ in range(2))
    label = torch.fft.rfft2(torch.rand(2, *size, dtype=torch.float64, generator=generator))

    def response(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return respond(learn(x, label, 0.1), z)

    assert torch.autograd.gradcheck(response, (x.requires_grad_(), z.requires_grad_()))


def test_gradients_are_those_of_torch_in_float32() -> None:
    x, z = torch.randn(2, 3, 8, 25, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = gaussian((25, 24), 2.0)
    ours = torch.autograd.grad(respond(learn(x, spectrum(y), 1e-2), z).square().sum(), (x, z))
    fx, fz = torch.fft.rfft2(x), torch.fft.rfft2(z)
    alpha = torch.fft.rfft2(y) / ((fx.abs() ** 2).mean(1) / (25 * 24) + 1e-2)
    plain = torch.fft.irfft2(alpha * (fz * fx.conj()).mean(1) / (25 * 24), s=(25, 24))
    theirs = torch.autograd.grad(plain.square().sum(), (x, z))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_leading_dimensions_broadcast() -> None:
    """One filter for several scales, and a filter without a batch."""
    x, z = torch.randn(2, 1, 4, 9, 8), torch.randn(2, 3, 4, 9, 8)
    label = spectrum(gaussian((9, 8), 1.0))
    together = respond(learn(x, label, 0.1), z)
    assert together.shape == (2, 3, 9, 8)
    for b, s in product(range(2), range(3)):
        alone = respond(learn(x[b, 0], label, 0.1), z[b, s])
        torch.testing.assert_close(together[b, s], alone)


@pytest.mark.parametrize("size", [(7, 7), (6, 9), (8, 5)])
def test_the_peak_is_where_the_content_has_moved_to_in_every_sample(size: tuple[int, int]) -> None:
    """A label rolled without an axis lies on the peak by luck only: in 2 of 32 samples, instead of in all."""
    height, width = size
    every = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    x = torch.randn(len(every), 5, *size, generator=torch.Generator().manual_seed(2))
    z = torch.stack([one.roll(tuple(by.tolist()), (1, 2)) for one, by in zip(x, every, strict=True)])
    y = gaussian(size, 1.0)
    response = respond(learn(x, spectrum(y), 1e-4), z)
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
    with torch.autocast("cpu", torch.bfloat16):
        made = spectrum(x.bfloat16())
        learned = fit(made, (11, 11), spectrum(gaussian((11, 11), 1.0)), 1e-4)
        response = answer(learned, made)
    assert made.dtype == learned.alpha.dtype == torch.complex64
    assert response.dtype == torch.float32
    torch.testing.assert_close(made, torch.fft.rfft2(x.bfloat16().float()))
