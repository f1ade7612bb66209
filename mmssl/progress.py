"""The progress bar of what takes a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Told = Callable[[int, int | None], None]
"""Told how much is done, and of how much (None where nobody knows)."""


@contextmanager
def progress_bar(what: str, unit: str, console: Console, *, transient: bool = False) -> Iterator[Told]:
    """A bar with rate and time left; nothing is drawn where the output is not a terminal.

    Args:
        transient: it leaves the screen when it is finished.

    Yields:
        What is to be told.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=transient
    ) as progress:
        bar = progress.add_task(what, total=None, rate="")

        def update(done: int, total: int | None) -> None:
            progress.update(bar, completed=done, total=total)
            speed = progress.tasks[bar].speed
            progress.update(bar, rate=f"{speed:,.0f} {unit}/s" if speed else "")

        yield update
