"""``mmssl run``: a pipeline, or a part of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from mmssl.pipeline.plan import Step

Pipeline = Annotated[str, typer.Argument(help="A YAML file, or the name of one in pipelines/ (quickstart).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Change the recipe: STAGE.KEY=VALUE, such as simclr.train.passes=10."
    ),
]


def run(
    pipeline: Pipeline,
    overrides: Overrides = None,
    stage: Annotated[
        str | None, typer.Option(help="Run this stage only; the stages it builds on must be done.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE",
            help="Run this stage again, and all that depends on it, even if they are done.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run, and why; do nothing.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="Folder of all runs; results go to RUNS/PIPELINE/STAGE.")] = Path(
        "runs"
    ),
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that read and decode.", show_default="as the recipe says"),
    ] = None,
) -> None:
    """Run a pipeline: build shards, train, evaluate, export, report.

    A stage that is done and unchanged is skipped, an interrupted one goes on where it stopped, and a changed
    one runs again; what it had before is kept in a folder beside it. The results are
    runs/PIPELINE/report.html and scores.json.

    Examples:

    - `mmssl run quickstart`

    - `mmssl run cifar10 --dry-run simclr.train.passes=50`

    - `mmssl run cifar10 --from simclr`

    - `torchrun --nproc-per-node 2 scripts/run_stage cifar10 --stage simclr`
    """
    with Console(stderr=True).status(f"{pipeline}: loading torch"):  # seconds, and nothing else to see
        from mmssl.pipeline.plan import plan
        from mmssl.pipeline.recipe import load_pipeline
        from mmssl.pipeline.runner import run_pipeline

    loaded = load_pipeline(pipeline, overrides or [])
    if dry_run:
        Console().print(_table(plan(loaded, runs / loaded.name, only=stage, start=start)))
        return
    run_pipeline(loaded, runs, only=stage, start=start, workers=workers)


def _table(steps: "list[Step]") -> Table:
    table = Table("stage", "kind", "would", "why", title="nothing has been done", title_style="dim")
    for step in steps:
        style = "dim" if step.action == "skip" else None
        table.add_row(step.stage, step.kind, step.action, "\n".join(step.why.split("; ")), style=style)
    return table
