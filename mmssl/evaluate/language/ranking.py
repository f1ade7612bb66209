"""Retrieval with several right answers: where the first one stands, and where guessing would put it.

The hit rate R@k of image-text retrieval is the share of queries with at least one right answer among the
first k (Karpathy & Fei-Fei, CVPR 2015, section 4.2), which is not recall: that divides by the right ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 512
"""Queries compared with all candidates at a time."""
_EQUAL = 1e-6
"""Cosines of float32 features that differ by less are equal."""


@dataclass(frozen=True)
class Truth:
    """Which of m captions are right for which of n samples: its own, and those of the same text."""

    of: Tensor
    """(m,) int64: the sample that each caption was written for."""
    same: Tensor
    """(m,) int64 in 0 .. texts - 1; equal for equal texts."""
    samples: int
    """n."""

    @property
    def texts(self) -> int:
        """Different ones."""
        return int(self.same.max()) + 1

    @property
    def caption(self) -> Tensor:
        """(texts,) int64: the first caption of each text."""
        first = torch.full((self.texts,), len(self.same))
        return first.scatter_reduce_(0, self.same, torch.arange(len(self.same)), "amin")

    def texts_of(self, rows: Tensor) -> Tensor:
        """(len(rows), texts) bool: the texts that are right for these samples."""
        place = torch.full((self.samples,), -1)
        place[rows] = torch.arange(len(rows))
        own = place[self.of] >= 0
        said = torch.zeros(len(rows), self.texts, dtype=torch.bool)
        said[place[self.of[own]], self.same[own]] = True
        return said

    def samples_of(self, rows: Tensor) -> Tensor:
        """(len(rows), n) bool: the samples that are right for these captions."""
        texts, text = self.same[rows].unique(return_inverse=True)
        place = torch.full((self.texts,), -1)
        place[texts] = torch.arange(len(texts))
        own = place[self.same] >= 0
        said_of = torch.zeros(len(texts), self.samples, dtype=torch.bool)
        said_of[place[self.same[own]], self.of[own]] = True
        return said_of[text]


def first_hits(similarity: Tensor, right: Tensor) -> Tensor:
    """(q,) int64 rank, from 1, of the first right answer to each query.

    What is as similar as it, within the precision of features, is ranked before it, and so is what cannot be
    compared (NaN): a network that maps everything to one point finds nothing.

    Args:
        similarity: (q, c) of queries and candidates.
        right: (q, c) bool, at least one in each row.
    """
    best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
    before = ~right & ~(similarity < best - _EQUAL)
    return 1 + before.sum(dim=1)


@dataclass(frozen=True)
class Chance:
    """Ranks of the first right answer in random order, over queries with ``right`` (q,) of ``candidates``."""

    right: Tensor
    candidates: int

    @property
    def beyond(self) -> Tensor:
        """(c + 1,) float64: probability of a rank > k for k = 0 .. c, the mean over queries.

        Of one query it is C(c - r, k) / C(c, k).
        """
        r, queries = self.right.unique(return_counts=True)
        drawn = torch.arange(self.candidates, dtype=torch.float64)
        miss = (self.candidates - r[:, None] - drawn).clamp_min(0) / (self.candidates - drawn)
        of_each = torch.cat([torch.ones(len(r), 1, dtype=torch.float64), miss.cumprod(dim=1)], dim=1)
        return (of_each * queries[:, None]).sum(dim=0) / queries.sum()

    def hits(self, ks: Sequence[int]) -> list[float]:
        """Expected R@k, 0..1."""
        beyond = self.beyond
        return [1 - float(beyond[min(k, self.candidates)]) for k in ks]

    @property
    def mean(self) -> float:
        """Expected rank: (c + 1) / (r + 1) of one query."""
        return float(((self.candidates + 1) / (self.right.double() + 1)).mean())

    @property
    def median(self) -> float:
        """Of the ranks of all queries together; between two where both halve them."""
        reached = 1 - self.beyond
        first = int((reached >= 0.5 - 1e-12).nonzero()[0])
        return (first + int((reached > 0.5 + 1e-12).nonzero()[0])) / 2
