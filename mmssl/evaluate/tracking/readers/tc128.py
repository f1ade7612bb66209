"""TempleColor-128: ``SEQ/img/0001.jpg``, ``SEQ/SEQ_frames.txt`` (first, last), ``SEQ/SEQ_gt.txt``, from 1.

Liang, Blasch, Ling, "Encoding color information for visual tracking", TIP 2015. The truth has a line for each
frame of the range: Busstation_ce2 starts at frame 6, Hurdle_ce2 at 27, David at 300.
"""

from typing import Literal

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import (
    BenchmarkConfig,
    choose,
    fitting_truth,
    folders_with,
    sequence,
)
from mmssl.evaluate.tracking.readers.numbered import Numbered
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.text import read_series


class Tc128Config(BenchmarkConfig):
    kind: Literal["tc128"] = "tc128"


def read_tc128(config: Tc128Config) -> list[Sequence]:
    """Every folder with a ``*_gt.txt``.

    Raises:
        MmsslError: frames of the range are missing, or the truth does not fit it.
    """
    return [_read(config, name) for name in choose(config, folders_with(config.folder, "*_gt.txt"))]


def _read(config: Tc128Config, name: str) -> Sequence:
    folder = config.folder / name
    path = folder / f"{name}_frames.txt"
    ends = read_series(path, "the first and the last frame")
    if len(ends) != 2 or (ends % 1).any() or not 0 <= ends[0] <= ends[1]:
        raise MmsslError(f"{path}: {ends.tolist()}; expected the numbers of the first and the last frame")
    frames = Numbered(folder / "img", "tc128").frames(name, int(ends[0]), int(ends[1]))
    truth = fitting_truth(folder / f"{name}_gt.txt", len(frames), origin=1)
    return sequence("tc128", name, frames, truth)
