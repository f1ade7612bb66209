"""Patch targets and their loss against numpy in float64."""

import numpy as np
import torch

from mmssl.losses.masked_patches import masked_patch_loss, normalise_patches


def test_targets_have_zero_mean_and_unit_variance_each() -> None:
    patches = torch.rand(3, 5, 48) * 7 - 2
    exact = patches.numpy().astype(np.float64)
    expected = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(normalise_patches(patches).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_flat_patch_stays_finite() -> None:
    assert torch.equal(normalise_patches(torch.full((1, 1, 12), 0.5)), torch.zeros(1, 1, 12))


def test_loss_is_the_mean_square_in_float32() -> None:
    prediction, target = torch.randn(2, 3, 12, dtype=torch.bfloat16), torch.randn(2, 3, 12)
    expected = np.mean((prediction.double().numpy() - target.double().numpy()) ** 2)
    found = masked_patch_loss(prediction, target)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)
