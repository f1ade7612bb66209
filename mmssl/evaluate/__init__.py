"""Evaluations: ask questions of trained encoders. ``EVALUATIONS`` is the table of all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmssl.config import parse
from mmssl.errors import MmsslError
from mmssl.evaluate.actions import Actions
from mmssl.evaluate.alignment import Alignment
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.cross_modal import CrossModal
from mmssl.evaluate.dense.depth import Depth
from mmssl.evaluate.dense.normals import Normals
from mmssl.evaluate.dense.segmentation import Segmentation
from mmssl.evaluate.embedding_map import EmbeddingMap
from mmssl.evaluate.features import Features
from mmssl.evaluate.finetune import Finetune
from mmssl.evaluate.folds import Folds
from mmssl.evaluate.health import Health
from mmssl.evaluate.knn import KNN
from mmssl.evaluate.language.gap import ModalityGap
from mmssl.evaluate.language.text_retrieval import TextRetrieval
from mmssl.evaluate.language.zero_shot import ZeroShot
from mmssl.evaluate.leaks import Leaks
from mmssl.evaluate.linear import Linear
from mmssl.evaluate.phases import Phases
from mmssl.evaluate.places import Places
from mmssl.evaluate.pretext import Pretext
from mmssl.evaluate.propagation.evaluation import Propagation
from mmssl.evaluate.subject import Subject, untrained
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
    "cross_modal": CrossModal,
    "places": Places,
    "segmentation": Segmentation,
    "depth": Depth,
    "normals": Normals,
    "zero_shot": ZeroShot,
    "text_retrieval": TextRetrieval,
    "modality_gap": ModalityGap,
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


def evaluate(
    subject: Subject, questions: Mapping[str, EvaluationConfig] | Iterable[EvaluationConfig]
) -> list[Score]:
    """Ask every question in turn; features are extracted once for all of them.

    One kind of evaluation may be asked several times under different names: what is called other than its
    kind gives scores ``NAME/…``, and its figures and pictures go to ``questions/NAME``.
    """
    if not isinstance(questions, Mapping):
        return [score for config in questions for score in EVALUATIONS[config.name](config).run(subject)]
    scores: list[Score] = []
    for name, config in questions.items():
        evaluation = EVALUATIONS[config.name](config)
        if name == config.name:
            scores += evaluation.run(subject)
            continue
        with subject.asked_as(name):
            scores += [
                replace(score, evaluation=renamed(score.evaluation, name))
                for score in evaluation.run(subject)
            ]
    return scores


def renamed(evaluation: str, name: str) -> str:
    """``knn/shape`` under the name ``knn_both``: ``knn_both/shape``."""
    _, slash, rest = evaluation.partition("/")
    return f"{name}{slash}{rest}"
