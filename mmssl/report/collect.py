"""What a run folder holds, as plain data. Anything absent is empty: a report can be made at any time."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmssl.errors import MmsslError
from mmssl.files import read_json
from mmssl.shards.manifest import FILE_NAME, Manifest, load_manifest


@dataclass(frozen=True)
class EmbeddingMap:
    """``map.json`` and its sheet of thumbnails."""

    points: dict[str, Any]
    """x, y, keys: lists; labels: name to class indices; classes: name to class names; sprite; protocol."""
    sheet: bytes
    """JPEG."""


@dataclass(frozen=True)
class Stage:
    """One folder ``runs/PIPELINE/STAGE``."""

    name: str
    kind: str
    status: str
    config: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str
    started: str
    finished: str
    seconds: float | None
    provenance: dict[str, Any]
    log: list[dict[str, Any]] = field(default_factory=list)
    """Lines of ``log.jsonl``, by step."""
    scores: list[dict[str, Any]] = field(default_factory=list)
    maps: dict[str, EmbeddingMap] = field(default_factory=dict)
    """By the name of the question, ``""`` for that which bears the evaluation's own."""
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Name to PNG; like figures and tables, what a named question left begins with ``QUESTION: ``."""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name to lines: title, x_label, y_label, x, series, chance, untrained, protocol."""
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name to title, columns, rows, protocol."""
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    manifest: Manifest | None = None


@dataclass(frozen=True)
class Run:
    """A pipeline's folder: its stages in the order in which they were started."""

    name: str
    stages: list[Stage]

    @property
    def scores(self) -> list[dict[str, Any]]:
        """Every score of every evaluation stage."""
        return [score for stage in self.stages for score in stage.scores]

    @property
    def command(self) -> str:
        """The command of the stage that was started last: repeats the run."""
        commands = [stage.provenance.get("command", "") for stage in self.stages]
        last = next((command for command in reversed(commands) if command), "")
        return last if isinstance(last, str) else " ".join(map(str, last))


def collect(folder: Path | str) -> Run:
    """Read ``runs/PIPELINE``.

    Raises:
        MmsslError: no such folder, or a file in it that is not what its name says.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MmsslError(f"{folder}: no such folder; expected the folder of a pipeline's run")
    # Results that a re-run has put aside (STAGE.old-FINGERPRINT) belong to another run.
    kept = [path.parent for path in sorted(folder.glob("*/stage.json")) if ".old-" not in path.parent.name]
    stages = [_stage(path) for path in kept]
    return Run(folder.resolve().name, sorted(stages, key=lambda stage: (stage.started, stage.name)))


def _stage(folder: Path) -> Stage:
    about = read_json(folder / "stage.json", "a stage's description")
    if not isinstance(about, dict):
        raise MmsslError(f"{folder / 'stage.json'}: expected a mapping that describes a stage")
    asked = {"": folder} | {path.name: path for path in sorted(folder.glob("questions/*")) if path.is_dir()}
    scores = folder / "scores.json"
    content = read_json(scores, "the scores of an evaluation") if scores.is_file() else {"scores": []}
    if not isinstance(content, dict) or not isinstance(content.get("scores"), list):
        raise MmsslError(f"{scores}: scores: expected a list")
    return Stage(
        name=folder.name,
        kind=str(about.get("kind", "")),
        status=str(about.get("status", "")),
        config=about.get("config") or {},
        inputs=about.get("inputs") or {},
        fingerprint=str(about.get("fingerprint") or ""),
        started=str(about.get("started") or ""),
        finished=str(about.get("finished") or ""),
        seconds=about.get("seconds"),
        provenance=about.get("provenance") or {},
        log=_lines(folder / "log.jsonl"),
        scores=content["scores"],
        maps={name: map_ for name, place in asked.items() if (map_ := _map(place)) is not None},
        pictures={name: path.read_bytes() for name, path in _named(asked, "pictures/*.png")},
        figures={
            name: _figure(path, content["scores"], question)
            for question, place in asked.items()
            for name, path in _named({question: place}, "figures/*.json")
        },
        tables={name: _table(path) for name, path in _named(asked, "tables/*.json")},
        quarantined=_lines(folder / "quarantine.jsonl"),
        manifest=load_manifest(folder) if (folder / FILE_NAME).is_file() else None,
    )


def _named(asked: Mapping[str, Path], pattern: str) -> Iterator[tuple[str, Path]]:
    """Every file of the pattern, with the name it is shown under."""
    for question, place in asked.items():
        for path in sorted(place.glob(pattern)):
            yield f"{question}: {path.stem}" if question else path.stem, path


def _map(folder: Path) -> EmbeddingMap | None:
    path = folder / "map.json"
    if not path.is_file():
        return None
    points = read_json(path, "an embedding map")
    sheet = folder / "map.jpg"
    if not sheet.is_file():
        raise MmsslError(f"{sheet}: no such file; expected the thumbnails of {path.name}")
    return EmbeddingMap(points, sheet.read_bytes())


def _figure(path: Path, scores: list[dict[str, Any]], question: str) -> dict[str, Any]:
    """``untrained`` names scores in the file; here it becomes the values that stand beside them.

    A figure of a named question knows its evaluation only, whose scores bear the question's name.
    """
    figure = read_json(path, "a figure that an evaluation left")
    wanted = {"title", "x_label", "y_label", "x", "series", "chance", "untrained", "protocol"}
    if not isinstance(figure, dict) or not wanted <= figure.keys() or not isinstance(figure["series"], dict):
        raise MmsslError(f"{path}: expected a figure with {', '.join(sorted(wanted))}")
    values = {(score["evaluation"], score["metric"]): score.get("untrained") for score in scores}
    untrained = [
        values.get((_called(evaluation, question), metric)) for evaluation, metric in figure["untrained"]
    ]
    known = any(value is not None for value in untrained)
    title = f"{figure['title']} ({question.replace('_', ' ')})" if question else figure["title"]
    return figure | {"title": title, "untrained": untrained if known else None}


def _called(evaluation: str, question: str) -> str:
    return "/".join([question, *evaluation.split("/")[1:]]) if question else evaluation


def _table(path: Path) -> dict[str, Any]:
    table = read_json(path, "a table that an evaluation left")
    wanted = {"title", "columns", "rows", "protocol"}
    if not isinstance(table, dict) or not wanted <= table.keys():
        raise MmsslError(f"{path}: expected a table with {', '.join(sorted(wanted))}")
    if any(len(row) != len(table["columns"]) for row in table["rows"]):
        raise MmsslError(f"{path}: rows: expected as many cells as there are columns")
    return table


def _lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines; a last line that a running stage has not finished writing is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise MmsslError(f"{path}: line {number}: expected one JSON object ({error})") from error
    return found
