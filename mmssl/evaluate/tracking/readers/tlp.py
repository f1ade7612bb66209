"""TLP: ``SEQ/img/00001.jpg``, ``SEQ/groundtruth_rect.txt`` with frame, x, y, width, height, lost.

Moudgil, Gandhi, "Long-Term Visual Object Tracking Benchmark", ACCV 2018. Boxes were drawn with VATIC, whose
first pixel is 0, and are taken as they are; the paper does not say. TinyTLP and TLPattr have the same layout.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import BenchmarkConfig, check_length, choose, folders_with, sequence
from mmssl.evaluate.tracking.readers.numbered import Numbered
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.text import read_table


class TlpConfig(BenchmarkConfig):
    kind: Literal["tlp"] = "tlp"


def read_tlp(config: TlpConfig) -> list[Sequence]:
    """Every folder with a ground truth; ``absent`` is the file's "lost".

    Raises:
        MmsslError: frames are missing, or the truth does not fit them.
    """
    names = choose(config, folders_with(config.folder, "groundtruth_rect.txt"))
    return [_read(config.folder / name, name) for name in names]


def _read(folder: Path, name: str) -> Sequence:
    frames = Numbered(folder / "img", "tlp").frames(name)
    path = folder / "groundtruth_rect.txt"
    rows = read_table(path, (6,), "frame, x, y, width, height, lost")
    check_length(path, len(rows), len(frames))
    wrong = np.flatnonzero(np.diff(rows[:, 0]) != 1)
    if len(wrong):
        line = int(wrong[0]) + 2
        raise MmsslError(
            f"{path}:{line}: frame {rows[line - 1, 0]:g} after {rows[line - 2, 0]:g}; expected the next one"
        )
    return sequence("tlp", name, frames, rows[:, 1:5].copy(), absent=rows[:, 5] == 1)
