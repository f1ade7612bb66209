"""The modality gap: how far apart pictures and words lie in the space that is meant for both.

Liang et al., "Mind the Gap" (NeurIPS 2022, section 2): the distance between the means of unit embeddings.
Alignment and uniformity: Wang & Isola, "Understanding Contrastive Representation Learning through Alignment
and Uniformity on the Hypersphere" (ICML 2020, equations 6 and 7, α = t = 2).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.figures import Lines, write_lines
from mmssl.evaluate.health import spaced
from mmssl.evaluate.language.ranking import CHUNK, Truth
from mmssl.evaluate.language.space import Pairs, image_text, pairs_of
from mmssl.models.spectrum import uniformity

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

_COMPARED = 2048
"""Embeddings whose pairs are all compared for uniformity."""
_BINS = 40


class ModalityGapConfig(EvaluationConfig):
    """Gap, alignment and uniformity of pictures and their captions."""

    name: Literal["modality_gap"] = "modality_gap"
    samples: PositiveInt = 5000
    """At most so many of the query split, with all their captions: evenly spaced in the order of ids."""


class ModalityGap(Evaluation):
    """``modality_gap/…``: gap, alignment, uniformity, cosines; a figure of the cosines of pairs."""

    Config = ModalityGapConfig

    def run(self, subject: "Subject") -> list[Score]:
        pairs = pairs_of(subject, image_text(subject.method, "modality_gap"), self.config.samples)
        truth = Truth(pairs.of, pairs.same, len(pairs.seen))
        right, wrong = cosines(pairs, truth)
        write_lines(subject.folder, "modality_gap", _lines(right, wrong, pairs.words))
        seen, said = pairs.seen.double().mean(dim=0), pairs.said.double().mean(dim=0)
        shuffled = 2 - 2 * float(seen @ said)
        means = f"{right.mean:.3f} and {wrong.mean:.3f}" if wrong.count else "there is no wrong one"
        potential = "log mean exp(-2 ‖a − b‖²) over pairs of {} {}"

        def score(name: str, metric: str, value: float, about: str, **more: Any) -> Score:
            settings = {"better": "lower", "headline": False, **more}
            return Score(f"modality_gap/{name}", metric, value, "", f"{about}; {pairs.words}", **settings)

        return [
            score("gap", "distance", float((seen - said).norm()),
                  "‖mean of samples − mean of captions‖, unit vectors", ceiling=0.0, headline=True),
            score("alignment", "distance²", alignment(pairs),
                  "mean ‖a − b‖² of captions and their samples; chance is that of captions shuffled",
                  chance=shuffled, ceiling=0.0),
            *(
                score(f"uniformity_{name}", "log potential", uniformity(x), potential.format(len(x), what),
                      chance=0.0, ceiling=-4.0)
                for name, what, x in (
                    ("seen", "samples", spaced(pairs.seen, _COMPARED)),
                    ("said", "captions", spaced(pairs.said, _COMPARED)),
                )
            ),
            score("cosine", "right − wrong", right.mean - wrong.mean if wrong.count else 0.0,
                  f"mean cosine of captions and right samples less that of wrong ones: {means}",
                  chance=0.0, better="higher"),
        ]  # fmt: skip


@dataclass
class Cosines:
    """Of many pairs."""

    bins: Tensor = field(default_factory=lambda: torch.zeros(_BINS, dtype=torch.float64))
    """(BINS,) float64: their number in equal parts of -1..1."""
    total: float = 0.0

    def add(self, cosine: Tensor) -> None:
        self.bins += torch.histc(cosine, _BINS, -1, 1)
        self.total += float(cosine.sum())

    @property
    def count(self) -> int:
        return int(self.bins.sum())

    @property
    def mean(self) -> float:
        return self.total / self.count


def cosines(pairs: Pairs, truth: Truth) -> tuple[Cosines, Cosines]:
    """Of captions with all samples that are right for them, and with all others."""
    right, wrong = Cosines(), Cosines()
    for rows in torch.arange(len(pairs.said)).split(CHUNK):
        similarity = (pairs.said[rows].double() @ pairs.seen.double().T).clamp(-1, 1)
        own = truth.samples_of(rows)
        right.add(similarity[own])
        wrong.add(similarity[~own])
    return right, wrong


def alignment(pairs: Pairs) -> float:
    """E ‖f(x) − g(y)‖² over captions y and the samples x that they were written for, each sample alike."""
    squared = (pairs.seen[pairs.of].double() - pairs.said.double()).square().sum(dim=1)
    each = torch.zeros(len(pairs.seen), dtype=torch.float64).index_add_(0, pairs.of, squared)
    return float((each / torch.bincount(pairs.of, minlength=len(pairs.seen))).mean())


def _lines(right: Cosines, wrong: Cosines, words: str) -> Lines:
    """Both histograms as shares, over the cosines that there are."""
    kept = (right.bins + wrong.bins).nonzero()[:, 0]
    shown = slice(max(int(kept[0]) - 1, 0), int(kept[-1]) + 2)
    at = torch.linspace(-1, 1, 2 * _BINS + 1, dtype=torch.float64)[1::2][shown]
    series = {
        f"{name} pairs": (100 * one.bins[shown] / one.count).tolist()
        for name, one in (("right", right), ("wrong", wrong))
        if one.count
    }
    return Lines(
        title="cosines of samples and captions",
        x_label="cosine",
        y_label=f"% of pairs, each {2 / _BINS:g} wide",
        x=[round(value, 6) for value in at.tolist()],
        series=series,
        protocol=words,
    )
