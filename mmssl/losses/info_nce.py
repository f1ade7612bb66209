"""The contrastive family: InfoNCE with a queue, NT-Xent over two views, and MoCo v3's loss over a batch.

All of them are cross-entropies over similarities; all take unit vectors, compute in float32 even under
autocast, and return a ``Contrast``. ``candidates`` may come from all ranks (``mmssl.distributed.gather``).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class Contrast(NamedTuple):
    """A contrastive loss and what is worth watching beside it; all but ``loss`` are detached scalars."""

    loss: Tensor
    top1: Tensor
    """Share of anchors whose positive is more similar than every negative, 0..1."""
    positive_probability: Tensor
    """Mean softmax probability of the positive."""
    positive_similarity: Tensor
    """Mean cosine similarity of anchor and positive, before the temperature."""
    negative_similarity: Tensor
    """Mean cosine similarity of anchor and negatives, before the temperature."""
    negatives: Tensor
    """Negatives for each anchor."""
    effective_negatives: Tensor
    """exp(entropy of the softmax over the negatives), averaged: how many of them share the gradient."""

    def parts(self) -> dict[str, Tensor]:
        """What a method logs."""
        return {name: value for name, value in self._asdict().items() if name != "loss"}


def info_nce(q: Tensor, k: Tensor, negatives: Tensor, temperature: float) -> Contrast:
    """InfoNCE: L = −log exp(q·k₊/τ) / (exp(q·k₊/τ) + Σ_i exp(q·k_i/τ)), mean over q (MoCo, equation 1).

    Args:
        q: (B, d) anchors, unit vectors.
        k: (B, d) the positive of each anchor.
        negatives: (K, d) shared by all anchors.
    """
    with torch.autocast(q.device.type, enabled=False):
        positive = (_full(q) * _full(k)).sum(dim=1, keepdim=True)
        similarity = torch.cat([positive, _full(q) @ _full(negatives).T], dim=1)
        target = torch.zeros(len(q), dtype=torch.int64, device=q.device)
        return _cross_entropy(similarity, target, temperature)


def nt_xent(z: Tensor, candidates: Tensor, rank: int, temperature: float) -> Contrast:
    """NT-Xent (SimCLR, equation 1): each view's positive is the other view of its image, all else repels.

    Args:
        z: (B, 2, d) this rank's views, unit vectors.
        candidates: (world·B, 2, d) the views of all ranks in rank order, ``z`` among them.

    The loss is the mean over this rank's 2·B views; averaged over ranks it is the loss of the whole batch.
    """
    with torch.autocast(z.device.type, enabled=False):
        similarity = _full(z).flatten(0, 1) @ _full(candidates).flatten(0, 1).T
        row = torch.arange(len(similarity), device=z.device)
        own = row + rank * len(similarity)
        # a view is no candidate for itself: 1[k≠i] in the denominator
        similarity = similarity.index_put((row, own), similarity.new_tensor(-torch.inf))
        return _cross_entropy(similarity, own ^ 1, temperature, excluded=1)


def batch_contrast(q: Tensor, candidates: Tensor, rank: int, temperature: float) -> Contrast:
    """MoCo v3's ctr(q, k): the keys of the other images of the global batch are the negatives (algorithm 1).

    Args:
        q: (B, d) this rank's queries, unit vectors.
        candidates: (world·B, d) the keys of all ranks in rank order.

    Scaled by 2τ as in the paper, so that the gradient's size depends little on the temperature.
    """
    with torch.autocast(q.device.type, enabled=False):
        similarity = _full(q) @ _full(candidates).T
        target = torch.arange(len(q), device=q.device) + rank * len(q)
        contrast = _cross_entropy(similarity, target, temperature)
    return contrast._replace(loss=contrast.loss * 2.0 * temperature)


def _full(x: Tensor) -> Tensor:
    """float32 at least; float64 stays, for gradient checks."""
    return x if x.dtype == torch.float64 else x.float()


def _cross_entropy(similarity: Tensor, target: Tensor, temperature: float, excluded: int = 0) -> Contrast:
    """Over similarity (n, m) with one target column a row; ``excluded`` columns a row hold −∞."""
    logits = similarity / temperature
    loss = cross_entropy(logits, target)
    with torch.no_grad():
        column = target[:, None]
        positive = similarity.gather(1, column)
        probability = logits.softmax(dim=1)
        positive_probability = probability.gather(1, column)
        top1 = (similarity.argmax(dim=1, keepdim=True) == column).float().mean()
        count = similarity.shape[1] - 1 - excluded
        finite = similarity.masked_fill(similarity.isinf(), 0.0)
        negative_mean = (finite.sum(dim=1, keepdim=True) - positive).mean() / max(count, 1)
        share = probability.scatter(1, column, 0.0)
        share = share / share.sum(dim=1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
        effective = torch.special.entr(share).sum(dim=1).exp().mean()
    return Contrast(
        loss,
        top1,
        positive_probability.mean(),
        positive.mean(),
        negative_mean,
        similarity.new_tensor(float(count)),
        effective,
    )
