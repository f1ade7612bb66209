"""CPC's InfoNCE: a prediction has to find its target among candidates, whose pool is declared and counted.

van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, equation 4.
CPC over time, CPC on images and DPC differ only in what predicts and in where the candidates come from.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

Scoring = Literal["none", "sqrt_dim", "dim", "cosine"]
"""What the dot product of prediction and candidate (d numbers each) is divided by: nothing (the paper), √d, d
(the speech code of its authors' successors), or both lengths and a temperature."""

Negatives = Literal["all", "other_sequences", "same_sequence"]
"""``all``: every candidate of the global batch; ``other_sequences``: those of other samples;
``same_sequence``: the other positions of the predicted sequence itself."""


class Pool(NamedTuple):
    """The candidates of a global batch of M = world·B sequences with P positions each, and who is who.

    B sequences are this rank's own; positions are moments, patches, or both.
    """

    z: Tensor
    """(M, P, d) of all ranks in rank order, differentiable."""
    own: Tensor
    """(B,) int64: which rows of ``z`` are this rank's."""
    related: Tensor
    """(B, M) bool: that row comes from the same sample, for instance in another pass."""
    twins: Tensor
    """(B, P, M, P) bool: that candidate shows what this rank's candidate shows; itself included."""


class Prediction(NamedTuple):
    """How well one step was predicted; all but ``loss`` are detached scalars."""

    loss: Tensor
    """Mean over anchors, in nats."""
    accuracy: Tensor
    """Share of anchors whose target scores above every negative; ties and anchors without any are misses."""
    negatives: Tensor
    """Negatives of an anchor, on average."""
    bound: Tensor
    """log N − L in nats, N = 1 + negatives: what the prediction knows of its target at least (equation 5)."""


def predictive_nce(
    predicted: Tensor,
    target: Tensor,
    pool: Pool,
    *,
    negatives: Negatives = "all",
    scoring: Scoring = "none",
    temperature: float = 1.0,
) -> Prediction:
    """L = −log f(z₊) / (f(z₊) + Σ_j f(z_j)) with f(z) = exp(score(z, prediction)), mean over B·A anchors.

    Args:
        predicted: (B, A, d) this rank's predictions, A of each sequence.
        target: (A,) int64 position in the own sequence that each of them predicts.
        pool: positives and negatives; a positive is never its own negative, nor is one of its twins.
        temperature: used with ``cosine`` only.

    Averaged over ranks it is the loss of the whole batch, and so are its gradients where ``pool.z`` has them.
    """
    score = scores(predicted, pool.z, scoring, temperature).flatten(0, 1).flatten(1)  # (B·A, M·P)
    admitted = admit(pool, target, negatives).flatten(0, 1).flatten(1)
    positive = (pool.own[:, None] * pool.z.shape[1] + target).flatten()
    candidate = admitted.scatter(1, positive[:, None], True)
    loss = cross_entropy(score.masked_fill(~candidate, -torch.inf), positive, reduction="none")
    with torch.no_grad():
        count = admitted.sum(dim=1)
        best = score.masked_fill(~admitted, -torch.inf).amax(dim=1)
        hit = (score.gather(1, positive[:, None])[:, 0] > best) & (count > 0)
        bound = (count + 1).to(loss.dtype).log() - loss
    return Prediction(loss.mean(), hit.float().mean(), count.float().mean(), bound.mean())


def scores(predicted: Tensor, candidates: Tensor, scoring: Scoring, temperature: float = 1.0) -> Tensor:
    """(B, A, M, P) of predictions (B, A, d) and candidates (M, P, d), in float32 even under autocast."""
    with torch.autocast(predicted.device.type, enabled=False):
        p, z = _full(predicted), _full(candidates)
        match scoring:
            case "none":
                scale = 1.0
            case "sqrt_dim":
                scale = z.shape[-1] ** -0.5
            case "dim":
                scale = 1.0 / z.shape[-1]
            case "cosine":
                p, z, scale = normalize(p, dim=-1), normalize(z, dim=-1), 1.0 / temperature
        dots = (p.flatten(0, 1) * scale) @ z.flatten(0, 1).T
        return dots.unflatten(1, z.shape[:2]).unflatten(0, p.shape[:2])


def admit(pool: Pool, target: Tensor, negatives: Negatives) -> Tensor:
    """(B, A, M, P) bool: the negatives of each anchor; never its positive or what shows the same."""
    strangers = ~pool.twins[:, target]
    if negatives == "all":
        return strangers
    if negatives == "other_sequences":
        return strangers & ~pool.related[:, None, :, None]
    row = torch.arange(len(pool.z), device=pool.own.device)
    return strangers & (row == pool.own[:, None])[:, None, :, None]


def _full(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
