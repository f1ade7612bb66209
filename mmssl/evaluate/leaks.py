"""Leak audits: does a method take a shortcut that is offered, and does it miss one that is taken away?

A planted shortcut shows what a network has learned to use: the answers of one that never met it should not
get better. A removed one shows what it used to rely on; but every change also makes frames less like those of
training, so a fall is a question to look into, and only no fall is an answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.figures import Lines, write_lines
from mmssl.evaluate.pretext import full
from mmssl.evaluate.shortcuts import SHORTCUTS
from mmssl.methods.base import Answers, Method
from mmssl.stream import scan
from mmssl.stream.batch import Batch
from mmssl.stream.sample import Sample
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

AS_IT_IS = "as_it_is"
BATCH_STATISTICS = "batch_statistics"


class LeaksConfig(EvaluationConfig):
    """The method's questions on the query split, with and without shortcuts."""

    name: Literal["leaks"] = "leaks"
    audits: tuple[str, ...] = (*SHORTCUTS, BATCH_STATISTICS)
    """Which: counter and borders are planted; trimmed, recompressed, blurred, one_channel and recoloured take
    something away; batch_statistics lets BatchNorm, where there is any, see the batch as in training."""
    batch_size: PositiveInt = 64
    """Samples that are asked about together, as in ``pretext``."""

    @field_validator("audits")
    @classmethod
    def _known(cls, audits: tuple[str, ...]) -> tuple[str, ...]:
        known = (*SHORTCUTS, BATCH_STATISTICS)
        for name in audits:
            if name not in known:
                raise ValueError(f"audits: expected some of {', '.join(known)}, found {name!r}")
        return audits


class Prepared(View):
    """Another view's uint8 frames, before they are finished, so that one decoding serves all audits."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.fields, self.optional = view.fields, view.optional

    def read(self, sample: Sample, draws: Draws) -> Any:
        return self.view.read(sample, draws)

    def prepare(self, items: Sequence[Any], draws: Draws) -> Any:
        return self.view.prepare(items, draws)

    def finish(self, x: Any, draws: Draws) -> Any:
        return x


class Leaks(Evaluation):
    """One score for each question as it is, and for each audit the points by which it changes."""

    Config = LeaksConfig

    def run(self, subject: "Subject") -> list[Score]:
        method = subject.method
        if method is None:
            raise MmsslError(
                "evaluation leaks: no method beside the encoder; expected `encoders` to name a train stage "
                "of the pipeline whose method can be asked"
            )
        audits = [AS_IT_IS, *self.config.audits]
        if not any(isinstance(module, _BatchNorm) for module in method.modules()):
            audits = [name for name in audits if name != BATCH_STATISTICS]  # nothing that could leak
        found = self._ask(method, subject, audits)
        size = self.config.batch_size
        if not found[AS_IT_IS]:
            raise MmsslError(
                f"evaluation leaks: method {method.config.name!r} had no question about split "
                f"{subject.queries!r}; expected a method that has, and at least {size} readable samples "
                "(batch_size)"
            )
        about = f"{subject.queries} in batches of {size}, seen as in training but for the shortcut"
        scores = {
            question: _scores(question, {name: found[name][question] for name in audits}, about)
            for question in found[AS_IT_IS]
        }
        firsts: dict[str, str] = {}  # of questions that differ in one number only
        for question, answers in found[AS_IT_IS].items():
            firsts.setdefault(answers[0].curve or question, question)
        shown = {question: scores[question][1:] for question in firsts.values()}
        if len(audits) > 1:
            write_lines(subject.folder, "leaks", _lines(audits[1:], shown, about))
        return [score for asked in scores.values() for score in asked]

    @torch.inference_mode()
    def _ask(
        self, method: Method, subject: "Subject", audits: Sequence[str]
    ) -> dict[str, dict[str, list[Answers]]]:
        """Audit to question to the answers batch by batch; of all audits with the same cases and draws."""
        views = method.views
        batches = scan(
            subject.config,
            {name: Prepared(view) for name, view in views.items()},
            split=subject.queries,
            batch_size=self.config.batch_size,
            seed=subject.seed,
        )
        found: dict[str, dict[str, list[Answers]]] = {audit: {} for audit in audits}
        for batch in full(batches, self.config.batch_size):
            for audit in audits:
                seen = _finished(batch, views, audit, subject)
                with batch_statistics(method) if audit == BATCH_STATISTICS else nullcontext():
                    answers = method.pretext(seen)
                for question, answered in answers.items():
                    found[audit].setdefault(question, []).append(answered)
        return found


def _finished(batch: Batch, views: Mapping[str, View], audit: str, subject: "Subject") -> Batch:
    """The batch with the shortcut of this audit in its frames, as the method's views finish it."""
    ids, passes = batch.id.cpu().numpy(), batch.pass_.cpu().numpy()
    changed = dict(batch)
    for name, view in views.items():
        x, draws = batch[name], Draws(subject.seed, name, ids, passes)
        if audit in SHORTCUTS:
            if not isinstance(x, dict) or not {"frames", "times"} <= x.keys():
                raise MmsslError(f"evaluation leaks: view {name!r}: expected one of frames and their times")
            x = {**x, "frames": change(x["frames"], x["times"], audit, draws.named("leaks"))}
        changed[name] = view.finish(x, draws)
    return Batch(changed).to(subject.device)


def change(frames: Tensor, times: Tensor, audit: str, draws: Draws) -> Tensor:
    """A shortcut in frames (B, …, 3, S, S) uint8 with times (B, …): of several cameras as of one."""
    flat = frames.flatten(1, -4)
    return SHORTCUTS[audit].change(flat, times.flatten(1), draws).view(frames.shape)


@contextmanager
def batch_statistics(method: nn.Module) -> Iterator[None]:
    """BatchNorm normalises with the batch at hand, as in training; running statistics stay as they were."""
    norms = [module for module in method.modules() if isinstance(module, _BatchNorm)]
    before = [
        (norm, norm.training, {name: buffer.clone() for name, buffer in norm.named_buffers()})
        for norm in norms
    ]
    try:
        for norm in norms:
            norm.train()
        yield
    finally:
        for norm, training, buffers in before:
            norm.train(training)
            for name, buffer in buffers.items():
                getattr(norm, name).copy_(buffer)


def _scores(question: str, found: Mapping[str, list[Answers]], about: str) -> list[Score]:
    first = found[AS_IT_IS][0]
    scale, unit = (100.0, "points") if first.unit == "%" else (1.0, first.unit)
    values = {
        name: torch.cat([one.values.double().cpu() for one in answers]) for name, answers in found.items()
    }
    own = values.pop(AS_IT_IS)
    scores = [
        Score(
            f"leaks/{question}", "as it is", scale * float(own.mean()), first.unit,
            f"{first.protocol}; {len(own)} cases; {about}", first.chance and scale * first.chance,
            better=first.better, headline=False,
        )
    ]  # fmt: skip
    for name, changed in values.items():
        difference = scale * (changed - own)
        error = float(difference.std()) / len(own) ** 0.5 if len(own) > 1 else float("nan")
        scores.append(
            Score(
                f"leaks/{question}", f"change by {name}", float(difference.mean()), unit,
                f"{_words(name)}; mean difference over the same cases, standard error {error:.2g} if they "
                f"were independent; {about}",
                0.0, better=first.better, headline=False,
            )
        )  # fmt: skip
    return scores


def _lines(audits: Sequence[str], changes: Mapping[str, Sequence[Score]], about: str) -> Lines:
    """What each audit changes, for several questions; audits are numbered, and the protocol names them."""
    return Lines(
        title="Leak audits: what each shortcut changes",
        x_label="audit",
        y_label="change, points",
        x=list(range(1, len(audits) + 1)),
        series={question: [score.value for score in scores] for question, scores in changes.items()},
        chance=[0.0] * len(audits),
        protocol="; ".join(
            [*(f"{number} {name}: {_words(name)}" for number, name in enumerate(audits, start=1)), about]
        ),
    )


def _words(audit: str) -> str:
    if audit == BATCH_STATISTICS:
        return "BatchNorm with the statistics of the batch at hand"
    shortcut = SHORTCUTS[audit]
    return f"{'planted' if shortcut.planted else 'removed or made useless'}: {shortcut.words}"
