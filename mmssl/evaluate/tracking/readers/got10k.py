"""GOT-10k: ``val/GOT-10k_Val_000001/{00000001.jpg, groundtruth.txt, absence.label, cover.label, …}``.

Huang, Zhao, Huang, "GOT-10k: A Large High-Diversity Benchmark", TPAMI 2019. Coordinates are kept as they are:
the toolkit clips boxes to 0 … width in the file's own numbers. Of test sequences only the first box is
published. ``meta_info.ini`` gives the size of the frames.
"""

import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import (
    BenchmarkConfig,
    choose,
    fitting_truth,
    need_folders,
    sequence,
)
from mmssl.evaluate.tracking.readers.numbered import Numbered
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.text import read_flags, read_lines, read_names, read_series


class Got10kConfig(BenchmarkConfig):
    kind: Literal["got10k"] = "got10k"
    split: Literal["train", "val", "test"] = "val"
    """Of ``test`` only the first box is known: boxes can be written for the server, not scored here."""


def read_got10k(config: Got10kConfig) -> list[Sequence]:
    """The sequences of ``SPLIT/list.txt``.

    Raises:
        MmsslError: sequences of the list are missing, or labels and truth do not fit the frames.
    """
    folder = config.folder / config.split
    path = folder / "list.txt"
    chosen = choose(config, read_names(path, "names of sequences, one a line"))
    need_folders(config, str(path), [(name, folder / name) for name in chosen])
    return [_read(folder / name, name, labelled=config.split != "test") for name in chosen]


def _read(folder: Path, name: str, labelled: bool) -> Sequence:
    frames = Numbered(folder, "got10k").frames(name)
    truth = fitting_truth(folder / "groundtruth.txt", len(frames), origin=0, first_only=not labelled)
    size = _size(folder / "meta_info.ini")
    if not labelled:
        return sequence("got10k", name, frames, truth, size=size)
    cut = read_flags(folder / "cut_by_image.label", len(frames), "1 where the image cuts the target")
    return sequence(
        "got10k",
        name,
        frames,
        truth,
        absent=read_flags(folder / "absence.label", len(frames), "1 where the target is absent"),
        cover=_cover(folder / "cover.label", len(frames)),
        frame_attributes={"cut_by_image": cut},
        size=size,
    )


def _cover(path: Path, frames: int) -> NDArray[np.int64]:
    values = read_series(path, "eighths of the target that are visible, one a frame")
    if len(values) != frames:
        raise MmsslError(f"{path}: {len(values)} lines, expected {frames}, one a frame")
    if ((values < 0) | (values > 8) | (values % 1 > 0)).any():
        raise MmsslError(f"{path}: values from {values.min():g} to {values.max():g}; expected 0 to 8 eighths")
    return values.astype(np.int64)


def _size(path: Path) -> tuple[int, int] | None:
    if not path.is_file():
        return None
    for line in read_lines(path, "the sequence's description"):
        if found := re.fullmatch(r"resolution\s*[:=]\s*\(?\s*(\d+)\s*,\s*(\d+)\s*\)?", line):
            return int(found[1]), int(found[2])
    return None
