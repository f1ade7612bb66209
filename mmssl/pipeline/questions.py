"""Evaluations of encoders with the same networks untrained beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmssl.engine.setup import pick_device
from mmssl.evaluate import EvaluationConfig, Score, Subject, evaluate, untrained
from mmssl.methods.artifact import load_method
from mmssl.methods.base import Method
from mmssl.models.artifact import AnyEncoder


@dataclass(frozen=True)
class Question:
    """What is asked, and on which data."""

    shards: str
    evaluations: tuple[EvaluationConfig, ...]
    gallery: str = "train"
    queries: str = "val"
    seed: int = 0
    """Of the untrained networks and of everything an evaluation draws."""
    batch_size: int = 128
    workers: int = 2
    clips: int = 1
    """Clips of a video whose features are averaged for a clip encoder."""
    frames: int = 16
    """Frames of a video whose features are averaged for an image encoder."""


def ask(
    encoders: Mapping[str, AnyEncoder],
    question: Question,
    folder: Path | None,
    trained_in: Path | None = None,
) -> list[dict[str, Any]]:
    """Every score as a dictionary, with the untrained networks' value under ``untrained`` (None = has none).

    Data of figures is written to ``folder``; with None there are no figures. ``trained_in`` is the folder of
    the train stage, for questions about the objective itself.
    """
    beside = untrained({name: encoder.config for name, encoder in encoders.items()}, question.seed)
    before = _scores(beside, _method(trained_in, question.seed, trained=False), question, None)
    after = _scores(encoders, _method(trained_in, question.seed, trained=True), question, folder)
    values = {(score.evaluation, score.metric): score.value for score in before}
    return [score.as_dict() | {"untrained": values.get((score.evaluation, score.metric))} for score in after]


def _method(folder: Path | None, seed: int, *, trained: bool) -> Method | None:
    if folder is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return load_method(folder, trained=trained)


def _scores(
    encoders: Mapping[str, AnyEncoder], method: Method | None, question: Question, folder: Path | None
) -> list[Score]:
    subject = Subject(
        encoders,
        question.shards,
        method=method,
        clips=question.clips,
        frames=question.frames,
        gallery=question.gallery,
        queries=question.queries,
        folder=folder,
        device=pick_device(),
        seed=question.seed,
        workers=question.workers,
        batch_size=question.batch_size,
    )
    return evaluate(subject, question.evaluations)
