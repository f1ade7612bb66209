"""UAV123 and UAV20L: ``anno/UAV123/SEQ.txt``, ``data_seq/UAV123/FOLDER/000001.jpg``, counted from 1.

Mueller, Smith, Ghanem, "A Benchmark and Simulator for UAV Tracking", ECCV 2016. Several sequences are parts
of one folder (bird1_2 is frames 775–1477 of bird1), as the toolkit's ``configSeqs.m`` says. Lines of NaN say
that the target is out of view. The attribute files of ``anno/UAV123/att`` are not read: sources disagree on
the order of their columns.
"""

from typing import Literal

import numpy as np

from mmssl.evaluate.tracking.readers.base import (
    BenchmarkConfig,
    choose,
    fitting_truth,
    need_folders,
    sequence,
)
from mmssl.evaluate.tracking.readers.numbered import Numbered
from mmssl.evaluate.tracking.readers.table import frame_range, table
from mmssl.evaluate.tracking.sequence import Sequence


class Uav123Config(BenchmarkConfig):
    kind: Literal["uav123"] = "uav123"
    part: Literal["UAV123", "UAV20L"] = "UAV123"
    """The 123 short sequences or the 20 long ones; both use the same folders of frames."""


def read_uav123(config: Uav123Config) -> list[Sequence]:
    """The 123 or 20 sequences.

    Raises:
        MmsslError: folders of frames are missing, frames are, or the truth does not fit them.
    """
    lines = table("uav123")
    rows = {name: (folder, frames) for part, name, folder, frames in lines if part == config.part}
    images = config.folder / "data_seq" / "UAV123"
    chosen = choose(config, list(rows), [folder for folder, _ in rows.values()])
    need_folders(config, config.part, [(name, images / rows[name][0]) for name in chosen])
    return [_read(config, name, *rows[name]) for name in chosen]


def _read(config: Uav123Config, name: str, folder: str, frames: str) -> Sequence:
    images = Numbered(config.folder / "data_seq" / "UAV123" / folder, "uav123")
    shown = images.frames(name, *frame_range(frames))
    path = config.folder / "anno" / config.part / f"{name}.txt"
    truth = fitting_truth(path, len(shown), origin=1)
    return sequence("uav123", name, shown, truth, absent=np.isnan(truth).any(axis=1))
