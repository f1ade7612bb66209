"""Signs of collapse that need no labels, measured on the embeddings of the training batch."""

import torch
from torch import Tensor

ROWS = 512
"""Embeddings looked at: enough for the spectrum of common widths, cheap beside a training step."""


def rankme(z: Tensor, epsilon: float = 1e-7) -> float:
    """RankMe (Garrido et al., ICML 2023, eq. 1-2): exp of the entropy of the normalised singular values.

    Args:
        z: (N, d) embeddings, any float dtype.

    Returns:
        effective rank, from 1 (all on one line) to about min(N, d).
    """
    z = z.double()
    gram = z @ z.T if z.shape[0] < z.shape[1] else z.T @ z
    sigma = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    p = sigma / sigma.sum().clamp_min(torch.finfo(sigma.dtype).tiny) + epsilon
    return float((-(p * p.log()).sum()).exp())


def spread(z: Tensor) -> float:
    """Mean per-dimension standard deviation of the unit-length embeddings, times √d (Chen & He 2021, fig. 2).

    1 when directions are spread evenly over the sphere, 0 when all embeddings are the same.
    """
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    return float(unit.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5)


def health(z: Tensor) -> dict[str, float]:
    """Both signs for (N, d) embeddings; only the first ``ROWS`` rows are looked at."""
    z = z.detach()[:ROWS].float().cpu()
    if not bool(z.isfinite().all()):
        return {}
    return {"rankme": rankme(z), "std": spread(z)}
