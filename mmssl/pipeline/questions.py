"""Evaluations of encoders with the same networks untrained beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmssl.engine.setup import pick_device
from mmssl.evaluate import EvaluationConfig, Subject, evaluate, untrained
from mmssl.models.encoder import Encoder


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


def ask(encoders: Mapping[str, Encoder], question: Question, folder: Path | None) -> list[dict[str, Any]]:
    """Every score as a dictionary, with the untrained networks' value under ``untrained`` (None = has none).

    Data of figures is written to ``folder``; with None there are no figures.
    """
    beside = untrained({name: encoder.config for name, encoder in encoders.items()}, question.seed)
    values = {(score.evaluation, score.metric): score.value for score in _scores(beside, question, None)}
    return [
        score.as_dict() | {"untrained": values.get((score.evaluation, score.metric))}
        for score in _scores(encoders, question, folder)
    ]


def _scores(encoders: Mapping[str, Encoder], question: Question, folder: Path | None) -> Any:
    subject = Subject(
        encoders,
        question.shards,
        gallery=question.gallery,
        queries=question.queries,
        folder=folder,
        device=pick_device(),
        seed=question.seed,
        workers=question.workers,
        batch_size=question.batch_size,
    )
    return evaluate(subject, question.evaluations)
