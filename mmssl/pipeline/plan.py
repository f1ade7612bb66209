"""What a run would do, and why, before anything is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmssl.errors import MmsslError
from mmssl.pipeline.identity import Identity, differences, identities, read_stage
from mmssl.pipeline.recipe import Pipeline

Action = Literal["skip", "run", "resume", "re-run"]
"""``re-run`` puts the old folder aside first; ``resume`` goes on in it."""


@dataclass(frozen=True)
class Step:
    """One stage of a run."""

    stage: str
    kind: str
    action: Action
    why: str


def decide(folder: Path, identity: Identity, forced: str = "") -> tuple[Action, str]:
    """What to do with a stage whose folder is ``folder``; ``forced`` is a reason to run it in any case."""
    record = read_stage(folder)
    if record is None:
        return "run", "not run yet"
    if record["fingerprint"] != identity.fingerprint:
        changed = list(differences(record, identity)) or ["another version of mmssl wrote it"]
        return "re-run", "changed: " + "; ".join(changed)
    if forced:
        return "re-run", forced
    if record["status"] == "done":
        return "skip", "done, unchanged"
    return "resume", "stopped before it was done" if record["status"] == "running" else "failed"


def plan(pipeline: Pipeline, root: Path, *, only: str | None = None, start: str | None = None) -> list[Step]:
    """The steps of a run in order.

    Args:
        root: the pipeline's run folder.
        only: run this stage alone; its inputs must be done.
        start: run this stage and everything that depends on it, though it may be done already. Other
            stages are treated as ever: skipped when done and unchanged.

    Raises:
        MmsslError: no such stage, or ``only`` has an input that is not done.
    """
    for name in (only, start):
        if name is not None and name not in pipeline.stages:
            raise MmsslError(
                f"{pipeline.name}: no stage {name!r}; expected one of {', '.join(pipeline.stages)}"
            )
    identity = identities(pipeline)
    again = pipeline.downstream(start) if start else set()
    steps: dict[str, Step] = {}
    for name in pipeline.order():
        forced = ""
        if name in again:
            forced = "asked for" if name == start else f"depends on {start}, which runs again"
        elif trained := _trained_again(pipeline, root, name, steps):
            forced = f"its input {trained} is trained again, or was since"
        action, why = decide(root / name, identity[name], forced)
        steps[name] = Step(name, pipeline.stages[name].kind, action, why)
    if only is None:
        return list(steps.values())
    if pipeline.stages[only].kind != "report":
        _refuse_unfinished_inputs(pipeline, root, only, identity)
    if only not in again:
        action, why = decide(root / only, identity[only])
        return [Step(only, pipeline.stages[only].kind, action, why)]
    return [steps[only]]


def _trained_again(pipeline: Pipeline, root: Path, name: str, steps: Mapping[str, Step]) -> str | None:
    """An input with the same configuration but other weights than this stage has seen, or will have.

    Shards that are built again are the same bytes, so they are no reason.
    """
    record = read_stage(root / name)
    seen = {} if record is None else record.get("input_finished", {})
    for other, finished in trained_inputs(pipeline, root, name).items():
        if steps[other].action != "skip" or (record is not None and seen.get(other) != finished):
            return other
    return None


def trained_inputs(pipeline: Pipeline, root: Path, name: str) -> dict[str, str | None]:
    """Train stages that a stage takes in → when they finished, None while they have not."""
    records = {
        other: read_stage(root / other)
        for other in pipeline.inputs(name).values()
        if pipeline.stages[other].kind == "train"
    }
    return {other: record["finished"] if record else None for other, record in records.items()}


def _refuse_unfinished_inputs(
    pipeline: Pipeline, root: Path, only: str, identity: Mapping[str, Identity]
) -> None:
    for other in dict.fromkeys(pipeline.inputs(only).values()):
        action, why = decide(root / other, identity[other])
        if action != "skip":
            raise MmsslError(
                f"{root / only}: needs stage {other!r}, which is {why}; run it first, or leave out --stage"
            )
