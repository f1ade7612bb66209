"""TrackingNet: ``TEST/frames/SEQ/0.jpg``, ``TEST/anno/SEQ.txt``, counted from 0.

Mueller et al., "TrackingNet", ECCV 2018. Frame numbers have no leading zeros, so they are sorted as numbers.
Of test sequences only the first box is published.
"""

from typing import Literal

from pydantic import Field

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


class TrackingNetConfig(BenchmarkConfig):
    kind: Literal["trackingnet"] = "trackingnet"
    set: str = Field(default="TEST", pattern=r"^(TEST|TRAIN_(\d|1[01]))$")
    """``TEST`` or one of ``TRAIN_0`` … ``TRAIN_11``."""


def read_trackingnet(config: TrackingNetConfig) -> list[Sequence]:
    """The sequences that have a file in ``anno``.

    Raises:
        MmsslError: folders of frames are missing, or the truth does not fit the frames.
    """
    folder = config.folder / config.set
    if not (folder / "anno").is_dir():
        raise MmsslError(f"trackingnet: {folder / 'anno'}: no such folder; expected a file a sequence")
    chosen = choose(config, sorted(path.stem for path in (folder / "anno").glob("*.txt")))
    need_folders(config, str(folder / "anno"), [(name, folder / "frames" / name) for name in chosen])
    sequences = []
    for name in chosen:
        path = folder / "anno" / f"{name}.txt"
        frames = Numbered(folder / "frames" / name, "trackingnet").frames(name)
        truth = fitting_truth(path, len(frames), origin=0, first_only=config.set == "TEST")
        sequences.append(sequence("trackingnet", name, frames, truth))
    return sequences
