"""Untrained networks are questioned once for all that share them, and again when anything differs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmssl.evaluate import parse_evaluation
from mmssl.evaluate.base import Score
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.pipeline import questions
from mmssl.pipeline.questions import Question, ask
from mmssl.shards.manifest import Manifest, Split


def test_untrained_scores_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        split = Split(samples=0, shards=())
        Manifest(name=name, splits={"train": split, "val": split}, fields={"image": 1.0}, classes={}).save(
            tmp_path / name
        )
    asked: list[Any] = []

    def evaluate(subject: Any, configs: Any) -> list[Score]:
        asked.append(subject.folder)
        return [Score("knn/class", "accuracy", float(len(asked)), "%", "counted")]

    monkeypatch.setattr(questions, "evaluate", evaluate)
    config = EncoderConfig(name="resnet18", stem="small", image_size=32)
    knn = parse_evaluation({"name": "knn"}, "test")
    question = Question(str(tmp_path / "one"), {"knn": knn})
    assert ask({"image": build_encoder(config)}, question, tmp_path)[0]["untrained"] == 1.0
    assert ask({"image": build_encoder(config)}, question, tmp_path)[0]["untrained"] == 1.0
    assert len(asked) == 3, "the network of the second stage is the same untrained"
    for other in (
        replace(question, seed=1),
        replace(question, shards=str(tmp_path / "two")),
        replace(question, evaluations={"knn": parse_evaluation({"name": "knn", "k": [5]}, "test")}),
    ):
        before = len(asked)
        ask({"image": build_encoder(config)}, other, tmp_path)
        assert len(asked) == before + 2
    before = len(asked)
    ask({"image": build_encoder(config.model_copy(update={"stem": "small_stride2"}))}, question, tmp_path)
    assert len(asked) == before + 2
