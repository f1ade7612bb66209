"""The manifest of a shard set: what is in it, where, and how it was made."""

import json
from pathlib import Path
from typing import Any

import fsspec
from pydantic import Field

from mmssl import files
from mmssl.config import Config, parse
from mmssl.errors import MmsslError

FILE_NAME = "manifest.json"
FORMAT = "mmssl-shards"
VERSION = 1


class Shard(Config):
    """One tar and its index; paths are relative to the manifest's folder."""

    file: str
    index: str
    samples: int = Field(ge=0)
    first_id: int = Field(ge=0)
    """Id of its first sample; ids run through a split in shard order."""
    bytes: int = Field(ge=0)
    sha256: str
    """Of the whole tar."""


class Split(Config):
    """The shards of one split, in id order."""

    samples: int = Field(ge=0)
    shards: tuple[Shard, ...]


class Manifest(Config):
    """``manifest.json``; written last, so a folder that has one is complete."""

    format: str = FORMAT
    version: int = VERSION
    name: str
    splits: dict[str, Split]
    fields: dict[str, float] = Field(default_factory=dict)
    """Field name to the share (0..1) of all samples that have it."""
    classes: dict[str, list[str]] = Field(default_factory=dict)
    """Label name to class names; a label's integer is a position in this list."""
    built: dict[str, Any] = Field(default_factory=dict)
    """The recipe, the version that built it, and how many inputs were skipped; no times, no host."""

    @property
    def samples(self) -> int:
        return sum(split.samples for split in self.splits.values())

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for split in self.splits.values() for shard in split.shards)

    def split(self, name: str) -> Split:
        """A split by name.

        Raises:
            MmsslError: there is no such split.
        """
        if name not in self.splits:
            raise MmsslError(
                f"shard set {self.name!r} has no split {name!r}; it has {', '.join(self.splits)}"
            )
        return self.splits[name]

    def save(self, root: Path | str) -> None:
        """Write ``manifest.json`` into ``root``, atomically."""
        files.write_json(Path(root) / FILE_NAME, self.model_dump(mode="json"))


def load_manifest(root: str | Path) -> Manifest:
    """Read and check the manifest of a shard set in a local folder or under any fsspec URL.

    Raises:
        MmsslError: missing, damaged, made by another version, or shards whose ids do not follow each other.
    """
    path = f"{str(root).rstrip('/')}/{FILE_NAME}"
    try:
        with fsspec.open(path, "rb") as file:
            content = json.loads(file.read())
    except FileNotFoundError as error:
        raise MmsslError(
            f"{path}: no such file; expected a shard set (see mmssl shards build and mmssl shards index)"
        ) from error
    except ValueError as error:
        raise MmsslError(f"{path}: not readable as JSON ({error})") from error
    except (OSError, ImportError) as error:
        raise MmsslError(f"{path}: not readable ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise MmsslError(f"{path}: not the manifest of a shard set; expected format: {FORMAT!r}")
    if content.get("version") != VERSION:
        raise MmsslError(
            f"{path}: version: {content.get('version')!r}, expected {VERSION}; build the shards again"
        )
    manifest = parse(Manifest, content, path)
    _check_ids(manifest, path)
    return manifest


def _check_ids(manifest: Manifest, path: str) -> None:
    for name, split in manifest.splits.items():
        expected = 0
        for shard in split.shards:
            where = f"{path}: splits.{name}: shard {shard.file}"
            if shard.first_id != expected:
                raise MmsslError(f"{where}: first_id {shard.first_id}, expected {expected}")
            for file in (shard.file, shard.index):
                if file.startswith("/") or ".." in file.split("/") or "://" in file:
                    raise MmsslError(f"{where}: {file!r} leads out of the shard set's folder")
            expected += shard.samples
        if expected != split.samples:
            raise MmsslError(
                f"{path}: splits.{name}.samples: {split.samples}, but its shards hold {expected}"
            )
