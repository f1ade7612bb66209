"""Folders that are sequences of frames: finding them, and reading the numbers that lie beside them."""

import re
from fnmatch import fnmatch
from pathlib import PurePosixPath

from mmssl.errors import MmsslError
from mmssl.shards.sources.base import BadInput


def assign(names: list[str], splits: dict[str, tuple[str, ...]], root: str) -> dict[str, list[str]]:
    """Split name to its sequences, chosen by shell patterns of their paths; a pattern must match something.

    Raises:
        MmsslError: a pattern without a match, or a sequence in two splits.
    """
    taken: dict[str, str] = {}
    assigned = {}
    for split, patterns in splits.items():
        chosen = set()
        for pattern in patterns:
            found = [name for name in names if fnmatch(name, pattern)]
            if not found:
                known = ", ".join(names[:10]) or "none"
                raise MmsslError(
                    f"{root}: splits.{split}: no sequence matches {pattern!r}; found sequences: {known}"
                )
            chosen.update(found)
        for name in sorted(chosen):
            if taken.setdefault(name, split) != split:
                raise MmsslError(f"{root}: sequence {name!r} is in the splits {taken[name]!r} and {split!r}")
        assigned[split] = sorted(chosen)
    return assigned


def by_folder(files: list[tuple[str, int]]) -> dict[str, dict[str, int]]:
    """Folder to its files (name to bytes); the top folder is ``.``."""
    folders: dict[str, dict[str, int]] = {}
    for path, size in files:
        pure = PurePosixPath(path)
        folders.setdefault(pure.parent.as_posix(), {})[pure.name] = size
    return folders


def numbers(text: str, name: str) -> list[list[float]]:
    """Lines of numbers separated by commas, tabs or spaces; ``#`` begins a comment, ``nan`` is allowed.

    Raises:
        BadInput: a word that is no number; ``name`` is the file in the message.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = [word for word in re.split(r"[,;\s]+", line.partition("#")[0].strip()) if word]
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise BadInput(f"{name}: line {number}: {line!r}; expected numbers") from error
    return rows
