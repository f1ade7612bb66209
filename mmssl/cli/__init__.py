"""The ``mmssl`` command. Every command imports what it needs when it runs, so that help is there at once."""

import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from mmssl.cli.artifacts import export, report
from mmssl.cli.evaluate import app as evaluate
from mmssl.cli.run import run
from mmssl.cli.schema import schema
from mmssl.cli.track import track
from mmssl.errors import EXIT_BAD_INPUT, EXIT_PREEMPTED, MmsslError, Preempted

HELP = """Learn visual representations without labels.

`mmssl run quickstart` does everything that pipelines/quickstart.yaml says: shards, training, evaluation,
report. Run it again and it does only what has changed or was interrupted.
"""
SHARDS_HELP = "Turn raw data into shards (tar files with an index), and check what is in them."


def application(arguments: Sequence[str]) -> typer.Typer:
    """The command line; ``shards`` brings image libraries and is filled in only when it is asked for."""
    app = typer.Typer(
        name="mmssl",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=HELP,
    )
    for command in (run, report, export, track, schema):
        app.command()(command)
    app.add_typer(evaluate)
    if arguments[:1] == ["shards"]:
        from mmssl.cli.shards import app as shards

        app.add_typer(shards)
    else:
        app.add_typer(typer.Typer(name="shards", help=SHARDS_HELP))
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: bad input ends with a message and 2, preemption with 75, Ctrl-C with 130."""
    console = Console(stderr=True, soft_wrap=True)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        application(arguments)(args=list(arguments), prog_name="mmssl")
    except MmsslError as error:
        console.print("[bold red]error[/bold red]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        sys.exit(EXIT_BAD_INPUT)
    except Preempted as error:
        console.print(f"{error}\nRun the same command again to go on.", markup=False, highlight=False)
        sys.exit(EXIT_PREEMPTED)
