"""Run a pipeline: each stage once, in order, in its own folder, by one process or by torchrun's ranks."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.markup import escape

from mmssl import distributed, files
from mmssl.engine.setup import process_group
from mmssl.errors import MmsslError, Preempted
from mmssl.pipeline.identity import Identity, identities, read_stage
from mmssl.pipeline.plan import Action, Step, decide, plan, trained_inputs
from mmssl.pipeline.provenance import now, peak_memory, provenance
from mmssl.pipeline.recipe import Pipeline
from mmssl.pipeline.stages import RUN, Place

console = Console(stderr=True, soft_wrap=True)

PATIENCE = timedelta(days=7)
"""How long ranks wait for rank 0 while it builds or evaluates."""


def run_pipeline(
    pipeline: Pipeline,
    runs: Path,
    *,
    only: str | None = None,
    start: str | None = None,
    workers: int | None = None,
) -> list[Step]:
    """Do what ``plan`` says, then put together the scores and the report. Returns the steps.

    Under torchrun every rank calls this: all of them train, rank 0 does the rest while the others wait.
    A stage whose configuration changed starts in an empty folder, and what it had is kept beside it as
    ``STAGE.old-FINGERPRINT``.

    Raises:
        MmsslError: as ``plan``; what a stage raises; or another run works on the same stage.
        Preempted: a signal stopped the training; the same command goes on with it.
    """
    root = runs / pipeline.name
    steps = plan(pipeline, root, only=only, start=start)
    known = identities(pipeline)
    with process_group(), _Turns() as turns:
        for step in steps:
            if step.action == "skip":
                if distributed.is_main():
                    console.print(f"[dim]{step.stage}: {escape(step.why)}[/dim]")
                continue
            place = Place(pipeline, root, step.stage, provenance(), workers)
            _run_stage(place, step, known[step.stage], turns)
        if distributed.is_main():
            collect_scores(pipeline, root)
            _refresh_report(root, steps)
        turns.wait()
    return steps


class _Turns:
    """Ranks that wait for rank 0, longer than collectives usually may."""

    def __init__(self) -> None:
        self._group: Any = None

    def __enter__(self) -> "_Turns":
        if distributed.world_size() > 1:
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._group = None

    def wait(self) -> None:
        """Until every rank is here. A rank that fails never comes: it exits, and torchrun ends the others."""
        if self._group is not None:
            dist.all_reduce(torch.zeros(()), group=self._group)


def _run_stage(place: Place, step: Step, identity: Identity, turns: _Turns) -> None:
    stage = place.pipeline.stages[step.stage]
    with ExitStack() as held:
        if distributed.is_main():
            held.enter_context(_only_run(place))
            _begin(place, step, identity)
        turns.wait()
        began = time.monotonic()
        try:
            if stage.kind == "train" or distributed.is_main():
                RUN[stage.kind](stage, place)
        except (Preempted, KeyboardInterrupt):
            _end(place, "running", began)
            raise
        except BaseException:
            _end(place, "failed", began)
            raise
        _end(place, "done", began)
        if stage.kind == "evaluate" and distributed.is_main():
            collect_scores(place.pipeline, place.root)
        turns.wait()


@contextmanager
def _only_run(place: Place) -> Iterator[None]:
    """One run at a time on a stage. The lock lies outside the stage's folder, which may be put aside."""
    with files.only_writer(place.root / ".running" / place.name):
        yield


def _begin(place: Place, step: Step, identity: Identity) -> None:
    """Put an old result aside if need be, and say in ``stage.json`` that the stage runs."""
    action = _still(step.action, place, identity)
    console.print(f"[bold]{step.stage}[/bold] ({step.kind}): {escape(step.why)}")
    record = read_stage(place.folder)
    if (
        action == "re-run" and record is not None and step.kind != "report"
    ):  # that leaves nothing in its folder
        kept = _put_aside(place.folder, record["fingerprint"])
        console.print(f"  what it had is kept in {kept}")
        record = None
    files.write_json(
        place.folder / "stage.json",
        {
            "kind": identity.kind,
            "config": identity.config,
            "inputs": identity.inputs,
            "fingerprint": identity.fingerprint,
            "input_finished": trained_inputs(place.pipeline, place.root, place.name),
            "status": "running",
            "started": record["started"] if record else now(),
            "finished": None,
            "seconds": record["seconds"] if record else 0.0,
            "provenance": dict(place.provenance),
        },
    )


def _still(action: Action, place: Place, identity: Identity) -> Action:
    """The planned action, now that we hold the lock: another run may have changed the folder meanwhile."""
    found, _ = decide(place.folder, identity)
    return "re-run" if found == "re-run" else action


def _put_aside(folder: Path, fingerprint: str) -> Path:
    """Rename ``STAGE`` to ``STAGE.old-FINGERPRINT``, with a number if there is one already."""
    kept = folder.with_name(f"{folder.name}.old-{fingerprint}")
    number = 2
    while kept.exists():
        kept = folder.with_name(f"{folder.name}.old-{fingerprint}-{number}")
        number += 1
    os.rename(folder, kept)
    return kept


def _end(place: Place, status: str, began: float) -> None:
    if not distributed.is_main():
        return
    record = read_stage(place.folder)
    if record is None:
        raise MmsslError(f"{place.folder / 'stage.json'}: removed while the stage ran")
    record["status"] = status
    record["finished"] = now() if status == "done" else None
    record["seconds"] = round(record["seconds"] + time.monotonic() - began, 1)
    record["provenance"]["peak_memory_gb"] = peak_memory()
    files.write_json(place.folder / "stage.json", record)


def collect_scores(pipeline: Pipeline, root: Path) -> None:
    """Merge the scores of all evaluate stages that are done into ``scores.json`` of the run folder."""
    rows: list[dict[str, Any]] = []
    for name in pipeline.order():
        record = read_stage(root / name)
        if pipeline.stages[name].kind == "evaluate" and record is not None and record["status"] == "done":
            rows += files.read_json(root / name / "scores.json", "the scores of an evaluate stage")["scores"]
    files.write_json(root / "scores.json", {"pipeline": pipeline.name, "scores": rows})


def _refresh_report(root: Path, steps: list[Step]) -> None:
    if all(step.action == "skip" for step in steps) and (root / "report.html").exists():
        return
    from mmssl.report import write_report  # brings Plotly, which only reports need

    console.print(f"report: {write_report(root)}")
