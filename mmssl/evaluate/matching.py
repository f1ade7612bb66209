"""Nearest neighbours in time: which moment of another video looks like this one, and how far off it is."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Distance = Literal["cosine", "euclidean"]

_TIE = 1e-6
"""Distances that differ by less, relative to the vectors' length, are equal: rounding must not decide."""


def nearest(a: Tensor, b: Tensor, distance: Distance = "cosine", allowed: Tensor | None = None) -> Tensor:
    """(n, m) float64: row i is uniform over the rows of ``b`` (m, d) nearest to row i of ``a`` (n, d).

    Where several are equally near, a guess among them: a constant embedding then scores what chance scores,
    and not what the first moment of a video happens to score.

    Args:
        a, b: features.
        distance: Euclidean, of unit vectors for ``cosine``.
        allowed: (n, m) bool; a row without any allowed neighbour is all zero.
    """
    a, b = a.double(), b.double()
    if distance == "cosine":
        a, b = normalize(a, dim=1), normalize(b, dim=1)
    gaps = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    if allowed is not None:
        gaps = gaps.masked_fill(~allowed, torch.inf)
    length = float(b.square().sum(1).mean().sqrt())
    tied = (gaps <= gaps.min(dim=1, keepdim=True).values + _TIE * max(length, 1e-12)) & gaps.isfinite()
    return tied.double() / tied.sum(1, keepdim=True).clamp_min(1)


def kendall(order: Tensor) -> float:
    """Kendall's τ-b between 0, 1, …, n-1 and ``order`` (n,); NaN where ``order`` is constant or n < 2.

    (concordant − discordant pairs) / √(pairs · pairs that are not tied); Kendall, "The treatment of ties in
    ranking problems", Biometrika 1945.
    """
    n = len(order)
    step = torch.sign(order[None, :].double() - order[:, None].double()).triu(1)
    pairs, untied = n * (n - 1) / 2, float(step.abs().sum())
    return float(step.sum()) / (pairs * untied) ** 0.5 if untied else float("nan")


def recall(hits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of ``hits`` (n,) within each class of ``classes`` (n,) that occurs: (the classes, their recall).

    Classes that are never found have recall 0 and stay in; TCN's reference averages over the others only.
    """
    found, rows = classes.unique(return_inverse=True)
    sums = torch.zeros(len(found), dtype=torch.float64).scatter_add_(0, rows, hits.double())
    return found, sums / torch.bincount(rows, minlength=len(found))
