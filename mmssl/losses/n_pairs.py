"""Softmax losses over pairs that share a moment: n-pairs, and InfoNCE where several positives are allowed.

Both are cross-entropies of anchors against candidates under masks: several candidates may show an anchor's
moment, and some show neither the same moment nor another one for certain.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from mmssl.losses.info_nce import Contrast


class PairContrast(NamedTuple):
    """A contrast, and the number of anchors that it is a mean over (detached)."""

    contrast: Contrast
    anchors: Tensor


def n_pairs(
    anchors: Tensor,
    positives: Tensor,
    candidates: Tensor,
    positive: Tensor,
    negative: Tensor,
    penalty: float = 0.002,
) -> PairContrast:
    """N-pairs loss (Sohn, NIPS 2016): cross-entropy over a·c, plus λ/4 · (‖a‖² + ‖p‖²), mean over anchors.

    The embeddings are not normalised: their length is the temperature, and the penalty holds it.

    Args:
        anchors: (n, d).
        positives: (n, d) their partners, for the penalty.
        candidates: (m, d) the partners of all anchors, of all ranks.
        positive, negative: (n, m) bool; anchors with several positives share their target equally among them.
        penalty: λ.
    """
    found = paired_info_nce(anchors, candidates, positive, negative, temperature=1.0)
    with torch.autocast(anchors.device.type, enabled=False):
        length = _full(anchors).square().sum(1) + _full(positives).square().sum(1)
        counted = torch.where(positive.any(1) & negative.any(1), length, 0.0)
        held = 0.25 * penalty * counted.sum() / found.anchors.clamp_min(1)
    return found._replace(contrast=found.contrast._replace(loss=found.contrast.loss + held))


def paired_info_nce(
    anchors: Tensor, candidates: Tensor, positive: Tensor, negative: Tensor, temperature: float
) -> PairContrast:
    """−Σ_p log(exp(a·p/τ) / Σ_c exp(a·c/τ)) / |P|: mean over anchors with positives P and a negative.

    c runs over positives and negatives; a candidate that is neither plays no part. With one positive each
    this is ``info_nce`` with every anchor's own negatives.

    Args:
        anchors: (n, d), candidates: (m, d); unit vectors in InfoNCE.
        positive, negative: (n, m) bool.

    Computed in float32 at least; without any anchor the loss is a differentiable 0.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        similarity = _full(anchors) @ _full(candidates).T
        anchor = positive.any(1) & negative.any(1)
        count = anchor.sum()
        logits = similarity / temperature
        # rows that are no anchors keep all their logits: a softmax over nothing has no gradient but nan
        outside = anchor[:, None] & ~(positive | negative)
        log_p = log_softmax(logits.masked_fill(outside, -torch.inf), dim=1)
        cross_entropy = -_row_mean(log_p, positive)

        def mean(x: Tensor) -> Tensor:
            return torch.where(anchor, x, 0.0).sum() / count.clamp_min(1)

        loss = mean(cross_entropy)
        with torch.no_grad():
            only = similarity.masked_fill(outside, -torch.inf)
            hit = positive.gather(1, only.argmax(dim=1, keepdim=True))[:, 0]
            share = log_p.exp().masked_fill(~negative, 0.0)
            share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
            contrast = Contrast(
                loss,
                mean(hit.to(loss.dtype)),
                mean(_row_mean(log_p.exp(), positive)),
                mean(_row_mean(similarity, positive)),
                mean(_row_mean(similarity, negative)),
                mean(negative.sum(1).to(loss.dtype)),
                mean(torch.special.entr(share).sum(1).exp()),
            )
        return PairContrast(contrast, count.to(loss.dtype))


def _row_mean(x: Tensor, chosen: Tensor) -> Tensor:
    """(n,) mean of each row of x (n, m) where ``chosen``; 0 where nothing is."""
    return torch.where(chosen, x, 0.0).sum(1) / chosen.sum(1).clamp_min(1)


def _full(x: Tensor) -> Tensor:
    """float32 at least; float64 stays, for gradient checks."""
    return x if x.dtype == torch.float64 else x.float()
