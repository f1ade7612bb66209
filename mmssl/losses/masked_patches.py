"""Masked image modelling: how far predicted patches are from the pixels that were hidden."""

from torch import Tensor


def normalise_patches(patches: Tensor) -> Tensor:
    """Each patch (…, p²·3) with zero mean and unit variance of its own (MAE, section 3 and its code)."""
    centred = patches - patches.mean(dim=-1, keepdim=True)
    variance = centred.square().sum(dim=-1, keepdim=True) / (patches.shape[-1] - 1)
    return centred / (variance + 1e-6).sqrt()


def masked_patch_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error (float32) over hidden patches only; both are (B, M, p²·3), M hidden an image."""
    return (prediction.float() - target.float()).square().mean()
