"""How much of their space a set of embeddings fills: signs of collapse that need no labels."""

import torch
from torch import Tensor
from torch.nn.functional import normalize, pdist


def rankme(x: Tensor) -> float:
    """RankMe (Garrido et al., ICML 2023, eq. 1): exp H(σ / Σσ), σ the singular values of (N, d) embeddings.

    From 1 (all on one line) to min(N, d).
    """
    x = x.double()
    # eigenvalues of the smaller Gram matrix are the squares of σ, at a fraction of the cost of an SVD
    gram = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
    return _perplexity(torch.linalg.eigvalsh(gram).clamp_min(0).sqrt())


def effective_rank(x: Tensor) -> float:
    """exp H(λ / Σλ), λ the covariance's eigenvalues (Roy & Vetterli, EUSIPCO 2007)."""
    centred = x.double() - x.double().mean(0)
    return _perplexity(torch.linalg.svdvals(centred).square())


def spread(x: Tensor) -> float:
    """Mean over dimensions of the std of L2-normalised rows, × √d (Chen & He, SimSiam, section 4.1).

    1 when directions are spread evenly over the sphere, 0 when all embeddings are the same.
    """
    return float(normalize(x.double(), dim=1).std(0, correction=0).mean()) * x.shape[1] ** 0.5


def uniformity(x: Tensor) -> float:
    """log E exp(−2‖a − b‖²) over pairs of L2-normalised rows (Wang & Isola, ICML 2020, eq. 7 with t = 2)."""
    squared = pdist(normalize(x.double(), dim=1)).square()
    return float((-2 * squared).exp().mean().log()) if len(squared) else 0.0


def _perplexity(weights: Tensor) -> float:
    share = weights / weights.sum().clamp_min(1e-12)
    return float(torch.special.entr(share).sum().exp())
