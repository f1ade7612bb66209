"""Weighted k-nearest-neighbour classification of frozen features.

Protocol of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018,
section 3.4), with the numbers of neighbours that DINO (Caron et al., ICCV 2021) made customary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.classify import tasks

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

CHUNK = 1024
"""Queries compared with the gallery at a time: bounds memory to CHUNK × gallery similarities."""


class KNNConfig(EvaluationConfig):
    """Weighted k-nearest-neighbour classification."""

    name: Literal["knn"] = "knn"
    encoder: str | None = None
    """By the name of the view it reads, or ``A+B`` for both; by default the only one there is."""
    k: tuple[PositiveInt, ...] = (20, 10, 100, 200)
    """Numbers of neighbours; the first is the headline, written as metric ``accuracy``."""
    temperature: PositiveFloat = 0.07
    """T: a neighbour at cosine similarity s votes with weight exp(s / T)."""
    labels: tuple[str, ...] = ()
    """Label names to classify by; empty = every label that the gallery and the queries have."""


class KNN(Evaluation):
    """One score for each label name and each k; classes are decided by the gallery's labels."""

    Config = KNNConfig

    def run(self, subject: "Subject") -> list[Score]:
        config = self.config
        scores = []
        for task in tasks(subject, config.encoder, config.labels, cosine=True):
            ks, temperature = config.k, config.temperature
            answers = weighted_knn(task.x, task.y, task.queries, ks, temperature, task.classes)
            for k in ks:
                clipped = f" (all; asked for {k})" if k > len(task.x) else ""
                protocol = f"weighted kNN, k={min(k, len(task.x))}{clipped}, T={temperature:g}, cosine"
                metric = "accuracy" if k == ks[0] else f"accuracy k={k}"
                scores.append(task.score("knn", answers[k], protocol, metric))
        return scores


def weighted_knn(
    gallery: Tensor, labels: Tensor, queries: Tensor, ks: Sequence[int], temperature: float, classes: int
) -> dict[int, Tensor]:
    """Predicted class of every query, for each k.

    Args:
        gallery: (N, d) float, normalised here.
        labels: (N,) int64 in 0..classes-1.
        queries: (M, d) float, normalised here.
        ks: numbers of neighbours; a k beyond N means all of the gallery.
        temperature: T in the vote weight exp(similarity / T).
        classes: number of classes.

    Returns:
        k to (M,) int64. Of classes with equal votes the first wins.
    """
    answers: dict[int, list[Tensor]] = {k: [] for k in ks}
    for chunk in queries.split(CHUNK):
        for k, votes in knn_votes(gallery, labels, chunk, ks, temperature, classes).items():
            answers[k].append(votes.argmax(dim=1))
    return {k: torch.cat(parts) if parts else labels.new_empty(0) for k, parts in answers.items()}


def knn_votes(
    gallery: Tensor, labels: Tensor, queries: Tensor, ks: Sequence[int], temperature: float, classes: int
) -> dict[int, Tensor]:
    """k to (M, classes) float32, the votes for every class relative to the nearest neighbour's vote of 1.

    Arguments as in ``weighted_knn``; all queries are compared with the gallery at once.
    """
    gallery, queries = normalize(gallery.float(), dim=1), normalize(queries.float(), dim=1)
    similarity, index = (queries @ gallery.T).topk(min(max(ks), len(gallery)), dim=1)  # (M, k), sorted
    # Votes relative to the nearest neighbour's: one common factor, so a small T overflows nothing.
    weight, neighbour = ((similarity - similarity[:, :1]) / temperature).exp(), labels[index]
    votes = {k: weight.new_zeros(len(queries), classes) for k in ks}
    return {k: own.scatter_add_(1, neighbour[:, :k], weight[:, :k]) for k, own in votes.items()}
