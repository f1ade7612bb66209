"""What classification evaluations share: the labels to ask about, their data, and how an answer is scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Score

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Features, Subject


@dataclass(frozen=True)
class Task:
    """One label name: features to fit on and features to classify, on the subject's device."""

    label: str
    x: Tensor
    """(N, d) float32, the gallery."""
    y: Tensor
    """(N,) int64 in 0..classes-1."""
    queries: Tensor
    """(M, d) float32."""
    truth: Tensor
    """(M,) int64."""
    classes: int
    data: str
    """The part of the protocol that says what was classified, and what was left out."""

    @property
    def chance(self) -> float:
        """Percentage that guessing scores: the better of 1/classes and the gallery's most frequent class."""
        commonest = torch.bincount(self.y, minlength=self.classes).argmax()
        return 100 * max(1 / self.classes, float((self.truth == commonest).double().mean()))

    def score(self, evaluation: str, answers: Tensor, protocol: str, metric: str = "accuracy") -> Score:
        """The accuracy of ``answers`` (M,) in %."""
        return Score(
            evaluation=f"{evaluation}/{self.label}",
            metric=metric,
            value=100 * float((answers == self.truth).double().mean()),
            unit="%",
            protocol=f"{protocol}; {self.data}",
            chance=self.chance,
            ceiling=100.0,
        )


def tasks(subject: "Subject", encoder: str | None, asked: Sequence[str]) -> Iterator[Task]:
    """A task for each label in ``asked``, or for every label that both splits have.

    Raises:
        MmsslError: there is no such label, or a label that was asked for is not among them.
    """
    gallery = subject.features(subject.gallery, encoder)
    queries = subject.features(subject.queries, encoder)
    about = subject.about(subject.gallery, subject.queries, encoder=encoder)
    known = sorted(_present(gallery) & _present(queries))
    missing = [name for name in asked if name not in known]
    if missing or not known:
        wanted, have = ", ".join(missing) or "at least one", ", ".join(known) or "none"
        raise MmsslError(f"evaluation: labels: {wanted} expected on both splits; they share {have}")
    for label in asked or known:
        x, y, unlabelled = gallery.labelled(label)
        q, truth, unlabelled_queries = queries.labelled(label)
        names = subject.classes.get(label, ())
        classes = max(len(names), int(y.max()) + 1, int(truth.max()) + 1)
        data = (
            f"gallery {subject.gallery} ({len(x)}), queries {subject.queries} ({len(q)}), {classes} classes; "
            f"{about}; "
            "chance is the better of 1/classes and the gallery's most frequent class"
        )
        if left_out := unlabelled + unlabelled_queries:
            data += f"; {left_out} without label left out"
        on = subject.device
        yield Task(label, x.to(on), y.to(on), q.to(on), truth.to(on), classes, data)


def _present(features: "Features") -> set[str]:
    return {name for name, labels in features.labels.items() if bool((labels >= 0).any())}
