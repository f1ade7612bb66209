"""What a run tells while it runs: ``log.jsonl``, TensorBoard scalars and a progress line; rank 0 only."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from mmssl import distributed
from mmssl.errors import MmsslError
from mmssl.files import write_bytes

PLAIN_EVERY = 30.0
"""Seconds between lines where there is no terminal to draw a bar on."""


class Log:
    """Collects one JSON object a logged step: step, samples, pass, loss, lr, images_per_s, data_wait, …

    Lines later than ``step`` (of a run that was killed after its last checkpoint) are cut off when it opens,
    so every step appears once.
    """

    def __init__(self, folder: Path, *, step: int, steps: int) -> None:
        self.path = folder / "log.jsonl"
        self.step = step
        self.steps = steps
        self.title = folder.name
        self.active = distributed.is_main()
        self._tensorboard = folder / "tensorboard"

    def __enter__(self) -> Self:
        if self.active:
            trim(self.path, self.step)
            self.file = open(self.path, "a", encoding="utf-8")
            self.board = SummaryWriter(str(self._tensorboard), purge_step=self.step + 1)
            self.progress = ProgressLine(self.title, self.step, self.steps)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            self.progress.close()
            self.board.close()
            self.file.close()

    def write(self, line: dict[str, Any]) -> None:
        """Append one logged step everywhere.

        Raises:
            MmsslError: the file cannot be written (disk full).
        """
        if not self.active:
            return
        try:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        except OSError as error:
            raise MmsslError(f"{self.path}: could not be written: {error.strerror or error}") from error
        for name, value in _scalars(line):
            self.board.add_scalar(name, value, line["step"])
        self.progress.show(line)

    def advance(self, step: int) -> None:
        """Move the progress line to ``step``."""
        if self.active:
            self.progress.advance(step)


class ProgressLine:
    """A bar on a terminal; elsewhere a plain line every ``PLAIN_EVERY`` seconds, and the last one."""

    def __init__(self, title: str, step: int, steps: int) -> None:
        self.title, self.steps = title, steps
        self.started, self.first = time.monotonic(), step
        self.shown = self.started
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(title, total=steps, completed=step, facts="")
        self.bar.start()

    def advance(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def show(self, line: dict[str, Any]) -> None:
        wait = f"waits for data {line['data_wait']:.0%}"
        facts = f"loss {line['loss']:.4f} · {line['images_per_s']:.0f} images/s · {wait}"
        self.bar.update(self.task, facts=facts)
        now = time.monotonic()
        last = line["step"] == self.steps
        if not self.console.is_terminal and (last or now - self.shown >= PLAIN_EVERY):
            self.shown = now
            done = line["step"] - self.first
            left = (now - self.started) / max(1, done) * (self.steps - line["step"])
            text = f"{self.title} {line['step']}/{self.steps} · {facts} · {left:.0f} s left"
            self.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.bar.stop()


class Stopwatch:
    """Time since the last reading, and how much of it was spent waiting for data."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.waited = 0.0
        self.steps = 0

    def next(self, batches: Iterator[Any]) -> Any:
        """The next batch; the wait counts. On a GPU part of it hides behind kernels still running."""
        before = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - before
        self.steps += 1
        return batch

    def read(self, batch_size: int) -> dict[str, float]:
        """images_per_s (samples of the global batch) and data_wait (share, 0..1); starts again."""
        seconds = max(time.perf_counter() - self.start, 1e-9)
        reading = {
            "images_per_s": round(self.steps * batch_size / seconds, 2),
            "data_wait": round(min(1.0, self.waited / seconds), 4),
        }
        self.__init__()  # type: ignore[misc]
        return reading


def trim(path: Path, step: int) -> None:
    """Keep the whole lines of a log that belong to steps up to ``step``."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step and line.endswith(b"\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # the line a killed process was writing
    write_bytes(path, b"".join(kept))


def _scalars(line: dict[str, Any], at: str = "") -> list[tuple[str, float]]:
    """{"parts": {"top1": 0.5}} → [("parts/top1", 0.5)]."""
    found = []
    for name, value in line.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{at}{name}/")
        elif name != "step":
            found.append((f"{at}{name}", float(value)))
    return found
