"""Figures over several stages: one score against a number in which trainings differ, such as their views."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError

Trainings = str | Annotated[tuple[str, ...], Field(min_length=1)]
"""A train stage, or the evaluate stage that asks it; several, of different seeds, become mean and range."""


class StagesFigure(Config):
    """Lines of one score, drawn in the report with what the untrained networks and guessing score."""

    title: str
    x_label: str
    """What the numbers in ``series`` count, such as ``views in training``."""
    score: Annotated[str, Field(pattern=r"^[^/]+/.+")]
    """Evaluation and metric as in ``scores.json``, with a slash between: ``knn/shape/accuracy``."""
    series: Annotated[dict[str, dict[int | float, Trainings]], Field(min_length=1)]
    """Line to number to stage: ``{contrastive: {2: cmc2, 3: cmc3}, predictive: {2: regression2}}``."""


def check_figures(figures: Sequence[StagesFigure], stages: Mapping[str, Any], where: str) -> None:
    """See that every stage in ``figures`` will have the score.

    Args:
        stages: of the whole pipeline, by name.
        where: dotted place of the figures in their file, for messages.

    Raises:
        MmsslError: a stage that does not exist or is neither trained nor evaluates, whose encoders nobody
            asks for the score, or several do.
    """
    for number, figure in enumerate(figures):
        question = figure.score.split("/")[0]
        asking = {name: s for name, s in stages.items() if s.kind == "evaluate" and question in s.evaluations}
        for line, points in figure.series.items():
            for x, named in points.items():
                at = f"{where}.{number}.series.{line}.{x}"
                for name in (named,) if isinstance(named, str) else named:
                    _check(name, stages, question, asking, at)


def _check(name: str, stages: Mapping[str, Any], question: str, asking: Mapping[str, Any], at: str) -> None:
    if name in asking:
        return
    if name not in stages or stages[name].kind not in ("train", "evaluate"):
        fitting = dict.fromkeys([s.encoders for s in asking.values()] + list(asking))
        raise MmsslError(
            f"{at}: no train or evaluate stage {name!r}; expected one that is asked {question!r}: "
            f"{', '.join(fitting) or 'there is none'}"
        )
    who = [other for other, stage in asking.items() if stage.encoders == name]
    if not who:
        raise MmsslError(f"{at}: expected a stage that is asked {question!r}; nobody asks it of {name!r}")
    if len(who) > 1:
        raise MmsslError(f"{at}: {name!r} is asked {question!r} by {', '.join(who)}; expected one of these")
