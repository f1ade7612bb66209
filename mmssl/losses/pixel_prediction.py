"""How far a predicted picture is from the true one, over those pixels of which the truth is known.

The predictive objectives that Contrastive Multiview Coding is compared with (Tian et al., ECCV 2020,
"predictive learning vs. contrastive learning"). All compute in float32 at least, even under autocast.
"""

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy


def pixel_distance(prediction: Tensor, target: Tensor, known: Tensor, norm: Literal["l1", "l2"]) -> Tensor:
    """Mean of |x̂ − x| or (x̂ − x)² over the channels of known pixels.

    Zero, with a gradient of zero, where no pixel is known.

    Args:
        prediction, target: (B, C, H, W) float; the target may hold anything, NaN too, where it is unknown.
        known: (B, H, W) bool.
    """
    known = known[:, None]
    difference = _full(prediction) - _full(target).masked_fill(~known, 0.0)
    errors = difference.abs() if norm == "l1" else difference.square()
    return _mean(errors, known.expand_as(errors))


def pixel_cross_entropy(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean of −log softmax(logits)[target] over known pixels; zero, with a gradient of zero, if none is.

    Args:
        logits: (B, C, H, W) float.
        target: (B, H, W) int64 in 0..C-1; anything of that range where it is unknown.
        known: (B, H, W) bool.
    """
    return _mean(cross_entropy(_full(logits), target, reduction="none"), known)


def _mean(errors: Tensor, known: Tensor) -> Tensor:
    return errors.masked_fill(~known, 0.0).sum() / known.sum().clamp_min(1)


def _full(x: Tensor) -> Tensor:
    return x if x.itemsize > 4 else x.float()
