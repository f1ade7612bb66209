"""Contrast over scores: binary NCE against uniform noise with a frozen normaliser, and its softmax variant.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018), section
3.2; Tian et al., "Contrastive Multiview Coding" (ECCV 2020), section 3 and appendix. Both take the similarity
of an anchor with its own second view and with a pool of others, compute in float32 even under autocast, and
return the ``Contrast`` of the contrastive family.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from mmssl import distributed
from mmssl.losses.info_nce import Contrast


class Scores(NamedTuple):
    """Cosine similarities of n anchors with what they are compared with, before the temperature."""

    positive: Tensor
    """(n,) with the other view of the same sample."""
    noise: Tensor
    """(n, m) with others; −∞ for those that are no negatives: the anchor's own sample, an absent view."""
    weight: Tensor
    """(n,) share of each anchor in the mean: 0 where one of its two views is absent. Sums to 1; on several
    ranks to 1 on average over them, so that the mean of the ranks' losses is that of the whole batch."""


def nce(scores: Scores, temperature: float, log_z: Tensor, samples: int) -> Contrast:
    """Is it the sample or is it noise? With p = exp(s/τ)/Z, uniform noise Pₙ = 1/N and m noise samples,

        h(s) = p / (p + m Pₙ)        L = −log h(s₊) − Σₖ log(1 − h(sₖ))

    In logarithms h is the sigmoid of s/τ − log Z − log(m/N), and nothing overflows. Noise drawn uniformly
    from all N may hit the anchor itself: such draws are −∞ and count for nothing, and every *other* sample is
    still expected m/N times, which is all the formula asks.

    Args:
        log_z: () logarithm of the normaliser Z, frozen: see ``log_normaliser``.
        samples: N.
    """
    with torch.autocast(scores.noise.device.type, enabled=False):
        scores = _full(scores)
        shift = log_z.to(scores.noise) + (scores.noise.new_tensor(scores.noise.shape[1] / samples)).log()
        positive = scores.positive / temperature - shift
        noise = scores.noise / temperature - shift
        rows = softplus(noise).sum(dim=1) - logsigmoid(positive)  # −log(1 − σ(x)) = softplus(x)
        with torch.no_grad():
            probability, push = positive.sigmoid(), noise.sigmoid()
        return _contrast(scores, rows, probability, push)


def softmax_nce(scores: Scores, temperature: float) -> Contrast:
    """InfoNCE over the same scores: L = −log exp(s₊/τ) / (exp(s₊/τ) + Σₖ exp(sₖ/τ))."""
    with torch.autocast(scores.noise.device.type, enabled=False):
        scores = _full(scores)
        logits = torch.cat([scores.positive[:, None], scores.noise], dim=1) / temperature
        total = logits.logsumexp(dim=1)
        rows = total - logits[:, 0]
        with torch.no_grad():
            probability = (logits - total[:, None]).exp()
        return _contrast(scores, rows, probability[:, 0], probability[:, 1:])


@torch.no_grad()
def log_normaliser(scores: Scores, temperature: float, samples: int) -> Tensor:
    """log Z, Z = N · mean of exp(s/τ) over all candidates of the batch, the positives among them: the Monte
    Carlo estimate of Wu et al. over all ranks; () float64, NaN if no rank has an anchor with both views."""
    positive, noise, weights = (x.double() for x in scores)
    each = (noise / temperature).exp().sum(dim=1) + (positive / temperature).exp()
    each = each / (1 + (noise > -torch.inf).sum(dim=1))
    total, weight = distributed.mean(torch.stack([(weights * each).sum(), weights.sum()]))
    return (samples * total / weight).log()


def _full(scores: Scores) -> Scores:
    """float32 at least; float64 stays, for gradient checks."""
    return scores if scores.noise.dtype == torch.float64 else Scores(*(x.float() for x in scores))


def _contrast(scores: Scores, rows: Tensor, probability: Tensor, push: Tensor) -> Contrast:
    """The weighted mean of the losses ``rows`` (n,), and what is worth logging beside it.

    ``probability`` (n,) is what the positive is given; ``push`` (n, m) the gradient of each negative.
    """
    with torch.no_grad():
        none = scores.noise == -torch.inf
        count = none.shape[1] - none.sum(dim=1)
        similarity = scores.noise.masked_fill(none, 0.0).sum(dim=1) / count.clamp_min(1)
        # exp(entropy) of p = push / S, without writing p: log S + Σ entr(push) / S
        pushed = push.sum(dim=1).clamp_min(torch.finfo(push.dtype).tiny)
        effective = (pushed.log() + torch.special.entr(push).sum(dim=1) / pushed).exp()
        watched = torch.stack(
            [
                (scores.positive > scores.noise.amax(dim=1)).to(rows.dtype),
                probability,
                scores.positive,
                similarity,
                count.to(rows.dtype),
                effective,
            ]
        )
        top1, probable, own, others, negatives, effective = (watched @ scores.weight).unbind()
    return Contrast((scores.weight * rows).sum(), top1, probable, own, others, negatives, effective)
