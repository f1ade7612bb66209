"""Build a shard set: plan, write shards in parallel, number the samples, and put down the manifest last."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmssl
from mmssl import files
from mmssl.errors import MmsslError
from mmssl.shards.captions import with_caption_facts
from mmssl.shards.index import ShardIndex
from mmssl.shards.manifest import FILE_NAME, Manifest, Shard, Split, load_manifest
from mmssl.shards.plan import Task, listing_fingerprint, plan_shards
from mmssl.shards.pool import run_tasks
from mmssl.shards.recipe import ShardRecipe
from mmssl.shards.sources import Listing
from mmssl.shards.state import STATE, Record, Skipped, read_record, state_file

SKIPPED_FILE = "skipped.jsonl"
MISSING_FILE = "missing.txt"
"""One input to a line, SPLIT<tab>NAME, that an official list names and the raw folder lacks."""

Progress = Callable[[int, int], None]
"""Called now and then with (inputs done, inputs in all)."""


def build_shards(
    recipe: ShardRecipe, out: Path | str, *, workers: int = 1, progress: Progress | None = None
) -> Manifest:
    """Build the recipe's shard set in ``out``, or finish an interrupted build, or find that all is there.

    The result depends on the recipe and the raw files only: not on ``workers``, nor on interruptions.

    Raises:
        MmsslError: another process builds here; the folder holds something else, or the recipe or the raw
            files have changed since (the differences are listed); too many unreadable inputs; disk full.
    """
    out = Path(out)
    listing = recipe.source.list_items()
    identity = _identity(recipe, listing_fingerprint(listing))
    with files.only_writer(out):
        finished = _finished(out, identity)
        if finished is not None:
            return finished
        _start_or_resume(out, identity)
        tasks = plan_shards(listing, recipe)
        records = _write_shards(recipe, out, tasks, workers, progress or (lambda done, total: None))
        manifest = _finish(recipe, out, tasks, records, listing, identity)
        shutil.rmtree(out / STATE)
    return manifest


def _identity(recipe: ShardRecipe, listing: str) -> dict[str, Any]:
    """What decides the bytes of a shard set; how many bad inputs are bearable does not."""
    content = recipe.model_dump(mode="json", exclude={"max_bad_share"})
    return {"recipe": content, "listing": listing, "mmssl": mmssl.__version__}


def _finished(out: Path, identity: dict[str, Any]) -> Manifest | None:
    """The manifest of a complete earlier build of the same thing."""
    if not (out / FILE_NAME).exists():
        return None
    manifest = load_manifest(out)
    _refuse_changes(out, {name: manifest.built.get(name) for name in identity}, identity)
    for split in manifest.splits.values():
        for shard in split.shards:
            tar = out / shard.file
            if not tar.is_file() or tar.stat().st_size != shard.bytes or not (out / shard.index).is_file():
                raise MmsslError(
                    f"{tar}: missing or truncated; restore it, or remove the folder and build again"
                )
    shutil.rmtree(out / STATE, ignore_errors=True)
    return manifest


def _start_or_resume(out: Path, identity: dict[str, Any]) -> None:
    state = out / STATE / "identity.json"
    if state.exists():
        _refuse_changes(out, files.read_json(state, "the state of an interrupted build"), identity)
    elif any(out.glob("*/*.tar")) or any(out.glob("*.tar")):
        raise MmsslError(f"{out}: holds tars that no build has recorded; expected an empty folder")
    if not state.exists():
        files.write_json(state, identity)
    files.wait_for_crew(state.parent)
    for left in out.rglob(".*.part"):  # of a process that was killed; we hold the lock, so nobody writes them
        left.unlink(missing_ok=True)


def _refuse_changes(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = _flat(before), _flat(now)
    changed = [
        f"  {key}: was {old.get(key)!r}, now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changed:
        explained = "\n".join(changed).replace("  listing:", "  the raw files (names or sizes):")
        raise MmsslError(
            f"{out}: was built from something else; use another folder, or remove this one. Differences:\n"
            f"{explained}"
        )


def _flat(content: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {at: content}
    return {
        key: value
        for name, inner in content.items()
        for key, value in _flat(inner, f"{at}.{name}" if at else str(name)).items()
    }


def _write_shards(
    recipe: ShardRecipe, out: Path, tasks: list[Task], workers: int, progress: Progress
) -> list[Record]:
    """The record of every shard, in task order; only shards without a valid record are written."""
    records: dict[str, Record] = {}
    for task in tasks:
        found = read_record(out, task)
        if found is not None:
            records[task.name] = found
    total = sum(len(task.items) for task in tasks)
    done = sum(len(task.items) for task in tasks if task.name in records)
    todo = [task for task in tasks if task.name not in records]
    progress(done, total)
    _refuse_too_many(recipe, out, tasks, records, total)
    for task, record in run_tasks(
        recipe.source, out, todo, workers, lambda count: progress(done + count, total)
    ):
        records[task.name] = record
        _refuse_too_many(recipe, out, tasks, records, total)
    return [records[task.name] for task in tasks]


def _refuse_too_many(
    recipe: ShardRecipe, out: Path, tasks: list[Task], records: dict[str, Record], total: int
) -> None:
    skipped = [bad for task in tasks if task.name in records for bad in records[task.name]["skipped"]]
    if len(skipped) <= recipe.max_bad_share * total:
        return
    _write_skipped(out, skipped)
    listed = "\n".join(f"  {bad['input']}: {bad['reason']}" for bad in skipped[:10])
    more = f"\n  … all of them in {out / SKIPPED_FILE}" if len(skipped) > 10 else ""
    raise MmsslError(
        f"{recipe.name}: {len(skipped)} of {total} inputs are unreadable so far, more than max_bad_share "
        f"{recipe.max_bad_share:g} allows; mend or remove them, or raise max_bad_share:\n{listed}{more}"
    )


def _write_skipped(out: Path, skipped: list[Skipped]) -> None:
    lines = [json.dumps(bad, sort_keys=True, ensure_ascii=False) + "\n" for bad in skipped]
    if lines:
        files.write_bytes(out / SKIPPED_FILE, "".join(lines).encode("utf-8", "replace"))
    else:
        (out / SKIPPED_FILE).unlink(missing_ok=True)


def _finish(
    recipe: ShardRecipe,
    out: Path,
    tasks: list[Task],
    records: list[Record],
    listing: Listing,
    identity: dict[str, Any],
) -> Manifest:
    """Give every shard its first id, write the final indexes, then the manifest."""
    shards: dict[str, list[Shard]] = {task.split: [] for task in tasks}
    next_id = Counter[str]()
    keys: dict[str, set[str]] = {split: set() for split in shards}
    have = Counter[str]()
    for task, record in zip(tasks, records, strict=True):
        index = ShardIndex.load(state_file(out, task, ".index")).at(next_id[task.split])
        index.save(out / f"{task.name}.index")
        _refuse_repeated(f"{recipe.name}: split {task.split!r}", keys[task.split], index.keys)
        shards[task.split].append(
            Shard(
                file=f"{task.name}.tar",
                index=f"{task.name}.index",
                samples=len(index),
                first_id=index.first_id,
                bytes=record["bytes"],
                sha256=record["sha256"],
            )
        )
        next_id[task.split] += len(index)
        have.update(field_counts(index))
    for split in shards:
        if not next_id[split]:
            raise MmsslError(f"{recipe.name}: split {split!r} is empty: none of its inputs could be read")
    skipped = [bad for record in records for bad in record["skipped"]]
    _write_skipped(out, skipped)
    missing = {split: names for split, names in listing.missing.items() if names}
    if missing:
        lines = [f"{split}\t{name}\n" for split, names in missing.items() for name in names]
        files.write_bytes(out / MISSING_FILE, "".join(lines).encode("utf-8", "replace"))
    manifest = Manifest(
        name=recipe.name,
        splits={
            split: Split(samples=next_id[split], shards=tuple(written)) for split, written in shards.items()
        },
        fields={field: count / next_id.total() for field, count in sorted(have.items())},
        classes=listing.classes,
        built={
            **identity,
            "skipped": dict(Counter(bad["split"] for bad in skipped)),
            **({"missing": {split: len(names) for split, names in missing.items()}} if missing else {}),
        },
    )
    manifest = with_caption_facts(out, manifest)
    manifest.save(out)
    return manifest


def field_counts(index: ShardIndex) -> Counter[str]:
    """How many samples of a shard have each field, in whatever encoding."""
    have: Counter[str] = Counter()
    for field in {column.partition(".")[0] for column in index.columns}:
        columns = [at for at, column in enumerate(index.columns) if column.partition(".")[0] == field]
        have[field] = int((index.offset[:, columns] >= 0).any(axis=1).sum())
    return have


def _refuse_repeated(where: str, seen: set[str], keys: list[str]) -> None:
    for key in keys:
        if key in seen:
            raise MmsslError(f"{where}: key {key!r} occurs in two shards; every sample needs its own")
        seen.add(key)
