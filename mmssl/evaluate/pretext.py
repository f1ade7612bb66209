"""The objective itself on held-out data: how well a method answers the question it was trained with."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import PositiveInt

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.figures import Lines, write_lines
from mmssl.evaluate.resample import bootstrap, mean
from mmssl.methods.base import Answers, Method
from mmssl.stream import scan
from mmssl.stream.batch import Batch

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


Numbered = list[tuple[int, Answers]]
"""Answers, each with the number of the batch that it is about."""


class PretextConfig(EvaluationConfig):
    """What a method says about its own task on the query split, seen as in training."""

    name: Literal["pretext"] = "pretext"
    batch_size: PositiveInt = 64
    """Samples that are asked about together. Candidates come from the batch, so their number depends on it;
    what does not fill a batch at the end is left out."""
    passes: PositiveInt = 1
    """How often every sample is asked about, with moments and views of its own each time: a split of a few
    videos says more. The interval is that of the samples, however often they were asked."""


class Pretext(Evaluation):
    """One score for each question the method asks, and one figure for each of its curves."""

    Config = PretextConfig

    def run(self, subject: "Subject") -> list[Score]:
        answers, batches = self._ask(subject)
        size, passes = self.config.batch_size, self.config.passes
        samples = batches * size
        left_out = subject.manifest.split(subject.queries).samples - samples
        about = f"{subject.queries}: {samples} samples in {batches} batches of {size}, seen as in training"
        if passes > 1:
            about += f", {passes} times, each time otherwise"
        if left_out:
            about += f"; {left_out} unreadable or short of a batch left out"
        curves: dict[str, dict[str, Answers]] = {}
        scores = {}
        for question, answered in answers.items():
            first = answered[0][1]
            curve = curves.setdefault(first.curve or question, {})
            curve[question] = first
            scores[question] = _score(question, answered, about, subject.seed, headline=len(curve) == 1)
        for name, questions in curves.items():
            if next(iter(questions.values())).curve:
                lines = _lines(name, questions, scores)
                write_lines(subject.folder, f"pretext {name}".replace(" ", "_").replace("/", "-"), lines)
        return list(scores.values())

    @torch.inference_mode()
    def _ask(self, subject: "Subject") -> tuple[dict[str, Numbered], int]:
        """Question to its answers, and the number of batches of a pass."""
        method, size = asked(subject.method), self.config.batch_size
        answers: dict[str, Numbered] = {}
        count = 0
        for seed in range(subject.seed, subject.seed + self.config.passes):
            batches = scan(subject.config, method.views, split=subject.queries, batch_size=size, seed=seed)
            for number, batch in enumerate(full(batches, size)):
                count = max(count, number + 1)
                for question, answered in method.pretext(batch.to(subject.device)).items():
                    answers.setdefault(question, []).append((number, answered))
        if not count:
            found = subject.manifest.split(subject.queries).samples
            raise MmsslError(
                f"evaluation pretext: batch_size: {size} is more than the readable samples of split "
                f"{subject.queries!r} ({found} in all); expected at most that many"
            )
        if not answers:
            raise MmsslError(
                f"evaluation pretext: method {method.config.name!r} has no question about its objective; "
                "leave this evaluation out for it"
            )
        return answers, count


def asked(method: Method | None) -> Method:
    """The method.

    Raises:
        MmsslError: there is none beside the encoder.
    """
    if method is None:
        raise MmsslError(
            "evaluation pretext: no method beside the encoder; expected `encoders` to name a train stage "
            "of the pipeline whose method can be asked (an encoder folder alone has lost the method's heads)"
        )
    return method


def full(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The same samples in the same order in batches of exactly ``size``; a rest is dropped."""
    held: list[Batch] = []
    for batch in batches:
        held.append(batch)
        while sum(map(len, held)) >= size:
            joined = held[0] if len(held) == 1 else Batch.join(held)
            rest = joined.rows(slice(size, None))
            held = [rest] if len(rest) else []
            yield joined.rows(slice(size))


def _score(question: str, answered: Numbered, about: str, seed: int, *, headline: bool) -> Score:
    first = answered[0][1]
    scale = 100.0 if first.unit == "%" else 1.0
    totals = torch.zeros(1 + max(number for number, _ in answered), 2, dtype=torch.float64)
    for number, one in answered:
        totals[number, 0] += one.values.double().sum().cpu()
        totals[number, 1] += len(one.values)
    cases = int(totals[:, 1].sum())
    chance = None
    if cases and all(one.chance is not None for _, one in answered):  # it may differ from batch to batch
        chance = scale * sum((one.chance or 0.0) * len(one.values) for _, one in answered) / cases
    if not cases:
        raise MmsslError(f"evaluation pretext: {question}: no case in the whole split; expected at least one")
    spread = bootstrap(totals, mean, seed)
    protocol = f"{first.protocol}; mean over {cases} cases; {about}"
    if spread is not None:
        protocol += f"; standard error {scale * spread.error:.3g} and 95 % interval by bootstrap over batches"
    return Score(
        evaluation=f"pretext/{question}",
        metric="mean",
        value=scale * float(totals[:, 0].sum()) / cases,
        unit=first.unit,
        protocol=protocol,
        chance=chance,
        ceiling=100.0 if first.unit == "%" else None,
        better=first.better,
        interval=None if spread is None else (scale * spread.interval[0], scale * spread.interval[1]),
        headline=headline,
    )


def _lines(name: str, questions: dict[str, Answers], scores: dict[str, Score]) -> Lines:
    """A curve of the scores of ``questions``, in the order of the numbers in which they differ."""
    order = sorted(questions, key=lambda question: questions[question].at or 0.0)
    points = [scores[question] for question in order]
    title, unit = name.replace("_", " "), points[0].unit
    return Lines(
        title=f"{title} on held-out data",
        x_label=questions[order[0]].axis,
        y_label=unit,
        x=[questions[question].at or 0.0 for question in order],
        series={"trained": [point.value for point in points]},
        chance=None if any(point.chance is None for point in points) else [point.chance for point in points],
        protocol=points[0].protocol,
        untrained=[(point.evaluation, point.metric) for point in points],
    )
