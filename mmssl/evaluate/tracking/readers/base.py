"""What all readers share: settings, which sequences were asked for, truth that fits its frames."""

import difflib
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.text import read_table
from mmssl.tracking.boxes import Boxes
from mmssl.tracking.frames import Frames


class BenchmarkConfig(Config):
    """Base of every benchmark's settings; ``kind`` selects the layout."""

    kind: str
    root: str
    """The folder that the benchmark was unpacked to."""
    sequences: tuple[str, ...] = ()
    """Names of those to read; empty = all, and then none may be missing. Of a folder with several targets,
    its own name means all of them."""

    @property
    def folder(self) -> Path:
        """``root``, checked.

        Raises:
            MmsslError: there is no such folder.
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise MmsslError(f"{self.kind}: {root}: no such folder; expected the unpacked benchmark")
        return root


def choose(config: BenchmarkConfig, known: Many[str], groups: Many[str] = ()) -> list[str]:
    """The names that ``config.sequences`` picks, in the benchmark's order; all where it picks none.

    Args:
        known: every sequence there is.
        groups: to each of ``known`` the name that also stands for it, such as its folder.

    Raises:
        MmsslError: names that the benchmark does not have, or there is nothing to read at all.
    """
    if not known:
        raise MmsslError(f"{config.kind}: {config.root}: no sequence in it; expected the official layout")
    groups = groups or known
    every = dict.fromkeys([*known, *groups])
    if unknown := [name for name in config.sequences if name not in every]:
        close = difflib.get_close_matches(unknown[0], list(every), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise MmsslError(
            f"{config.kind}: {config.root}: sequences: no {_some(unknown)} among {len(known)}{hint}"
        )
    wanted = set(config.sequences)
    pairs = zip(known, groups, strict=True)
    return [name for name, group in pairs if not wanted or {name, group} & wanted]


def need_folders(config: BenchmarkConfig, source: str, named: Many[tuple[str, Path]]) -> None:
    """See that each of the (name, folder) is there.

    Args:
        source: what names them: a list file, or the benchmark's own list.

    Raises:
        MmsslError: with all that are missing.
    """
    missing = [name for name, folder in named if not folder.is_dir()]
    if missing:
        raise MmsslError(
            f"{config.kind}: {source} names {len(named)} sequences, {len(missing)} of them not in "
            f"{config.root}: {_some(missing)}; `sequences` picks those that are there"
        )


def folders_with(root: Path, pattern: str) -> list[str]:
    """Names of the folders in ``root``, sorted, in which something matches ``pattern``."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and any(entry.glob(pattern)))


def read_truth(path: Path, origin: int) -> Boxes:
    """(n, 4) boxes x, y, w, h of a ground truth file that counts pixels from ``origin``.

    Raises:
        MmsslError: file and line that are not boxes.
    """
    boxes = read_table(path, (4,), "a box x, y, width, height on every line")
    boxes[:, :2] -= origin
    return boxes


def fitting_truth(path: Path, frames: int, origin: int, first_only: bool = False) -> Boxes:
    """(frames, 4) boxes of a ground truth file with a line for every frame.

    Args:
        first_only: one line will also do, of which the others then are NaN: a test set whose truth is not
            public.

    Raises:
        MmsslError: file and line that are not boxes, or another number of lines.
    """
    boxes = read_truth(path, origin)
    if first_only and len(boxes) == 1:
        return np.concatenate([boxes, np.full((frames - 1, 4), np.nan)])
    check_length(path, len(boxes), frames)
    return boxes


def check_length(path: Path, found: int, frames: int) -> None:
    """Raises MmsslError where a file does not say as many things as there are frames."""
    if found != frames:
        more = "more" if found > frames else "fewer"
        raise MmsslError(f"{path}: {found} lines, {more} than the {frames} frames; expected one a frame")


def sequence(kind: str, name: str, frames: Frames, truth: Boxes, **known: Any) -> Sequence:
    """A sequence, once it is known that a tracker can start on it.

    Raises:
        MmsslError: the first box is missing or has no area.
    """
    first = truth[0]
    if not (np.isfinite(first).all() and (first[2:] > 0).all()):
        box = ", ".join(f"{value:g}" for value in first)
        raise MmsslError(
            f"{kind}: {name}: the first box is {box}; expected finite numbers and a size above 0"
        )
    return Sequence(name, frames, truth, **known)


def _some(names: Many[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
