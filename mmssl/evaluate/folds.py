"""Classification of small sets: cross-validation whose folds keep groups whole, with confidence intervals.

Clips of one recording share its room, light and people: a classifier that has seen others of them is not
asked about the action. So every group is answered by classifiers that have seen none of it, their
hyper-parameters are chosen the same way inside their own part, and the interval comes from resampling groups,
not clips.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.classify import Pair
from mmssl.evaluate.features import unit_parts
from mmssl.evaluate.grouped import Pool, balanced_accuracy, interval, logistic, nested
from mmssl.evaluate.knn import knn_votes

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class FoldsConfig(EvaluationConfig):
    """kNN and logistic regression in grouped cross-validation: balanced accuracy with a 95 % interval."""

    name: Literal["folds"] = "folds"
    encoder: str | None = None
    """By the name of the view it reads, or ``A+B`` for both; by default the only one there is."""
    group: str = "recording"
    """What must not be in two folds: a label name, or a key of the samples' metadata."""
    splits: tuple[str, ...] = ()
    """Splits whose samples are put together; by default gallery and queries."""
    folds: int = Field(default=5, ge=2)
    """At most; no more than there are groups."""
    labels: tuple[str, ...] = ()
    """Label names to classify by; empty = every label but the group."""
    classes: tuple[str, ...] = ()
    """Names of the classes to tell apart, of one label; samples of others are left out. By default all."""
    pairs: tuple[Pair, ...] = ()
    """Pairs of class names that are also decided by themselves: ``[[standup, sitdown]]``."""
    k: tuple[PositiveInt, ...] = Field(default=(20, 10, 5, 3, 1), min_length=1)
    """Numbers of neighbours to choose from; of equally good ones the first."""
    temperature: PositiveFloat = 0.07
    """T: a neighbour at cosine similarity s votes with weight exp(s / T)."""
    c: tuple[PositiveFloat, ...] = Field(default=(1e-4, 1e-3, 1e-2, 1e-1, 1.0), min_length=1)
    """C in C · Σ cross-entropy + ½ ‖W‖², to choose from; of equally good ones the first."""
    resamples: PositiveInt = 10000
    """Of the groups, for the interval."""


class Folds(Evaluation):
    """``folds/knn/LABEL`` and ``folds/linear/LABEL``, and ``…/pair/FIRST-SECOND``."""

    Config = FoldsConfig

    def run(self, subject: "Subject") -> list[Score]:
        config = self.config
        splits = config.splits or tuple(dict.fromkeys((subject.gallery, subject.queries)))
        x, labels, groups, widths = self._pooled(subject, splits)
        about = subject.about(*splits, encoder=config.encoder)
        asked = self._asked(subject, labels)
        scores: list[Score] = []
        for label, names in asked.items():
            numbers = torch.tensor(sorted(names))
            kept = torch.isin(labels[label], numbers)
            y = torch.searchsorted(numbers, labels[label]).clamp_max(len(numbers) - 1)
            pool = Pool(x, y, groups, len(numbers)).part(kept)
            data = (
                f"{len(pool.y)} samples of {' and '.join(splits)}, {len(numbers)} classes, "
                f"{int(pool.groups.max()) + 1} groups by {config.group}, no group in two folds; "
                f"95 % interval: {config.resamples} bootstrap resamples of the groups; {about}"
            )
            if left_out := int((~kept).sum()):
                data += f"; {left_out} of other classes or without label left out"
            ordered = [names[number] for number in numbers.tolist()]
            for probe, (logits, words) in self._answers(pool, widths).items():
                scores += self._scores(probe, label, ordered, pool, logits, f"{words}; {data}", subject.seed)
        return scores

    def _answers(self, pool: Pool, widths: Sequence[int]) -> dict[str, tuple[Tensor, str]]:
        """Out-of-fold logits (N, classes) by each classifier, and how they were arrived at."""
        config = self.config

        def knn(x: Tensor, y: Tensor, queries: Tensor, classes: int, k: int) -> Tensor:
            near, asked = unit_parts(x, widths), unit_parts(queries, widths)
            return knn_votes(near, y, asked, (k,), config.temperature, classes)[k]

        near, ks = nested(pool, config.k, knn, config.folds)
        line, cs = nested(pool, config.c, logistic, config.folds)
        return {
            "knn": (near, f"weighted kNN, T={config.temperature:g}, cosine, k {_chosen(config.k, ks)}"),
            "linear": (
                line,
                "logistic regression, standardised features, classes of equal weight, "
                f"C {_chosen(config.c, cs)}",
            ),
        }

    def _scores(
        self, probe: str, label: str, names: list[str], pool: Pool, logits: Tensor, protocol: str, seed: int
    ) -> list[Score]:
        """Of all classes, and of each pair among them."""
        questions = [(label, list(range(len(names))), protocol)]
        for first, second in self.config.pairs:
            if {first, second} <= set(names):
                columns = [names.index(first), names.index(second)]
                words = f"{first} or {second}, the more likely of the two; {protocol}"
                questions.append((f"pair/{first}-{second}", columns, words))
        scores = []
        for target, columns, words in questions:
            rows = torch.isin(pool.y, torch.tensor(columns))
            answers, truth = torch.tensor(columns)[logits[rows][:, columns].argmax(1)], pool.y[rows]
            low, high = interval(answers, truth, pool.groups[rows], self.config.resamples, seed)
            scores.append(
                Score(
                    evaluation=f"folds/{probe}/{target}",
                    metric="balanced accuracy",
                    value=100 * balanced_accuracy(answers, truth),
                    unit="%",
                    protocol=words,
                    chance=100 / len(columns),
                    ceiling=100.0,
                    interval=(100 * low, 100 * high),
                )
            )
        return scores

    def _asked(self, subject: "Subject", labels: Mapping[str, Tensor]) -> dict[str, dict[int, str]]:
        """The labels to classify by, and of each the classes by number: those that there are samples of."""
        config = self.config
        known = [name for name, y in labels.items() if name != config.group and bool((y >= 0).any())]
        if missing := [name for name in config.labels if name not in known]:
            raise MmsslError(
                f"folds: labels: expected some of {', '.join(known)}; found {', '.join(missing)}"
            )
        asked = {}
        for label in config.labels or known:
            present = labels[label][labels[label] >= 0].unique().tolist()
            every = subject.classes.get(label) or [str(number) for number in range(max(present) + 1)]
            names = {number: every[number] for number in present}
            if set(config.classes) <= set(names.values()):
                wanted = config.classes or tuple(names.values())
                asked[label] = {number: name for number, name in names.items() if name in wanted}
        if not asked:
            wanted, have = ", ".join(config.classes) or "its classes", ", ".join(known) or "none"
            raise MmsslError(f"folds: classes: expected a label with samples of {wanted}; labels: {have}")
        for pair in config.pairs:
            if not any(set(pair) <= set(names.values()) for names in asked.values()):
                raise MmsslError(
                    f"folds: pairs: no label that is asked for has samples of {' and '.join(pair)}"
                )
        return asked

    def _pooled(
        self, subject: "Subject", splits: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, tuple[int, ...]]:
        """Features, labels and groups of all splits together, and the widths of each encoder's part.

        Raises:
            MmsslError: a sample has neither such a label nor such metadata.
        """
        parts = [subject.features(split, self.config.encoder) for split in splits]
        names = sorted({name for part in parts for name in part.labels})
        labels = {
            name: torch.cat([part.labels.get(name, torch.full_like(part.ids, -1)) for part in parts])
            for name in names
        }
        if self.config.group in labels:
            groups = labels[self.config.group]
            if bool((groups < 0).any()):
                raise MmsslError(
                    f"folds: group: {int((groups < 0).sum())} samples have no {self.config.group!r}"
                )
        else:
            found = [subject.groups(split, self.config.group) for split in splits]
            pairs = zip(parts, found, strict=True)
            groups = torch.tensor([own[id_] for part, own in pairs for id_ in part.ids.tolist()])
        x = torch.cat([part.x for part in parts])
        return x, labels, groups.unique(return_inverse=True)[1], parts[0].widths


def _chosen(grid: Sequence[float], found: Sequence[float]) -> str:
    tried, taken = (", ".join(f"{value:g}" for value in values) for values in (grid, found))
    return f"of {tried} chosen in inner folds ({taken} in {len(found)} folds)"
