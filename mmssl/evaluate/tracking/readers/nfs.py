"""NfS: ``SEQ/30/SEQ/00001.jpg`` and ``SEQ/30/SEQ.txt``, the same with 240; counted from 0.

Galoogahi et al., "Need for Speed: A Benchmark for Higher Frame Rate Object Tracking", ICCV 2017. A line of
the truth is VATIC's: number of the track, left, top, right, bottom, frame, lost, occluded, generated,
"label". What is irregular: at 30 frames/s some files have a line for each frame at 240, of which every eighth
counts; and lines and frames may differ by one, then the shorter of the two ends the sequence. That the first
column of pixels is 0 is VATIC's way; the paper does not say.
"""

import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import BenchmarkConfig, choose, folders_with, sequence
from mmssl.evaluate.tracking.readers.numbered import Numbered
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.text import read_lines, split_numbers

_EXPECTED = "track, left, top, right, bottom, frame, lost, occluded, generated and a label"


class NfsConfig(BenchmarkConfig):
    kind: Literal["nfs"] = "nfs"
    fps: Literal[30, 240] = 30


def read_nfs(config: NfsConfig) -> list[Sequence]:
    """Every sequence at that rate; ``absent`` is VATIC's "lost", ``frame_attributes`` has its "occluded".

    Raises:
        MmsslError: frames are missing, or the truth does not fit them.
    """
    names = choose(config, folders_with(config.folder, f"{config.fps}/*.txt"))
    return [_read(config.folder / name / str(config.fps), name, config.fps) for name in names]


def _read(folder: Path, name: str, fps: int) -> Sequence:
    images = Numbered(folder / name, "nfs")
    path = folder / f"{name}.txt"
    rows = _rows(path)
    if fps == 30 and abs(len(rows) / len(images) - 8) < 1:
        rows = rows[::8]
    if abs(len(rows) - len(images)) > 1:
        raise MmsslError(
            f"{path}: {len(rows)} lines for {len(images)} frames; expected as many, or one more or less"
        )
    rows = rows[: len(images)]
    frames = images.frames(name, images.first, images.first + len(rows) - 1)
    truth = np.concatenate([rows[:, 1:3], rows[:, 3:5] - rows[:, 1:3]], axis=1)
    occluded = {"occluded": rows[:, 7] == 1}
    return sequence("nfs", name, frames, truth, absent=rows[:, 6] == 1, frame_attributes=occluded)


def _rows(path: Path) -> NDArray[np.float64]:
    """(lines, 9) of the numbers in front of the label."""
    rows = []
    for number, line in enumerate(read_lines(path, _EXPECTED), 1):
        words = re.split(r"[,\s]+", line, maxsplit=9)
        try:
            rows.append(split_numbers(" ".join(words[:9])))
        except ValueError as error:
            raise MmsslError(f"{path}:{number}: {line!r:.80} ({error}); expected {_EXPECTED}") from error
        if len(rows[-1]) != 9:
            raise MmsslError(f"{path}:{number}: {line!r:.80}; expected {_EXPECTED}")
        if len(rows) > 1 and rows[-1][5] <= rows[-2][5]:
            raise MmsslError(
                f"{path}:{number}: frame {rows[-1][5]:g} after {rows[-2][5]:g}; expected a later one"
            )
    if not rows:
        raise MmsslError(f"{path}: empty; expected {_EXPECTED}")
    return np.array(rows)
