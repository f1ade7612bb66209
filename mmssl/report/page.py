"""The report: one HTML file with everything inlined, which opens without a network."""

import base64
import hashlib
import json
import statistics
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mmssl.files import write_bytes, write_json
from mmssl.report.across import across
from mmssl.report.collect import Run, Stage, collect
from mmssl.report.plots import curves, lines, scatter

FILE_NAME = "report.html"
FIGURES = "figures.json"
"""Beside it: what the figures over several stages show, as plain data."""

COLUMN = 640
"""Pixels beyond which a picture beside others would lose every other one."""


def write_report(run_folder: Path | str) -> Path:
    """Write ``report.html`` into the folder of a pipeline's run, atomically; return its path.

    The data of figures over several stages go to ``figures.json`` beside it.

    Raises:
        MmsslError: no such folder, or a file in it that is not what its name says.
    """
    path = Path(run_folder) / FILE_NAME
    run = collect(run_folder)
    figures = across(run)
    if figures:
        write_json(path.with_name(FIGURES), {"figures": figures})
    else:
        path.with_name(FIGURES).unlink(missing_ok=True)
    write_bytes(path, render(run, figures).encode())
    return path


def render(run: Run, figures: list[dict[str, Any]]) -> str:
    """The whole page; ``figures`` are those over several stages."""
    pages = Environment(
        loader=PackageLoader("mmssl.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(
        duration=duration, value=value, pretty=pretty, image=image, beside=beside, cell=cell, wide=wide
    )
    trained = [stage for stage in run.stages if stage.log]
    maps = [
        (f"{stage.name}: {question}" if question else stage.name, map_)
        for stage in run.stages
        for question, map_ in stage.maps.items()
    ]
    sheets = {_name_of(map_.sheet): image(map_.sheet, "jpeg") for _, map_ in maps}
    data = {
        "curves": {stage.name: curves(stage) for stage in trained},
        "lines": {
            f"{stage.name}/{name}": lines(figure)
            for stage in run.stages
            for name, figure in stage.figures.items()
        }
        | {f"/{number}": lines(figure) for number, figure in enumerate(figures)},
        "maps": [
            {
                "stage": name,
                "keys": map_.points["keys"],
                "labels": map_.points["labels"],
                "classes": map_.points.get("classes", {}),
                "sprite": map_.points["sprite"],
                "sheet": _name_of(map_.sheet),
                "protocol": map_.points["protocol"],
                "figures": {label: scatter(map_, label) for label in map_.points["labels"] or {"": []}},
            }
            for name, map_ in maps
        ],
        "sheets": sheets,
    }
    return pages.get_template("template.html.j2").render(
        run=run,
        table=results(run.scores),
        trained=[(stage, throughput(stage)) for stage in trained],
        figures=figures,
        plotted=[stage for stage in run.stages if stage.figures],
        tabled=[stage for stage in run.stages if stage.tables],
        pictured=[stage for stage in run.stages if stage.pictures],
        built=[stage for stage in run.stages if stage.manifest is not None],
        quarantine=[(stage, faults(stage)) for stage in trained],
        maps=maps,
        data=Markup(inline_json(data)),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
    )


def results(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Headline scores: by stage (``rows``) and evaluation (``columns``), whose first headline metric counts.

    ``best`` is a column's best value and ``metrics`` says what its numbers are. ``gain`` is the difference to
    the untrained network, and ``improved`` whether it goes in the good direction.
    """
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    metrics: dict[str, str] = {}
    heads: dict[tuple[str, str, str], str] = {}
    for score in scores:
        asked = (score["stage"], score.get("evaluated_by", ""), score["evaluation"])
        if not score.get("headline", True) or heads.setdefault(asked, score["metric"]) != score["metric"]:
            continue
        lower = "" if _higher(score) else ", lower is better"
        metrics.setdefault(score["evaluation"], score["metric"] + lower)
        untrained = score.get("untrained")
        gain = None if untrained is None else score["value"] - untrained
        improved = gain is not None and (gain >= 0 if _higher(score) else gain <= 0)
        row = rows.setdefault(score["stage"], {})
        if score["evaluation"] in row:  # asked twice, on different data: a row for each asker
            row = rows.setdefault(f"{score['stage']} ({score.get('evaluated_by', 'again')})", {})
        row[score["evaluation"]] = score | {"gain": gain, "improved": improved}
    families = list(dict.fromkeys(name.split("/")[0] for name in metrics))
    columns = sorted(metrics, key=lambda name: families.index(name.split("/")[0]))
    best = {name: _best(rows, name) for name in columns}
    return {"columns": columns, "metrics": metrics, "rows": rows, "best": best}


def _higher(score: dict[str, Any]) -> bool:
    return bool(score.get("better", "higher") == "higher")


def _best(rows: dict[str, dict[str, dict[str, Any]]], column: str) -> float | None:
    """The best value of a column; one row has no best."""
    found = [row[column] for row in rows.values() if column in row]
    if len(rows) < 2:
        return None
    return float((max if _higher(found[0]) else min)(score["value"] for score in found))


def throughput(stage: Stage) -> dict[str, Any]:
    """Median images/s and median share of time waiting for data (0..1), and where training stands."""

    def median(name: str) -> float | None:
        values = [line[name] for line in stage.log if isinstance(line.get(name), int | float)]
        return statistics.median(values) if values else None

    last = stage.log[-1]
    return {
        "images_per_s": median("images_per_s"),
        "data_wait": median("data_wait"),
        "step": last.get("step"),
        "pass": last.get("pass"),
        "loss": last.get("loss"),
    }


def faults(stage: Stage) -> list[tuple[str, int]]:
    """Reasons for which samples were left out, the commonest first."""
    reasons = Counter(f"{fault.get('field', '')}: {fault.get('reason', '')}" for fault in stage.quarantined)
    return reasons.most_common(5)


def duration(seconds: float | None) -> str:
    """``3 min 20 s``; a dash where unknown."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def value(number: float | None, unit: str = "") -> str:
    """A number as a person would write it; a dash where there is none."""
    if number is None:
        return "–"
    text = f"{number:.1f}" if unit == "%" else f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
    return text.replace("-", "−")


def cell(content: str | float | None) -> str:
    """Of a table: words as they are, whole numbers whole, others with one digit after the point."""
    if content is None:
        return ""
    return content if isinstance(content, str) else value(content, "" if isinstance(content, int) else "%")


def beside(score: dict[str, Any]) -> str:
    """What a score is to be compared with: interval, untrained network, chance, a ceiling below 100 %."""
    unit = score["unit"]
    words = [
        f"{name} {value(score[name], unit)}"
        for name in ("untrained", "chance")
        if score.get(name) is not None
    ]
    ceiling = score.get("ceiling")
    if ceiling is not None and (unit, ceiling) != ("%", 100):
        words.append(f"ceiling {value(ceiling, unit)}")
    if score.get("interval"):
        low, high = score["interval"]
        words.insert(0, f"95 % in {value(low, unit)} … {value(high, unit)}")
    return " · ".join(words)


def pretty(content: Any) -> str:
    """Indented JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)


def image(content: bytes, kind: str = "png") -> str:
    """A data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def wide(content: bytes) -> bool:
    """Whether a PNG needs the page's whole width: a strip, or more pixels than a column of the page has."""
    width, height = struct.unpack(">II", content[16:24])
    return bool(width > 4 * height or width > COLUMN)


def inline_json(content: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
