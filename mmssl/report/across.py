"""Figures over several stages: a recipe's report stage says which, the scores of the run fill them."""

from typing import Any

from mmssl.report.collect import Run


def across(run: Run) -> list[dict[str, Any]]:
    """Every figure that a report stage asks for and that has a value, as the report draws lines.

    Each has title, x_label, y_label, x, series, chance, untrained and protocol as an evaluation's figure, and
    ``range``: name of a series to (least, greatest) of each point that stands for several trainings.
    """
    asked = [
        figure
        for stage in run.stages
        if stage.kind == "report"
        for figure in stage.config.get("figures") or ()
    ]
    figures = [_figure(one, run.scores) for one in asked]
    return [figure for figure in figures if figure is not None]


def _figure(asked: dict[str, Any], scores: list[dict[str, Any]]) -> dict[str, Any] | None:
    evaluation, _, metric = asked["score"].rpartition("/")
    own = [score for score in scores if (score["evaluation"], score["metric"]) == (evaluation, metric)]
    points = {
        name: {float(x): _of(own, stages) for x, stages in line.items()}
        for name, line in asked["series"].items()
    }
    found = [score for line in points.values() for at in line.values() for score in at]
    if not found:
        return None
    x = sorted({at for line in points.values() for at in line})
    here = [[score for line in points.values() for score in line.get(at, ())] for at in x]
    values = {
        name: [[score["value"] for score in line.get(at, ())] for at in x] for name, line in points.items()
    }
    most = max(len(those) for line in values.values() for those in line)
    words = f"{evaluation}, {metric}"
    if most > 1:
        words += f"; mean over up to {most} trainings, bars from the least to the greatest"
    unit = found[0]["unit"]
    return {
        "title": asked["title"],
        "x_label": asked["x_label"],
        "y_label": f"{metric}, {unit}" if unit else metric,
        "x": x,
        "series": {name: [_mean(those) for those in line] for name, line in values.items()},
        "range": {
            name: [[min(those), max(those)] if len(those) > 1 else None for those in line]
            for name, line in values.items()
        },
        "untrained": _beside(here, "untrained"),
        "chance": _beside(here, "chance"),
        "protocol": f"{words}; {found[0]['protocol']}",
    }


def _of(scores: list[dict[str, Any]], stages: str | list[str]) -> list[dict[str, Any]]:
    """The score of each of the stages that has one yet; a stage is the trained one or the one that asked."""
    found = []
    for stage in [stages] if isinstance(stages, str) else stages:
        own = [score for score in scores if stage in (score["stage"], score.get("evaluated_by"))]
        found += own[:1]
    return found


def _beside(here: list[list[dict[str, Any]]], what: str) -> list[float | None] | None:
    """At each x the mean of what stands beside its scores: of the untrained networks' values, of chance."""
    means = [_mean([score[what] for score in scores if score.get(what) is not None]) for scores in here]
    return means if any(mean is not None for mean in means) else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
