"""Cross-validation that keeps groups whole, choices inside it, and intervals by resampling groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from mmssl.errors import MmsslError

Setting = TypeVar("Setting", int, float)
Classify = Callable[[Tensor, Tensor, Tensor, int, Setting], Tensor]
"""(x (N, d) and y (N,) to fit on, queries (M, d), number of classes, setting) → logits (M, classes)."""


@dataclass(frozen=True)
class Pool:
    """All samples of one question."""

    x: Tensor
    """(N, d) float32."""
    y: Tensor
    """(N,) int64 in 0..classes-1."""
    groups: Tensor
    """(N,) int64 in 0..G-1."""
    classes: int

    def part(self, rows: Tensor) -> "Pool":
        """Some of the samples; groups are numbered anew."""
        return Pool(
            self.x[rows], self.y[rows], self.groups[rows].unique(return_inverse=True)[1], self.classes
        )


def assign(groups: Tensor, folds: int) -> Tensor:
    """(N,) int64 fold of every sample: groups, the largest first, go to the fold with the fewest samples.

    ``groups`` (N,) int64 in 0..G-1; there are min(folds, G) folds.

    Raises:
        MmsslError: fewer than two groups.
    """
    sizes = torch.bincount(groups)
    if len(sizes) < 2:
        raise MmsslError("folds: group: all samples are of one group; expected at least two")
    filled = torch.zeros(min(folds, len(sizes)), dtype=torch.int64)
    fold = torch.empty_like(sizes)
    for group in sizes.argsort(descending=True, stable=True).tolist():
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold[groups]


def out_of_fold(pool: Pool, setting: Setting, classify: "Classify[Setting]", folds: int) -> Tensor:
    """(N, classes) logits of every sample by a classifier that was fitted on the other folds."""
    fold = assign(pool.groups, folds)
    logits = pool.x.new_empty(len(pool.y), pool.classes)
    for number in fold.unique():
        out = fold == number
        logits[out] = classify(pool.x[~out], pool.y[~out], pool.x[out], pool.classes, setting)
    return logits


def nested(
    pool: Pool, settings: Sequence[Setting], classify: "Classify[Setting]", folds: int
) -> tuple[Tensor, list[Setting]]:
    """Out-of-fold logits (N, classes), each with the setting that was best within the other folds.

    The best has the highest balanced accuracy in cross-validation of the fitted part, by groups again; of
    equally good ones the first is taken. A part of only one group takes the first.

    Returns:
        The logits, and the setting of every fold.
    """
    fold = assign(pool.groups, folds)
    logits = pool.x.new_empty(len(pool.y), pool.classes)
    chosen = []
    for number in fold.unique():
        out = fold == number
        inner = pool.part(~out)
        best = settings[0]
        if len(settings) > 1 and int(inner.groups.max()) > 0:
            tried = [out_of_fold(inner, setting, classify, folds).argmax(1) for setting in settings]
            right = [balanced_accuracy(answers, inner.y) for answers in tried]
            best = settings[right.index(max(right))]
        logits[out] = classify(inner.x, inner.y, pool.x[out], pool.classes, best)
        chosen.append(best)
    return logits, chosen


def logistic(x: Tensor, y: Tensor, queries: Tensor, classes: int, c: float) -> Tensor:
    """(M, classes) float32 log-probabilities by logistic regression on standardised features.

    Minimises C · Σ w_y · cross-entropy + ½ ‖W‖², where w_y makes classes weigh alike. A class of which there
    is nothing to fit on has probability 0.
    """
    from sklearn.linear_model import LogisticRegression  # here, because it takes two seconds

    logits = torch.full((len(queries), classes), -torch.inf)
    present = y.unique()
    if len(present) == 1:
        logits[:, present] = 0.0
        return logits
    mean, scale = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
    fitted = LogisticRegression(C=c, class_weight="balanced", max_iter=2000)
    fitted.fit(((x - mean) / scale).double().numpy(), y.numpy())
    found = fitted.predict_log_proba(((queries - mean) / scale).double().numpy())
    logits[:, present] = torch.from_numpy(found).float()
    return logits


def balanced_accuracy(answers: Tensor, truth: Tensor) -> float:
    """Mean over the classes in ``truth`` (N,) of the share of their samples that was answered rightly."""
    right, count = torch.bincount(truth[answers == truth], minlength=len(truth.bincount())), truth.bincount()
    return float((right[count > 0] / count[count > 0]).mean())


def interval(
    answers: Tensor, truth: Tensor, groups: Tensor, resamples: int, seed: int
) -> tuple[float, float]:
    """95 % percentile interval of the balanced accuracy when groups are drawn again, with replacement.

    Classes that are in no drawn group are left out of that resample's mean.
    """
    _, groups = groups.unique(return_inverse=True)
    size, classes = int(groups.max()) + 1, int(truth.max()) + 1
    cell = groups * classes + truth
    count = torch.bincount(cell, minlength=size * classes).view(size, classes).double()
    right = torch.bincount(cell[answers == truth], minlength=size * classes).view(size, classes).double()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(size, (resamples, size), generator=generator)
    weight = torch.zeros(resamples, size, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(1, dtype=torch.float64).expand(resamples, size)
    )
    value = ((weight @ right) / (weight @ count)).nanmean(1)
    low, high = value.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
