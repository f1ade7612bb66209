"""Evaluations: ask questions of trained encoders. ``EVALUATIONS`` is the table of all of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmssl.config import parse
from mmssl.errors import MmsslError
from mmssl.evaluate.actions import Actions
from mmssl.evaluate.alignment import Alignment
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.embedding_map import EmbeddingMap
from mmssl.evaluate.finetune import Finetune
from mmssl.evaluate.folds import Folds
from mmssl.evaluate.health import Health
from mmssl.evaluate.knn import KNN
from mmssl.evaluate.leaks import Leaks
from mmssl.evaluate.linear import Linear
from mmssl.evaluate.phases import Phases
from mmssl.evaluate.pretext import Pretext
from mmssl.evaluate.propagation.evaluation import Propagation
from mmssl.evaluate.subject import Features, Subject, untrained
from mmssl.evaluate.tracking.evaluation import Tracking
from mmssl.evaluate.video_retrieval import Retrieval

EVALUATIONS: dict[str, type[Evaluation]] = {
    "knn": KNN,
    "linear": Linear,
    "map": EmbeddingMap,
    "health": Health,
    "pretext": Pretext,
    "alignment": Alignment,
    "phases": Phases,
    "leaks": Leaks,
    "retrieval": Retrieval,
    "actions": Actions,
    "finetune": Finetune,
    "folds": Folds,
    "propagation": Propagation,
    "tracking": Tracking,
}

__all__ = [
    "EVALUATIONS",
    "Evaluation",
    "EvaluationConfig",
    "Features",
    "Score",
    "Subject",
    "evaluate",
    "parse_evaluation",
    "untrained",
]


def parse_evaluation(data: Mapping[str, Any], source: Path | str, at: str = "") -> EvaluationConfig:
    """The settings of one evaluation: ``data["name"]`` selects it, ``source`` and ``at`` are for messages.

    Raises:
        MmsslError: no such evaluation, or settings that do not fit it.
    """
    name = data.get("name")
    if name not in EVALUATIONS:
        where = f"{at}.name" if at else "name"
        raise MmsslError(f"{source}: {where}: expected one of {', '.join(EVALUATIONS)}, found {name!r}")
    return parse(EVALUATIONS[str(name)].Config, data, source, at)


def evaluate(subject: Subject, configs: Iterable[EvaluationConfig]) -> list[Score]:
    """Ask every question in turn; features are extracted once for all of them."""
    return [score for config in configs for score in EVALUATIONS[config.name](config).run(subject)]
