"""``mmssl evaluate``, ``report`` and ``export``: for a trained encoder or a finished run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

Encoder = Annotated[
    Path, typer.Argument(help="Folder with encoder.safetensors: runs/PIPELINE/STAGE/encoders/NAME.")
]


def evaluate(
    encoder: Encoder,
    shards: Annotated[str, typer.Option(help="Shard set: a folder or URL with manifest.json.")],
    evaluation: Annotated[
        list[str] | None,
        typer.Option(
            help="Which questions to ask; repeat the option for several.", show_default="knn, linear"
        ),
    ] = None,
    gallery: Annotated[str, typer.Option(help="Split that evaluations may fit on.")] = "train",
    queries: Annotated[str, typer.Option(help="Split that is scored.")] = "val",
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json and the data of figures.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read and decode.")] = 2,
) -> None:
    """Score an encoder on a shard set, with the same network untrained beside it.

    Example: `mmssl evaluate runs/cifar10/simclr/encoders/image --shards runs/cifar10/images`
    """
    from mmssl.files import write_json
    from mmssl.models.artifact import load_encoder
    from mmssl.pipeline.questions import Question, ask
    from mmssl.pipeline.recipe import parse_evaluations

    configs = parse_evaluations({name: {} for name in evaluation or ("knn", "linear")}, "--evaluation", "")
    question = Question(shards, tuple(configs.values()), gallery, queries, workers=workers)
    rows = ask({"image": load_encoder(encoder)}, question, folder=out)
    if out is not None:
        write_json(out / "scores.json", {"scores": rows})
    table = Table("evaluation", "metric", "score", "untrained", "chance")
    for row in rows:
        numbers = [_number(row[name], row["unit"]) for name in ("value", "untrained", "chance")]
        table.add_row(row["evaluation"], row["metric"], *numbers)
    console = Console()
    console.print(table)
    headlines = {row["evaluation"]: row["protocol"] for row in reversed(rows)}
    for name, protocol in reversed(headlines.items()):
        console.print(f"{name}: {protocol}", style="dim", highlight=False)


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.2f} {unit}".rstrip()


def report(
    run: Annotated[Path, typer.Argument(help="A pipeline's run folder: runs/PIPELINE.")],
) -> None:
    """Write a run's report.html again: one page that opens offline.

    Example: `mmssl report runs/quickstart`
    """
    from mmssl.report import write_report

    print(write_report(run))


def export(
    encoder: Encoder,
    out: Annotated[Path, typer.Option(help="Folder to write; must not hold anything else.")],
    format: Annotated[str, typer.Option(help="timm: weights and configuration that timm loads.")] = "timm",
) -> None:
    """Write an encoder in a form that other tools load.

    Example: `mmssl export runs/cifar10/simclr/encoders/image --out my_resnet18`
    """
    from mmssl.models.interchange import export_encoder

    print(export_encoder(encoder, out, format))
