"""Zero-shot classification: a sample belongs to the class whose name in sentences is most like it.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (CLIP, ICML 2021,
section 3.1): unit embeddings of a class's name in every template, their mean, brought to unit length again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.language.pictures import confusion_picture
from mmssl.evaluate.language.prompts import Prompts, class_words, load_prompts, named
from mmssl.evaluate.language.space import IMAGE, embed_tokens, image_text, seen_features, tokens_of
from mmssl.evaluate.tables import Table, write_table
from mmssl.files import write_bytes
from mmssl.methods.language.towers import ImageText

if TYPE_CHECKING:
    from mmssl.evaluate.features import Features
    from mmssl.evaluate.subject import Subject

_EQUAL = 1e-6
"""Cosines of float32 features that differ by less are equal."""
_ROWS = 50
"""Classes in the table of a report."""

Templates = str | tuple[str, ...]


class ZeroShotConfig(EvaluationConfig):
    """Classification by the names of classes."""

    name: Literal["zero_shot"] = "zero_shot"
    labels: tuple[str, ...] = ()
    """Label names to classify by; empty = every label of the query split that has class names."""
    templates: Templates | dict[str, Templates] = "simple"
    """Sentences with a slot {} for the class: a file that comes with mmssl (imagenet, simple, cifar10 …), the
    path of another, or a list; or a mapping from label names to any of these."""
    names: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Label name to class name to words; what is not here is called as in the manifest."""

    @field_validator("names", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: Any) -> Any:
        """YAML reads the names of nameless classes, 0, 1 …, as numbers."""
        if not isinstance(value, Mapping):
            return value
        return {
            label: {str(name): words for name, words in own.items()} if isinstance(own, Mapping) else own
            for label, own in value.items()
        }


@dataclass(frozen=True)
class Answers:
    """What was answered for one label."""

    truth: Tensor
    """(N,) int64."""
    rank: Tensor
    """(N,) int64, from 1: of the right class; what is as similar counts as more so."""
    answer: Tensor
    """(N,) int64: the most similar class, of equal ones a wrong one."""

    @classmethod
    def of(cls, similarity: Tensor, truth: Tensor) -> "Answers":
        """From the cosines (N, K) of samples and classes; what is no number is as similar as can be."""
        own = similarity.gather(1, truth[:, None])
        rank = (~(similarity < own - _EQUAL)).sum(dim=1).clamp(min=1)
        behind = similarity.scatter(1, truth[:, None], own - _EQUAL)
        return cls(truth, rank, behind.nan_to_num(nan=2.0).argmax(dim=1))

    def confusion(self, classes: int) -> Tensor:
        """(K, K) int64: samples by true class and answer."""
        return torch.bincount(self.truth * classes + self.answer, minlength=classes**2).view(classes, classes)


class ZeroShot(Evaluation):
    """``zero_shot/LABEL``: accuracy, that of five guesses, and the mean over classes.

    ``pictures/zero_shot_LABEL.png`` shows what is taken for what, ``tables/zero_shot_LABEL.json`` each class.
    """

    Config = ZeroShotConfig

    @torch.inference_mode()
    def run(self, subject: "Subject") -> list[Score]:
        method = image_text(subject.method, "zero_shot")
        features = seen_features(subject, method, subject.queries)
        return [
            score
            for label in self._labels(subject, features)
            for score in self._ask(subject, method, features, label)
        ]

    def _labels(self, subject: "Subject", features: "Features") -> tuple[str, ...]:
        config: ZeroShotConfig = self.config
        there = [name for name, values in sorted(features.labels.items()) if bool((values >= 0).any())]
        given = set(config.names) | (set(config.templates) if isinstance(config.templates, dict) else set())
        known = [name for name in there if named(subject.classes.get(name, ())) or name in config.names]
        for name in (*config.labels, *sorted(given)):
            if name not in there:
                raise MmsslError(
                    f"evaluation zero_shot: labels: {name} expected in {subject.queries}; "
                    f"it has {', '.join(there) or 'none'}"
                )
        if not (config.labels or known):
            raise MmsslError(
                f"evaluation zero_shot: labels: no label of {subject.queries} has class names; "
                f"it has {', '.join(there) or 'no label'}; expected class names in the manifest, or in names"
            )
        return config.labels or tuple(known)

    def _prompts(self, label: str) -> Prompts:
        templates = self.config.templates
        if not isinstance(templates, dict):
            return load_prompts(templates)
        if label not in templates:
            raise MmsslError(
                f"evaluation zero_shot: templates.{label}: missing; expected sentences for every label asked"
            )
        return load_prompts(templates[label])

    def _ask(self, subject: "Subject", method: ImageText, features: "Features", label: str) -> list[Score]:
        prompts = self._prompts(label)
        x, truth, unlabelled = features.labelled(label)
        classes = subject.classes.get(label, [])
        words = class_words(label, classes, prompts, self.config.names.get(label, {}), int(truth.max()) + 1)
        w, read = classifier(method, prompts, list(words.values()), subject.device)
        answers = Answers.of(x.double() @ w.double().T, truth)
        about = [
            f"{len(words)} classes by their names in {len(prompts.templates)} sentences ({prompts.source}), "
            "mean of their unit embeddings; cosine; what is as similar counts as more so",
            f"{len(x)} of {subject.queries}; {subject.look(IMAGE).words}",
            *read,
        ]
        if unlabelled:
            about.append(f"{unlabelled} without label left out")
        if features.unreadable:
            about.append(f"{features.unreadable} unreadable and left out")
        protocol = "; ".join(about)
        if subject.folder is not None:
            write_table(subject.folder, f"zero_shot_{label}", _table(label, list(words), answers, protocol))
            picture = confusion_picture(answers.confusion(len(words)), list(words))
            write_bytes(subject.folder / "pictures" / f"zero_shot_{label}.png", picture)
        return _scores(label, answers, len(words), protocol)


def classifier(
    method: ImageText, prompts: Prompts, words: list[str], device: torch.device
) -> tuple[Tensor, list[str]]:
    """(K, d) float32 unit vectors of K classes, and words about sentences that cannot be read whole."""
    sentences = [sentence for own in words for sentence in prompts.of(own)]
    tokens, read = tokens_of(method, sentences, "sentences")
    z = embed_tokens(method, tokens, device).unflatten(0, (len(words), -1))
    return normalize(z.mean(dim=1), dim=1), read


def _scores(label: str, answers: Answers, classes: int, protocol: str) -> list[Score]:
    """Guessing is the better of drawing classes and naming those that are most frequent here."""
    sizes = torch.bincount(answers.truth, minlength=classes).sort(descending=True).values

    def score(metric: str, value: float, chance: float, about: str) -> Score:
        words = f"{about}; {protocol}"
        return Score(
            f"zero_shot/{label}", metric, 100 * value, "%", words, 100 * chance, 100.0,
            headline=metric == "accuracy",
        )  # fmt: skip

    found = []
    for k in (1, 5):
        if k < classes:
            chance = max(k / classes, int(sizes[:k].sum()) / len(answers.truth))
            guess = f"chance is the better of {k}/classes and the {k} most frequent here"
            right = float((answers.rank <= k).double().mean())
            found.append(score("accuracy" if k == 1 else f"top-{k}", right, chance, guess))
    every = [float((answers.rank[answers.truth == c] == 1).double().mean()) for c in answers.truth.unique()]
    mean = sum(every) / len(every)
    return [
        *found,
        score(
            "mean over classes",
            mean,
            1 / len(every),
            "accuracy of each class, their mean; chance is that of one answer for all",
        ),
    ]


def _table(label: str, names: list[str], answers: Answers, protocol: str) -> Table:
    """A row for each class that there are samples of, the hardest first."""
    confusion, rows = answers.confusion(len(names)), []
    for c in answers.truth.unique().tolist():
        own = answers.rank[answers.truth == c]
        others = confusion[c].clone()
        others[c] = 0
        taken = f"{names[int(others.argmax())]} ({int(others.max())})" if int(others.max()) else None
        first, five = (100 * float((own <= k).double().mean()) for k in (1, 5))
        rows.append([names[c], len(own), first, five, taken])
    rows.sort(key=lambda row: row[2])
    title = f"zero-shot {label}, by class" + (f": the hardest {_ROWS}" if len(rows) > _ROWS else "")
    columns = ("class", "samples", "top-1 %", "top-5 %", "most often taken for (times)")
    return Table(title, columns, rows[:_ROWS], protocol)
