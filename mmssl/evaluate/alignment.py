"""Does an embedding know how far a process has got? Moments are matched between videos of the same thing.

Alignment error and attribute recall are those of Sermanet et al., "Time-Contrastive Networks" (ICRA 2018,
section IV-A); Kendall's τ is that of Dwibedi et al., "Temporal Cycle-Consistency Learning" (CVPR 2019,
section 4.2). Of the reference code two habits are not kept: classes that are never recalled count as 0, and
so do pairs of videos for which τ has no value.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.alignment_videos import Process, moments_with, recalled
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.figures import Lines, write_lines
from mmssl.evaluate.matching import Distance, nearest
from mmssl.evaluate.resample import bootstrap, mean
from mmssl.evaluate.timelines import Timelines, Track, timelines
from mmssl.modalities import modality_of

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

BINS = 10
"""Parts of a video in the figure of the alignment error."""


class AlignmentConfig(EvaluationConfig):
    """Matching of moments between cameras, and between videos that show the same process."""

    name: Literal["alignment"] = "alignment"
    encoder: str | None = None
    """By the name of the view it reads; by default the only one there is."""
    fields: tuple[str, ...] = ()
    """The cameras; empty = every video field that all samples have. Videos are compared by the first."""
    step: PositiveFloat = 0.1
    """Seconds from one moment to the next."""
    process: str | None = None
    """Label name: videos of one of its classes show the same process, moment by moment, and are compared with
    each other (τ, phase error). ``all``: every two videos do. None: no two do."""
    attributes: tuple[str, ...] = ()
    """What is recalled from other videos, moment by moment: label names, or ``phase``."""
    pairs: PositiveInt = 2000
    """At most so many ordered pairs of videos, drawn from the seed."""
    moments: PositiveInt = 4096
    """At most so many moments ask for their attributes, evenly spaced."""
    distance: Distance = "cosine"
    """Between embeddings."""


class Alignment(Evaluation):
    """``alignment/cameras``, ``alignment/order`` (τ), ``alignment/phase``, ``alignment/recall NAME``."""

    Config = AlignmentConfig

    def run(self, subject: "Subject") -> list[Score]:
        config = self.config
        fields = config.fields or cameras(subject)
        if len(fields) < 2 and config.process is None and not config.attributes:
            raise MmsslError(
                f"evaluation alignment: nothing to align: one camera ({', '.join(fields)}); expected two in "
                "`fields`, a label name (or `all`) in `process`, or names in `attributes`"
            )
        found = timelines(subject, subject.queries, encoder=config.encoder, fields=fields, step=config.step)
        scores: list[Score] = []
        if len(fields) > 1:
            scores += self._cameras(subject, found, fields)
        if config.process is not None:
            process = Process(found, fields[0], config.process, config.distance, subject.seed)
            pairs = process.pairs(config.pairs)
            scores += process.order(pairs) + process.phase(pairs)
        for attribute in config.attributes:
            known = moments_with(found, fields[0], attribute, subject.classes.get(attribute, []))
            scores += recalled(attribute, known, found.words, config.distance, config.moments)
        return scores

    def _cameras(self, subject: "Subject", found: Timelines, fields: Sequence[str]) -> list[Score]:
        ways = [(a, b) for a in fields for b in fields if a != b]
        errors = torch.zeros(len(found), len(ways), dtype=torch.float64)
        chances = torch.zeros_like(errors)
        bins = torch.zeros(3, BINS, dtype=torch.float64)  # moments, their errors, their chances
        for row, sequence in enumerate(found):
            for column, (a, b) in enumerate(ways):
                error, chance = misalignment(sequence.tracks[a], sequence.tracks[b], self.config.distance)
                errors[row, column], chances[row, column] = error.mean(), chance.mean()
                part = (
                    (sequence.tracks[a].times / sequence.tracks[a].duration * BINS).long().clamp_max(BINS - 1)
                )
                for kind, values in enumerate((torch.ones_like(error), error, chance)):
                    bins[kind].scatter_add_(0, part, values)
        protocol = (
            f"nearest neighbour ({self.config.distance}) of every moment in the other camera's video, |Δt| "
            f"over the longer video's length, mean over moments, over {len(ways)} directions between "
            f"{', '.join(fields)}, over sequences; {found.words}; chance: a uniformly random moment; "
            "95 % interval by bootstrap over sequences"
        )
        means = errors.mean(1)
        overall = bootstrap(torch.stack([means, torch.ones_like(means)], dim=1), mean, subject.seed)
        scores = [
            Score(
                "alignment/cameras", "alignment error", 100 * float(errors.mean()), "%", protocol,
                100 * float(chances.mean()), 0.0, better="lower",
                interval=None if overall is None else overall.percent,
            )
        ]  # fmt: skip
        for column, (a, b) in enumerate(ways):
            value, guess = (100 * float(of[:, column].mean()) for of in (errors, chances))
            scores.append(
                Score("alignment/cameras", f"{a} to {b}", value, "%", protocol, guess, 0.0, better="lower")
            )
        at = (bins[0] > 0).nonzero()[:, 0]
        write_lines(
            subject.folder,
            "alignment_cameras",
            Lines(
                "Alignment error along the video",
                "share of the video gone by, %",
                "alignment error, %",
                ((at + 0.5) * 100 / BINS).tolist(),
                {"trained": (100 * bins[1, at] / bins[0, at]).tolist()},
                (100 * bins[2, at] / bins[0, at]).tolist(),
                protocol,
            ),
        )
        return scores


def cameras(subject: "Subject") -> tuple[str, ...]:
    """Every video field that all samples have, ``video`` first."""
    return tuple(
        name
        for name, share in sorted(subject.manifest.fields.items())
        if share == 1 and modality_of(name).name == "video"
    )


def misalignment(a: Track, b: Track, distance: Distance) -> tuple[Tensor, Tensor]:
    """Error and chance (n,) float64 of each moment of ``a``, in 0..1: |Δt| / the longer duration."""
    gap = (a.times[:, None] - b.times).abs() / max(a.duration, b.duration)
    return (nearest(a.x, b.x, distance) * gap).sum(1), gap.mean(1)
