"""What is shown of trackers that were scored: plots of success and precision, tables, film strips, a CSV."""

import csv
import io
from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmssl.evaluate.figures import Lines, write_lines
from mmssl.evaluate.tables import Cell, Table, write_table
from mmssl.evaluate.tracking.experiments import RUNS, Experiment
from mmssl.evaluate.tracking.film import film
from mmssl.evaluate.tracking.protocol import Curve, Judged
from mmssl.evaluate.tracking.raw import Followed
from mmssl.evaluate.tracking.scoring import Outcome
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.trajectory import Trajectory
from mmssl.files import write_bytes, write_json
from mmssl.tracking.boxes import Boxes, enclosing


@dataclass(frozen=True)
class Shown:
    """Several trackers under one protocol."""

    benchmark: str
    experiment: Experiment
    rule: str
    """Name of the protocol."""
    protocol: str
    """One line that says how the numbers came about."""
    sequences: Many[Sequence]
    outcomes: Mapping[str, Outcome]
    """Tracker to what it scored; the first is the one that is looked at."""
    ceiling: Judged

    @property
    def name(self) -> str:
        """For files: ``otb_ope_otb``."""
        return f"{self.benchmark}_{self.experiment}_{self.rule}"

    @property
    def evaluation(self) -> str:
        """For scores: ``tracking/otb/otb``, or ``tracking/otb/tre/otb`` where it is not one pass."""
        parts = [
            "tracking",
            self.benchmark,
            *([] if self.experiment == "ope" else [self.experiment]),
            self.rule,
        ]
        return "/".join(parts)

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.benchmark} {self.experiment.upper().replace('_', ' ')}, protocol {self.rule}"


def write_shown(folder: Path, shown: Shown) -> None:
    """Figures and tables for the report, all numbers in ``tracking_NAME.json``, and ``.csv``."""
    for kind in next(iter(shown.outcomes.values())).total.curves:
        if lines := plot(shown, kind):
            write_lines(folder, f"tracking_{shown.name}_{kind.replace(' ', '_')}", lines)
    for kind, table in (("", per_sequence(shown)), ("_attributes", per_attribute(shown))):
        if table.rows:
            write_table(folder, f"tracking_{shown.name}{kind}", table)
    write_json(folder / f"tracking_{shown.name}.json", plain(shown))
    write_bytes(folder / f"tracking_{shown.name}.csv", as_csv(per_sequence(shown)))


def plot(shown: Shown, kind: str) -> Lines | None:
    """OTB's plot: a curve for each tracker, the best first, with its score in brackets; None without curves.

    The score is the protocol's own where a curve stands for one: the area of success, precision at 20 px.
    """
    curves = {
        name: outcome.total.curves[kind]
        for name, outcome in shown.outcomes.items()
        if kind in outcome.total.curves
    }
    if not curves:
        return None
    metric = next((name for name in shown.ceiling.values if name.startswith(kind)), None)

    def score(name: str) -> float:
        curve = curves[name]
        found = shown.outcomes[name].total.values.get(metric or "", 100 * float(curve.y.mean()))
        return found / 100

    ranked = sorted(curves, key=score, reverse=True)
    first: Curve = curves[ranked[0]]
    return Lines(
        f"{kind} of {shown.title}" + (f" [{metric}]" if metric else " [mean]"),
        first.x_label,
        first.y_label,
        first.x.tolist(),
        {f"{name} [{score(name):.3f}]": _gaps(curves[name].y) for name in ranked},
        protocol=shown.protocol,
    )


def _gaps(values: Many[float] | np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def per_sequence(shown: Shown) -> Table:
    """A row for each sequence: every metric of the first tracker, the headline of the others, the ceiling."""
    (first, outcome), *others = shown.outcomes.items()
    metrics = list(outcome.total.values)
    columns = ["sequence", "frames", *metrics, *(f"{name}: {metrics[0]}" for name, _ in others), "attributes"]
    rows: list[list[Cell]] = []
    for sequence in shown.sequences:
        its = outcome.each[sequence.name].values
        beside = [other.each[sequence.name].values.get(metrics[0]) for _, other in others]
        numbers = [*(its.get(metric) for metric in metrics), *beside]
        rows.append([sequence.name, len(sequence), *map(_cell, numbers), " ".join(sequence.attributes)])
    totals = [*outcome.total.values.values(), *(other.total.values.get(metrics[0]) for _, other in others)]
    rows.append(["all", sum(map(len, shown.sequences)), *map(_cell, totals), ""])
    best = [shown.ceiling.values.get(metric) for metric in metrics]
    rows.append(["ceiling", None, *map(_cell, best), *[None] * len(others), ""])
    return Table(f"{first} by sequence: {shown.title}", columns, rows, shown.protocol)


def per_attribute(shown: Shown) -> Table:
    """A row for each attribute, a column for each tracker: the headline over the sequences that have it."""
    first = next(iter(shown.outcomes.values()))
    metric = next(iter(first.total.values))
    counts = {name: sum(name in one.attributes for one in shown.sequences) for name in first.attributes}
    rows: list[list[Cell]] = [
        [name, counts[name], *(_cell(its.attributes[name].values[metric]) for its in shown.outcomes.values())]
        for name in first.attributes
    ]
    columns = ["attribute", "sequences", *shown.outcomes]
    return Table(f"{metric} by attribute: {shown.title}", columns, rows, shown.protocol)


def _cell(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def plain(shown: Shown) -> dict[str, object]:
    """Everything as JSON; None where a number is not defined."""

    def judged(one: Judged) -> dict[str, object]:
        values = {name: _cell(value) for name, value in one.values.items()}
        return {"values": values, "counts": one.counts}

    trackers = {
        name: {
            "all": judged(its.total),
            "curves": {
                kind: {"x": curve.x.tolist(), "y": _gaps(curve.y)} for kind, curve in its.total.curves.items()
            },
            "sequences": {one: judged(of) for one, of in its.each.items()},
            "attributes": {one: judged(of) for one, of in its.attributes.items()},
            "seconds": its.seconds,
            "frames": its.frames,
        }
        for name, its in shown.outcomes.items()
    }
    return {"protocol": shown.protocol, "ceiling": judged(shown.ceiling), "trackers": trackers}


def as_csv(table: Table) -> bytes:
    """The table for spreadsheets."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.columns, *table.rows])
    return text.getvalue().encode()


def write_films(
    folder: Path,
    sequences: Many[Sequence],
    results: Mapping[str, Mapping[str, Followed]],
    scores: Mapping[str, float],
    experiment: Experiment,
    most: int,
) -> None:
    """``pictures/tracking_SEQUENCE.png`` of at most so many sequences, spread from the best to the worst.

    Args:
        results: tracker to what it did in each sequence; of several runs the first is shown.
        scores: by sequence, which ranks them.
    """
    ranked = sorted(sequences, key=lambda one: -np.nan_to_num(scores[one.name], nan=-1.0))
    chosen = np.unique(np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(int))
    for sequence in (ranked[at] for at in chosen):
        seen = RUNS.get(experiment, RUNS["ope"])(sequence)[0].sequence
        drawn = {name: _boxes(its[sequence.name]) for name, its in results.items()}
        name = sequence.name.replace("/", "_")
        write_bytes(folder / "pictures" / f"tracking_{name}.png", film(seen, drawn))


def _boxes(followed: Followed) -> Boxes:
    run = next(iter(followed.runs.values()))
    return enclosing(run.regions) if isinstance(run, Trajectory) else run
