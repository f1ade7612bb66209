"""What folders of images and folders of videos share: splits, classes from folders or a file, hold-out."""

import re
from typing import ClassVar

from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.shards.sources.base import HoldOut, Item, Listing, Source, refuse_empty, to_json, unique_keys
from mmssl.shards.sources.files import Files, open_files
from mmssl.shards.writer import safe_key


class SplitFolder(Config):
    """Where a split lies and where its labels come from."""

    folder: str = "."
    """Relative to root."""
    labels: str = "folders"
    """``folders``: the first folder beneath is the class; ``none``: no labels; otherwise a text file under
    root with a file name and a class on each line, separated by tabs, commas or spaces (more is ignored)."""


def _whole_root() -> dict[str, SplitFolder]:
    return {"train": SplitFolder()}


class FolderSource(Source):
    """Files in class folders, or flat; in a folder or a zip archive."""

    root: str
    """A folder, a zip archive, or a folder inside one (``archive.zip/folder``)."""
    splits: dict[str, SplitFolder] = Field(default_factory=_whole_root, min_length=1)
    """Split name to where it lies; by default all of root is ``train``, in class folders."""
    class_names: str | None = None
    """A text file under root: a class and its readable name on each line; by default the folders' names."""
    holdout: HoldOut | None = None
    """Make a validation split out of the training split."""

    extensions: ClassVar[frozenset[str]]

    def list_items(self) -> Listing:
        tree = open_files(self.root)
        found = {name: self._list_split(tree, name, split) for name, split in self.splits.items()}
        classes = sorted(
            {label for rows in found.values() for _, _, label in rows if label is not None}, key=_natural
        )
        number = {label: position for position, label in enumerate(classes)}
        splits = {}
        for name, rows in found.items():
            keys = unique_keys([safe_key(path.rpartition(".")[0]) for path, _, _ in rows])
            folder = self.splits[name].folder
            splits[name] = [
                Item(
                    key,
                    path if folder == "." else f"{folder}/{path}",
                    size,
                    None if label is None else number[label],
                )
                for key, (path, size, label) in zip(keys, rows, strict=True)
            ]
        if self.holdout is not None:
            splits = self.holdout.apply(splits)
        refuse_empty(splits, self.root)
        return Listing(splits, {"class": self._names(tree, classes)} if classes else {})

    def _list_split(self, tree: Files, name: str, split: SplitFolder) -> list[tuple[str, int, str | None]]:
        """(path beneath the split's folder, bytes, class) of every file of this kind."""
        files = [
            row for row in tree.list(split.folder) if row[0].rpartition(".")[2].lower() in self.extensions
        ]
        where = f"{tree.root}: splits.{name}"
        if not files:
            kinds = ", ".join(sorted(self.extensions))
            raise MmsslError(f"{where}: no files with extension {kinds} in folder {split.folder!r}")
        if split.labels == "none":
            return [(path, size, None) for path, size in files]
        if split.labels != "folders":
            table = read_labels(tree, split.labels)
            return [
                (path, size, _look_up(table, path, f"{where}.labels: {split.labels}")) for path, size in files
            ]
        for path, _ in files:
            if "/" not in path:
                raise MmsslError(
                    f"{where}: {path!r} lies in no class folder; expected CLASS/FILE, or labels: none or FILE"
                )
        return [(path, size, path.partition("/")[0]) for path, size in files]

    def _names(self, tree: Files, classes: list[str]) -> list[str]:
        if self.class_names is None:
            return classes
        names = {}
        for line in tree.read_text(self.class_names).splitlines():
            words = re.split(r"\t|\s+", line.strip(), maxsplit=1)
            names[words[0]] = words[-1]
        missing = [label for label in classes if label not in names]
        if missing:
            raise MmsslError(
                f"{tree.root}: class_names: {self.class_names} has no line for class {missing[0]!r}"
            )
        return [names[label] for label in classes]

    def label_member(self, item: Item) -> dict[str, bytes]:
        """``label.json`` for an item that has a class."""
        return {} if item.data is None else {"label.json": to_json({"class": item.data})}


def read_labels(tree: Files, path: str) -> dict[str, str]:
    """File stem to class, from lines of a name and a class; a heading does no harm: no file is called so."""
    table: dict[str, str] = {}
    for number, line in enumerate(tree.read_text(path).splitlines(), 1):
        words = re.split(r"[\t, ]+", line.strip())
        if words == [""]:
            continue
        if len(words) < 2:
            raise MmsslError(f"{tree.root}/{path}: line {number}: {line!r}; expected a file name and a class")
        table[_stem(words[0])] = words[1]
    return table


def _look_up(table: dict[str, str], path: str, where: str) -> str:
    label = table.get(_stem(path))
    if label is None:
        raise MmsslError(f"{where}: no line for {path!r}")
    return label


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def _natural(label: str) -> tuple[int, int, str]:
    """Numbers in numeric order before names in alphabetic order."""
    return (0, int(label), label) if label.isascii() and label.isdigit() else (1, 0, label)
