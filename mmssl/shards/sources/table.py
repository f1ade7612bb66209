"""CSV, TSV or JSONL files that list images or videos with captions and labels, one or more lines a file."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.shards.sources.base import HoldOut, Item, Listing, refuse_empty, to_json, unique_keys
from mmssl.shards.sources.base import Source as BaseSource
from mmssl.shards.sources.files import open_files
from mmssl.shards.sources.images import ImageOptions, image_member
from mmssl.shards.sources.videos import EXTENSIONS as VIDEO_EXTENSIONS
from mmssl.shards.sources.videos import file_samples
from mmssl.shards.video import VideoOptions
from mmssl.shards.writer import RawSample, safe_key

Row = dict[str, Any]


class TableSplit(Config):
    """One table and the files it speaks of."""

    table: str
    """A .csv, .tsv or .jsonl file; CSV and TSV begin with a line of column names."""
    files: str
    """The folder or zip archive that the paths in the table are relative to."""


class Table(BaseSource, ImageOptions, VideoOptions):
    """One sample per listed file: ``image`` or ``video`` by its extension, all its captions, its labels."""

    kind: Literal["table"] = "table"
    splits: dict[str, TableSplit] = Field(min_length=1)
    file: str = "image"
    """Column with the path."""
    caption: str | None = None
    """Column with a caption (in JSONL also a list of them); lines about the same file add up."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Label name to the column with the class; the classes are the values found, sorted."""
    meta: tuple[str, ...] = ()
    """Columns to copy into ``meta``; JSONL values as they are, so that it can bring ``phases`` of a video."""
    holdout: HoldOut | None = None
    """Make a validation split out of the training split."""

    def list_items(self) -> Listing:
        rows = {name: self._rows(name, split) for name, split in self.splits.items()}
        classes = {
            label: sorted({str(row[column]) for table in rows.values() for row in table.values()})
            for label, column in self.labels.items()
        }
        number = {label: {name: at for at, name in enumerate(names)} for label, names in classes.items()}
        splits: dict[str, list[Item]] = {}
        for name, table in rows.items():
            sizes = dict(open_files(self.splits[name].files).list())
            keys = unique_keys([safe_key(path.rpartition(".")[0] or path) for path in table])
            splits[name] = [
                Item(
                    key,
                    path,
                    sizes.get(path, 0),
                    (
                        self.splits[name].files,
                        row["captions"],
                        {label: number[label][str(row[column])] for label, column in self.labels.items()},
                        {column: row[column] for column in self.meta},
                    ),
                )
                for key, (path, row) in zip(keys, table.items(), strict=True)
            ]
        if self.holdout is not None:
            splits = self.holdout.apply(splits)
        refuse_empty(splits, "table")
        return Listing(splits, classes)

    def _rows(self, name: str, split: TableSplit) -> dict[str, Row]:
        """Path to its row, with the captions of all its lines collected in ``captions``; sorted by path."""
        table: dict[str, Row] = {}
        wanted = [self.file, *([self.caption] if self.caption else []), *self.labels.values(), *self.meta]
        for line, row in read_table(split.table):
            for column in wanted:
                if row.get(column) in (None, ""):
                    raise MmsslError(
                        f"{split.table}: line {line}: no {column!r}; expected columns {', '.join(wanted)}, "
                        f"found {', '.join(map(str, row))}"
                    )
            path = str(row[self.file])
            known = table.setdefault(path, {**row, "captions": []})
            for label, column in self.labels.items():
                if str(known[column]) != str(row[column]):
                    raise MmsslError(
                        f"{split.table}: line {line}: {path} has another {label} on an earlier line"
                    )
            for column in self.meta:
                if known[column] != row[column]:
                    raise MmsslError(
                        f"{split.table}: line {line}: {path} has another {column} on an earlier line"
                    )
            if self.caption:
                found = row[self.caption]
                known["captions"] += [
                    str(text).strip() for text in (found if isinstance(found, list) else [found])
                ]
        if not table:
            raise MmsslError(f"{split.table}: split {name!r} is empty; expected at least one line")
        return dict(sorted(table.items()))

    def load(self, item: Item) -> Iterator[RawSample]:
        root, captions, labels, meta = item.data
        members: dict[str, bytes] = {}
        if captions:
            members["caption.json"] = to_json(captions)
        if labels:
            members["label.json"] = to_json(labels)
        if item.path.rpartition(".")[2].lower() in VIDEO_EXTENSIONS:
            yield from file_samples(root, item.path, item.key, self, meta, members)
            return
        column, data = image_member(open_files(root).read(item.path), self)
        if meta:
            members["meta.json"] = to_json(meta)
        yield RawSample(item.key, {**members, column: data})


def read_table(path: str) -> Iterator[tuple[int, Row]]:
    """(line number, row) of a CSV, TSV or JSONL file.

    Raises:
        MmsslError: missing, not UTF-8, another extension, or a line that does not parse.
    """
    extension = Path(path).suffix.lower()
    if extension not in (".csv", ".tsv", ".jsonl"):
        raise MmsslError(f"{path}: expected a .csv, .tsv or .jsonl file")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MmsslError(f"{path}: not readable ({error}); expected a table") from error
    if extension == ".jsonl":
        yield from _json_lines(path, text)
        return
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if extension == ".tsv" else ",")
    try:
        for row in reader:
            if None in row:
                raise MmsslError(f"{path}: line {reader.line_num}: more fields than column names")
            yield reader.line_num, row
    except csv.Error as error:
        raise MmsslError(f"{path}: line {reader.line_num}: {error}") from error


def _json_lines(path: str, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise MmsslError(f"{path}: line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise MmsslError(f"{path}: line {number}: expected an object")
        yield number, row
