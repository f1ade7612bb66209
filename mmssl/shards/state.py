"""What an unfinished build remembers of its finished shards, so that a later run goes on from there."""

from pathlib import Path
from typing import Any

from mmssl import files
from mmssl.shards.index import ShardIndex
from mmssl.shards.plan import Task
from mmssl.shards.writer import WrittenShard

STATE = ".building"
"""Folder inside the shard set; it goes when the manifest is written."""

Skipped = dict[str, str]
"""An input that could not be used: split, key, input, reason."""

Record = dict[str, Any]
"""Of one finished shard: sha256, bytes, skipped."""


def write_record(out: Path, task: Task, written: WrittenShard, skipped: list[Skipped]) -> Record:
    """Vouch for a tar that is under its final name; its index waits here until its first id is known."""
    record = {"sha256": written.sha256, "bytes": written.index.tar_bytes, "skipped": skipped}
    written.index.save(state_file(out, task, ".index"))
    files.write_json(state_file(out, task, ".json"), record)  # last: it vouches for the other two
    return record


def read_record(out: Path, task: Task) -> Record | None:
    """A finished shard's record, if its tar and index are there and of the recorded size."""
    path = state_file(out, task, ".json")
    tar = out / f"{task.name}.tar"
    if not path.exists() or not tar.exists():
        return None
    record: Record = files.read_json(path, "the record of a finished shard")
    if tar.stat().st_size != record["bytes"]:
        return None
    index = ShardIndex.load(state_file(out, task, ".index"))
    return record if index.tar_bytes == record["bytes"] else None


def state_file(out: Path, task: Task, suffix: str) -> Path:
    return out / STATE / f"{task.name}{suffix}"
