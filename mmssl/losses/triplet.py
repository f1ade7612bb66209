"""The triplet loss with semi-hard negatives, over whatever pairs a mask calls positive and negative."""

from typing import NamedTuple

import torch
from torch import Tensor


class Triplets(NamedTuple):
    """The loss and what is worth watching beside it; all but ``loss`` are detached scalars."""

    loss: Tensor
    pairs: Tensor
    """Positive pairs that the loss is a mean over: those whose anchor has a negative."""
    active: Tensor
    """Share of triplets that violate the margin: the others give no gradient."""
    semi_hard: Tensor
    """Share of pairs that have a negative farther than the positive; the rest take their farthest one."""
    positive_distance: Tensor
    """Mean squared distance of the pairs."""
    negative_distance: Tensor
    """Mean squared distance of the negatives that were chosen."""

    def parts(self) -> dict[str, Tensor]:
        """What a method logs."""
        return {name: value for name, value in self._asdict().items() if name != "loss"}


def semi_hard_triplet(
    anchors: Tensor, candidates: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> Triplets:
    """max(0, D(a, p) + margin − D(a, n)), mean over the positive pairs (Schroff et al., FaceNet, CVPR 2015).

    D is the squared Euclidean distance, and n the closest negative of the anchor that is farther than p;
    where there is none, the farthest negative (Sermanet et al., "Time-Contrastive Networks", ICRA 2018).

    Args:
        anchors: (n, d), unit vectors in TCN.
        candidates: (m, d), positives and negatives of all anchors.
        positive, negative: (n, m) bool: what each candidate is to each anchor, neither of them allowed.

    Computed in float32 at least; without any pair the loss is a differentiable 0.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        a, c = _full(anchors), _full(candidates)
        distance = a.square().sum(1)[:, None] + c.square().sum(1) - 2 * (a @ c.T)
        distance = distance.clamp_min(0.0)  # rounding must not make a distance negative
        with torch.no_grad():
            ranked, order = distance.masked_fill(~negative, torch.inf).sort(dim=1)
            count = negative.sum(dim=1, keepdim=True)
            first_farther = torch.searchsorted(ranked, distance.detach(), right=True)
            has_farther = first_farther < count
            place = torch.minimum(first_farther, count - 1).clamp_min(0)
            chosen = order.gather(1, place)
            pair = positive & (count > 0)
        to_negative = distance.gather(1, chosen)
        hinge = (distance - to_negative + margin).clamp_min(0.0)
        pairs = pair.sum()

        def mean(x: Tensor) -> Tensor:
            return torch.where(pair, x, 0.0).sum() / pairs.clamp_min(1)

        loss = mean(hinge)
        return Triplets(
            loss,
            pairs.to(loss.dtype),
            mean((hinge.detach() > 0).to(loss.dtype)),
            mean(has_farther.to(loss.dtype)),
            mean(distance.detach()),
            mean(to_negative.detach()),
        )


def _full(x: Tensor) -> Tensor:
    """float32 at least; float64 stays, for gradient checks."""
    return x if x.dtype == torch.float64 else x.float()
