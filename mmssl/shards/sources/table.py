"""Tables that list images or videos with captions and labels, one or more lines a file."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.shards.captions import caption_member
from mmssl.shards.sources.base import HoldOut, Item, Listing, refuse_empty, to_json, unique_keys
from mmssl.shards.sources.base import Source as BaseSource
from mmssl.shards.sources.files import open_files
from mmssl.shards.sources.images import ImageOptions, image_member
from mmssl.shards.sources.rows import read_list, read_table
from mmssl.shards.sources.videos import EXTENSIONS as VIDEO_EXTENSIONS
from mmssl.shards.sources.videos import file_samples
from mmssl.shards.video import VideoOptions
from mmssl.shards.writer import RawSample, safe_key

Row = dict[str, Any]
_COLUMN = re.compile(r"\{([^{}]+)\}")


class TableSplit(Config):
    """One table and the files it speaks of."""

    table: str
    """A .csv, .tsv or .jsonl file; Flickr's token file (.token, .txt); or, as .json, COCO's captions,
    Karpathy's splits or MSR-VTT: ``mmssl.shards.sources.rows`` says which columns these have."""
    files: str
    """The folder or zip archive that the paths in the table are relative to."""
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Column to the values whose rows belong to this split, such as ``split: [train, restval]``."""
    list: str | None = None
    """A text file with the files of this split, one a line, with or without extension."""


class Table(BaseSource, ImageOptions, VideoOptions):
    """One sample per listed file: ``image`` or ``video`` by its extension, all its captions, its labels."""

    kind: Literal["table"] = "table"
    splits: dict[str, TableSplit] = Field(min_length=1)
    file: str = "image"
    """Column with the path, or a text with columns in braces: ``{video}.mp4``."""
    caption: str | None = None
    """Column with a caption or a list of them; or a text with columns in braces, ``{command} {colour} now``.
    Lines about the same file add up. A file without any words is left out as unreadable."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Label name to the column with the class; the classes are the values found, sorted."""
    meta: tuple[str, ...] = ()
    """Columns to copy into ``meta``; JSONL values as they are, so that it can bring ``phases`` of a video."""
    quotes: bool = True
    """Whether fields of CSV and TSV may stand in double quotes; false = quotes are letters like others, as
    in the TSV of Conceptual Captions."""
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
        constant = {**self.labels, **{column: column for column in self.meta}}
        for line, row in read_table(split.table, self.quotes):
            where = f"{split.table}: line {line}"
            self._require(row, [*split.only, *constant.values(), *_columns(self.file)], where)
            if any(str(row[column]) not in values for column, values in split.only.items()):
                continue
            path = str(_filled(self.file, row))
            known = table.setdefault(path, {**row, "captions": []})
            for what, column in constant.items():
                if str(known[column]) != str(row[column]):
                    raise MmsslError(f"{where}: {path} has another {what} on an earlier line")
            if self.caption:
                known["captions"] += self._captions(row, self.caption, where)
        if not table:
            chosen = f" of {split.only}" if split.only else ""
            raise MmsslError(f"{split.table}: split {name!r} is empty; expected at least one line{chosen}")
        return dict(sorted(_listed(table, split).items()))

    def _captions(self, row: Row, caption: str, where: str) -> list[str]:
        columns = _columns(caption)
        if columns == [caption] and caption in row:  # blank ones are counted with what is skipped
            found = row[caption]
        else:
            self._require(row, columns, where)
            found = _filled(caption, row)
        return [str(text).strip() for text in (found if isinstance(found, list) else [found])]

    def _require(self, row: Row, wanted: Iterable[str], where: str) -> None:
        for column in wanted:
            if row.get(column) in (None, ""):
                raise MmsslError(f"{where}: no {column!r}; the row has columns {', '.join(map(str, row))}")

    def load(self, item: Item) -> Iterator[RawSample]:
        root, captions, labels, meta = item.data
        members = caption_member(captions) if self.caption else {}
        if labels:
            members["label.json"] = to_json(labels)
        if item.path.rpartition(".")[2].lower() in VIDEO_EXTENSIONS:
            yield from file_samples(root, item.path, item.key, self, meta, members)
            return
        column, data = image_member(open_files(root).read(item.path), self)
        if meta:
            members["meta.json"] = to_json(meta)
        yield RawSample(item.key, {**members, column: data})


def _columns(text: str) -> list[str]:
    """Those in braces; a text without braces is a column itself."""
    return _COLUMN.findall(text) or [text]


def _filled(text: str, row: Row) -> Any:
    if not _COLUMN.search(text):
        return row[text]
    return _COLUMN.sub(lambda column: str(row[column[1]]), text)


def _listed(table: dict[str, Row], split: TableSplit) -> dict[str, Row]:
    """The rows of the files on the split's list.

    Raises:
        MmsslError: the table has no row for a file on the list.
    """
    if split.list is None:
        return table
    stems = {path.rpartition(".")[0]: path for path in table}
    names = [name if name in table else stems.get(name, name) for name in read_list(split.list)]
    lost = [name for name in names if name not in table]
    if lost:
        shown = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        raise MmsslError(f"{split.list}: {len(lost)} files have no row in {split.table}: {shown}")
    return {name: table[name] for name in names}
