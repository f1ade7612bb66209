"""What classification evaluations share: the labels to ask about, their data, and how an answer is scored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Score

if TYPE_CHECKING:
    from mmssl.evaluate.features import Features
    from mmssl.evaluate.subject import Subject


Pair = tuple[str, str]
"""Two class names of one label, in an option ``pairs``: actions and their time reversals, for instance."""


@dataclass(frozen=True)
class Task:
    """One label name: features to fit on and features to classify, on the subject's device."""

    label: str
    x: Tensor
    """(N, d) float32, the gallery; (N, V, …) where clips and crops are kept apart."""
    y: Tensor
    """(N,) int64 in 0..classes-1."""
    queries: Tensor
    """(M, d) float32; (M, V, …) where clips and crops are kept apart."""
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


def tasks(
    subject: "Subject", encoder: str | None, asked: Sequence[str], *, cosine: bool = False
) -> Iterator[Task]:
    """A task for each label in ``asked``, or for every label that both splits have.

    With ``cosine`` features are ``directions``, whose cosines weigh several encoders alike.

    Raises:
        MmsslError: there is no such label, or a label that was asked for is not among them.
    """
    splits = (subject.gallery, subject.queries)
    found = [subject.features(split, encoder) for split in splits]
    gallery, queries = (each.directions if cosine else each for each in found)
    return pose(subject, splits, (gallery, queries), asked, subject.about(*splits, encoder=encoder))


def pose(
    subject: "Subject",
    between: tuple[str, str],
    features: "tuple[Features, Features]",
    asked: Sequence[str],
    about: str,
) -> Iterator[Task]:
    """``tasks`` on given features of the gallery and the queries, whose splits ``between`` names."""
    gallery, queries = features
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
            f"gallery {between[0]} ({len(x)}), queries {between[1]} ({len(q)}), {classes} classes; "
            f"{about}; "
            "chance is the better of 1/classes and the gallery's most frequent class"
        )
        if left_out := unlabelled + unlabelled_queries:
            data += f"; {left_out} without label left out"
        on = subject.device
        yield Task(label, x.to(on), y.to(on), q.to(on), truth.to(on), classes, data)


@dataclass(frozen=True)
class Answered:
    """A task, and what was answered."""

    task: Task
    logits: Tensor
    """(M, classes): logits, log-probabilities or votes; a larger one is a more likely class."""
    protocol: str
    """How the answers were arrived at."""

    def score(self, evaluation: str) -> Score:
        """The accuracy of the most likely class in %."""
        return self.task.score(evaluation, self.logits.argmax(dim=1), self.protocol)


def within_pairs(
    evaluation: str,
    answers: Sequence[Answered],
    pairs: Sequence[Pair],
    classes: Mapping[str, Sequence[str]],
) -> list[Score]:
    """Accuracy of deciding within each pair of classes, and the mean over pairs; guessing scores about 50 %.

    Asked of the queries of these two classes only: which of the two is more likely, whatever is said of the
    others? Single frames cannot tell classes apart that differ in the direction of time alone.

    Raises:
        MmsslError: no label that was asked for has both classes, or a split has no sample of one of them.
    """
    scores = []
    for pair in pairs:
        answered = next((one for one in answers if set(pair) <= set(classes.get(one.task.label, ()))), None)
        if answered is None:
            labels, both = ", ".join(one.task.label for one in answers), " and ".join(pair)
            raise MmsslError(f"evaluation: pairs: expected a label with the classes {both} among {labels}")
        first, second = pair
        numbers = [classes[answered.task.label].index(name) for name in pair]
        task = restricted(answered.task, numbers)
        asked = torch.isin(answered.task.truth, torch.tensor(numbers, device=task.truth.device))
        choice = answered.logits[asked][:, numbers].argmax(dim=1)
        protocol = f"{first} or {second}, the more likely of the two; {answered.protocol}"
        scores.append(replace(task, label=f"pair/{first}-{second}").score(evaluation, choice, protocol))
    if not scores:
        return []
    names = ", ".join("-".join(pair) for pair in pairs)
    return [
        *scores,
        Score(
            evaluation=f"{evaluation}/pairs",
            metric="accuracy",
            value=sum(score.value for score in scores) / len(scores),
            unit="%",
            protocol=f"mean over the pairs of classes {names}, each decided by itself; {scores[0].protocol}",
            chance=sum(score.chance or 0.0 for score in scores) / len(scores),
            ceiling=100.0,
        ),
    ]


def restricted(task: Task, classes: Sequence[int]) -> Task:
    """The same task on the samples of some classes only, numbered in the order given.

    Raises:
        MmsslError: a split has no sample of one of them.
    """
    of = torch.tensor(classes, device=task.y.device)
    fit, ask = torch.isin(task.y, of), torch.isin(task.truth, of)
    y, truth = ((own[:, None] == of).long().argmax(1) for own in (task.y[fit], task.truth[ask]))
    if min(len(y.unique()), len(truth.unique())) < len(classes):
        raise MmsslError(
            f"evaluation: {task.label}: expected samples of the classes {classes} in both splits"
        )
    data = f"{task.data}; of these only {len(y)} of the gallery and {len(truth)} queries"
    return Task(task.label, task.x[fit], y, task.queries[ask], truth, len(classes), data)


def _present(features: "Features") -> set[str]:
    return {name for name, labels in features.labels.items() if bool((labels >= 0).any())}
