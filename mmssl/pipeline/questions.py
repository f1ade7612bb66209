"""Evaluations of encoders with the same networks untrained beside them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mmssl.config import fingerprint
from mmssl.engine.setup import pick_device
from mmssl.evaluate import EvaluationConfig, Score, Subject, evaluate, untrained
from mmssl.methods.artifact import load_method
from mmssl.methods.base import Method
from mmssl.models.artifact import AnyEncoder
from mmssl.models.encoder import StartConfig, with_weights
from mmssl.shards.manifest import load_manifest


@dataclass(frozen=True)
class Question:
    """What is asked, and on which data."""

    shards: str
    evaluations: Mapping[str, EvaluationConfig]
    """Name to settings; the name is where scores begin: ``knn``, or another for one kind asked twice."""
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
    before = _untrained_scores(
        {name: encoder.config for name, encoder in encoders.items()}, question, trained_in
    )
    after = _scores(encoders, _method(trained_in, question.seed, trained=True), question, folder)
    values = {(score.evaluation, score.metric): score.value for score in before}
    return [score.as_dict() | {"untrained": values.get((score.evaluation, score.metric))} for score in after]


_remembered: dict[str, list[Score]] = {}
"""Fingerprint of everything they depend on → the scores of untrained networks: stages often share one."""


def _untrained_scores(
    configs: Mapping[str, StartConfig], question: Question, trained_in: Path | None
) -> list[Score]:
    method = _method(trained_in, question.seed, trained=False)
    depends = {
        "encoders": {
            name: with_weights(config, lambda _: None).model_dump(mode="json")
            for name, config in configs.items()
        },
        "method": None if method is None else method.config.model_dump(mode="json"),
        "shards": load_manifest(question.shards).model_dump(mode="json"),
        "evaluations": {name: asked.model_dump(mode="json") for name, asked in question.evaluations.items()},
        "question": {**asdict(question), "evaluations": None},
    }
    key = fingerprint(depends)
    if key not in _remembered:
        _remembered[key] = _scores(untrained(configs, question.seed), method, question, None)
    return _remembered[key]


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
