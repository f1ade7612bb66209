"""Walks on a graph whose nodes are patches of a video's frames (Jabri et al., NeurIPS 2020, section 3)."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

_EPSILON = 1e-20
"""In log(P + ε): a walk that cannot come back at all costs 46, as in the released code."""


def round_trips(q: Tensor, temperature: float, dropout: float = 0.0) -> Iterator[Tensor]:
    """P_k = A₀ A₁ ⋯ A_{k−1} Ā_{k−1} ⋯ Ā₁ Ā₀ for k = 1 … T − 1: k frames ahead and back again (equation 5).

    A_t leads from frame t to t + 1, Ā_t from t + 1 to t.

    Args:
        q: (B, T, N, d) unit vectors: N nodes of each of T frames.
        temperature: τ.
        dropout: δ, share of the edges that are taken away, of every A_t and Ā_t anew.

    Yields:
        (B, N, N) with rows that sum to 1: where walks from each node of frame 0 end in frame 0. In float32
        even under autocast; float64 stays.
    """
    with torch.autocast(q.device.type, enabled=False):
        q = q if q.dtype == torch.float64 else q.float()
        there = back = None
        for here, after in pairwise(q.unbind(1)):
            forth = transition(here, after, temperature, dropout)
            home = transition(after, here, temperature, dropout)
            there = forth if there is None else there @ forth
            back = home if back is None else home @ back
            yield there @ back


def transition(a: Tensor, b: Tensor, temperature: float, dropout: float = 0.0) -> Tensor:
    """(…, N, M) probabilities of a step from nodes a (…, N, d) to b (…, M, d): softmax of aᵀb / τ (eq. 2)."""
    logits = a @ b.mT / temperature
    return (drop_edges(logits, dropout) if dropout else logits).softmax(dim=-1)


def drop_edges(logits: Tensor, share: float) -> Tensor:
    """−∞ for a random share of the edges; a node that would lose all of them keeps them (section 3.3)."""
    dropped = torch.rand_like(logits) < share
    return logits.masked_fill(dropped & ~dropped.all(dim=-1, keepdim=True), -torch.inf)


def cycle_loss(p: Tensor) -> Tensor:
    """−log(P_ii + ε), mean over nodes and samples: every walk in (B, N, N) ought to end where it began."""
    return -(p.diagonal(dim1=-2, dim2=-1) + _EPSILON).log().mean()


def returned(p: Tensor) -> Tensor:
    """(B, N) 1 where a walk is likelier to end where it began than at any other node, else 0."""
    own = torch.arange(p.shape[-1], device=p.device)
    own_probability = p.diagonal(dim1=-2, dim2=-1)
    # a tie is lost: nodes that all look alike know nothing
    others = p.masked_fill(own[:, None] == own, -1.0).amax(dim=-1)
    return (own_probability > others).float()
