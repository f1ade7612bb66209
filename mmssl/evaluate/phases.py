"""Phases of a process from single moments: which one is it, and how much of it has gone by?

After Dwibedi et al., "Temporal Cycle-Consistency Learning" (CVPR 2019, section 4.2), whose classifier is also
linear and also sees 10, 50 and 100 % of the labelled videos. Balanced accuracy stands in for accuracy because
phases differ in length, and progress is measured inside each phase.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.figures import Lines, write_lines
from mmssl.evaluate.resample import bootstrap
from mmssl.evaluate.timelines import Timelines, timelines

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

ALPHAS = np.logspace(-1, 7, 9)
"""Ridge penalties on standardised features, chosen on the gallery by cross-validation over videos."""
FOLDS = 5
ITERATIONS = 300


class PhasesConfig(EvaluationConfig):
    """Phase classification and phase progression from the features of single moments."""

    name: Literal["phases"] = "phases"
    encoder: str | None = None
    """By the name of the view it reads; by default the only one there is."""
    field: str = "video"
    """The camera."""
    step: PositiveFloat = 0.1
    """Seconds from one moment to the next."""
    by: Literal["name", "number"] = "name"
    """A phase is known by its name, or by its place in the video: first, second, …"""
    shares: tuple[float, ...] = Field(default=(1.0, 0.5, 0.1), min_length=1)
    """Shares of the labelled gallery videos that are fitted on; the first is the headline."""
    repeats: PositiveInt = 3
    """Draws of videos for each share below 1, whose results are averaged."""


class Phases(Evaluation):
    """``phases/classification`` (balanced accuracy) and ``phases/progression`` (R²)."""

    Config = PhasesConfig

    def run(self, subject: "Subject") -> list[Score]:
        config = self.config
        read = {"encoder": config.encoder, "fields": (config.field,), "step": config.step}
        fitted = timelines(subject, subject.gallery, **read)
        asked = timelines(subject, subject.queries, **read)
        names: dict[str, int] = {}
        gallery = labelled(fitted, config.field, config.by, names, grow=True)
        queries = labelled(asked, config.field, config.by, names, grow=False)
        for split, found in ((subject.gallery, gallery), (subject.queries, queries)):
            if not len(found.y):
                raise MmsslError(
                    f"evaluation phases: split {split!r}: no moment with a known phase; expected `phases` in "
                    "the samples' metadata, of names that both splits have"
                )
        words = f"fitted on {fitted.words}; scored on {asked.words}; {len(queries.y)} moments of known phase"
        if queries.unknown:
            words += f", {queries.unknown} of phases that the gallery has not left out"
        return [
            *self._classification(subject, gallery, queries, words),
            _progression(gallery, queries, len(names), words, subject.seed),
        ]

    def _classification(
        self, subject: "Subject", gallery: "Moments", queries: "Moments", words: str
    ) -> list[Score]:
        config, scores = self.config, []
        present = queries.y.unique()
        chance = 100 / len(present)
        for number, share in enumerate(config.shares):
            repeats = 1 if share >= 1 else config.repeats
            confusions = [
                confusion(
                    queries,
                    classify(*some(gallery, share, subject.seed + repeat), queries.x),
                    int(max(gallery.y.max(), queries.y.max())) + 1,
                )
                for repeat in range(repeats)
            ]
            total = torch.stack(confusions)  # (repeats, videos, C, C)
            spread = bootstrap(total.transpose(0, 1), _balanced_over_repeats, subject.seed)
            videos = max(1, round(share * len(gallery.owner.unique())))
            protocol = (
                f"linear classifier (logistic regression, classes weighted equally, C = 1) on standardised "
                f"features of single moments, from {videos} labelled videos ({100 * share:g} %"
                + (f", mean of {repeats} draws" if repeats > 1 else "")
                + f"); balanced accuracy over {len(present)} phases; {words}; chance is 1/phases; "
                "95 % interval by bootstrap over videos"
            )
            scores.append(
                Score(
                    "phases/classification", f"balanced accuracy, {100 * share:g} % of labels",
                    100 * float(_balanced_over_repeats(total.sum(1)[None])[0]), "%", protocol, chance, 100.0,
                    interval=None if spread is None else spread.percent, headline=number == 0,
                )
            )  # fmt: skip
        order = sorted(range(len(scores)), key=lambda row: config.shares[row])
        write_lines(
            subject.folder,
            "phases_classification",
            Lines(
                "Phase classification from few labelled videos",
                "labelled videos, %",
                "balanced accuracy, %",
                [100 * config.shares[row] for row in order],
                {"trained": [scores[row].value for row in order]},
                [chance] * len(order),
                scores[0].protocol,
                [(scores[row].evaluation, scores[row].metric) for row in order],
            ),
        )
        return scores


@dataclass(frozen=True)
class Moments:
    """Every moment of known phase of many videos."""

    x: Tensor
    """(N, d) float32."""
    y: Tensor
    """(N,) int64: the phase."""
    gone: Tensor
    """(N,) float64 in 0..1: the share of the phase that has gone by."""
    owner: Tensor
    """(N,) int64: number of the video."""
    unknown: int
    """Moments of phases without a number."""


def labelled(found: Timelines, field: str, by: str, names: dict[str, int], *, grow: bool) -> Moments:
    """The moments whose phase is in ``names``; with ``grow`` new phases are numbered in it first."""
    x, y, gone, owner = [], [], [], []
    unknown = 0
    for row, sequence in enumerate(found):
        track = sequence.tracks[field]
        number, elapsed = sequence.phase_at(track.times)
        own = [phase.name if by == "name" else f"{place}" for place, phase in enumerate(sequence.phases, 1)]
        for index in number[number >= 0].unique().tolist() if grow else ():
            names.setdefault(own[index], len(names))
        value = torch.tensor([*(names.get(name, -1) for name in own), -1])[number]
        unknown += int(((value < 0) & (number >= 0)).sum())
        inside = value >= 0
        x.append(track.x[inside])
        y.append(value[inside])
        gone.append(elapsed[inside])
        owner.append(torch.full((int(inside.sum()),), row))
    return Moments(torch.cat(x), torch.cat(y), torch.cat(gone), torch.cat(owner), unknown)


def some(gallery: Moments, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Features and phases of a share of the videos, at least one; a smaller share is part of a larger one."""
    videos = gallery.owner.unique()
    order = torch.randperm(len(videos), generator=torch.Generator().manual_seed(seed))
    chosen = videos[order[: max(1, round(share * len(videos)))]]
    rows = torch.isin(gallery.owner, chosen)
    return gallery.x[rows], gallery.y[rows]


def classify(x: Tensor, y: Tensor, queries: Tensor) -> Tensor:
    """Phases (M,) of ``queries`` (M, d), by a linear classifier fitted on ``x`` (N, d) and ``y`` (N,)."""
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    if len(y.unique()) == 1:
        return y[:1].expand(len(queries))
    mean, scale = _statistics(x)
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=ITERATIONS)
    model.fit(((x - mean) / scale).double().numpy(), y.numpy())
    return torch.from_numpy(model.predict(((queries - mean) / scale).double().numpy()))


def confusion(queries: Moments, answers: Tensor, classes: int) -> Tensor:
    """(videos, C, C) float64: moments by video, true phase and answer; a row for each video."""
    _, video = queries.owner.unique(return_inverse=True)
    count = int(video.max()) + 1
    cell = (video * classes + queries.y) * classes + answers
    return torch.bincount(cell, minlength=count * classes**2).double().view(count, classes, classes)


def balanced(sums: Tensor) -> Tensor:
    """(..., C, C) confusion to (...) mean recall of the phases that occur; NaN where none does."""
    each = sums.diagonal(dim1=-2, dim2=-1) / sums.sum(-1)
    return each.nanmean(-1)


def _balanced_over_repeats(sums: Tensor) -> Tensor:
    """(R, repeats, C, C) to (R,)."""
    return balanced(sums).mean(1)


def _progression(gallery: Moments, queries: Moments, phases: int, words: str, seed: int) -> Score:
    """R² of a linear regressor of the share gone by, for each phase; the mean over phases.

    R² = 1 − Σ(u − û)² / Σ(u − ū)² over the queries; the bootstrap recomputes both sums from its videos.
    """
    from sklearn.linear_model import RidgeCV  # takes a second to import
    from sklearn.model_selection import GroupKFold

    videos = int(queries.owner.max()) + 1
    totals, left_out = [], 0
    for phase in range(phases):
        rows, asked = gallery.y == phase, queries.y == phase
        true = queries.gone[asked]
        # moments of one video are alike, so the penalty has to prove itself on other videos
        groups = gallery.owner[rows].numpy()
        folds = min(FOLDS, len(set(groups.tolist())))
        if folds < 2 or len(true) < 2 or float(true.std()) < 1e-6:
            left_out += 1
            continue
        mean, scale = _statistics(gallery.x[rows])
        z, u = ((gallery.x[rows] - mean) / scale).double().numpy(), gallery.gone[rows].numpy()
        splits = list(GroupKFold(folds).split(z, u, groups))
        model = RidgeCV(alphas=ALPHAS, cv=splits, scoring="neg_mean_squared_error").fit(z, u)
        said = torch.from_numpy(model.predict(((queries.x[asked] - mean) / scale).double().numpy()))
        parts = torch.stack([torch.ones_like(true), true, true.square(), (true - said).square()], dim=1)
        totals.append(torch.zeros(videos, 4, dtype=torch.float64).index_add_(0, queries.owner[asked], parts))
    if not totals:
        raise MmsslError(
            "evaluation phases: no phase has moments in two gallery videos and two different ones in the "
            "queries; expected a smaller `step`, or more videos"
        )
    sums = torch.stack(totals, dim=1)[queries.owner.unique()]  # (videos, phases, 4)
    spread = bootstrap(sums, r_squared, seed)
    protocol = (
        f"linear regressor (ridge, penalty chosen in {FOLDS} folds of gallery videos) on standardised "
        f"features of single moments, fitted and scored inside each phase on the share of it gone by; "
        f"R² on the queries, mean over {len(totals)} phases"
        + (f", without {left_out} that too few videos or moments show" if left_out else "")
        + f"; {words}; chance: the queries' mean; 95 % interval by bootstrap over videos"
    )
    return Score(
        "phases/progression", "R²", float(r_squared(sums.sum(0)[None])[0]), "", protocol, 0.0, 1.0,
        interval=None if spread is None else spread.interval,
    )  # fmt: skip


def r_squared(sums: Tensor) -> Tensor:
    """(R, phases, 4) sums of 1, u, u² and squared errors to (R,) mean R² over the phases that vary."""
    count, first, second, squared = sums.unbind(-1)
    variation = second - first.square() / count
    each = 1 - squared / variation.where(variation > 1e-9, torch.nan)
    return each.nanmean(-1)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
