"""Result files of trackers, ours and other people's: boxes and times in the benchmarks' own formats.

Boxes count pixels as the benchmark's truth does. A tracker's folder holds, for GOT-10k, ``SEQ/SEQ_001.txt``
and ``SEQ/SEQ_time.txt`` with a column of seconds for each repetition; for all others ``SEQ.txt``, as OTB,
LaSOT and TrackingNet have it, and ``times/SEQ_time.txt``.

VOT's trajectories are in ``mmssl.evaluate.tracking.trajectories``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import check_length
from mmssl.evaluate.tracking.readers.otb import OMITTED, OTHER_NAMES, same_target
from mmssl.evaluate.tracking.text import read_table
from mmssl.evaluate.tracking.trajectories import read_trajectory, vot_path, write_trajectory
from mmssl.files import write_bytes
from mmssl.tracking.boxes import Boxes

__all__ = [
    "LAYOUTS",
    "ResultLayout",
    "read_boxes",
    "read_run",
    "read_trajectory",
    "vot_path",
    "write_boxes",
    "write_run",
    "write_trajectory",
]


@dataclass(frozen=True)
class ResultLayout:
    """Where the files of one benchmark lie in a tracker's folder, and what their first pixel is called."""

    origin: int
    by_run: bool = False
    """A folder a sequence and a file a repetition."""

    def path(self, folder: Path, sequence: str, run: int = 1) -> Path:
        """Of the boxes of repetition ``run``, counted from 1."""
        return folder / sequence / f"{sequence}_{run:03d}.txt" if self.by_run else folder / f"{sequence}.txt"

    def times(self, folder: Path, sequence: str) -> Path:
        """Of the seconds, a column a repetition."""
        return folder / (sequence if self.by_run else "times") / f"{sequence}_time.txt"

    def find(self, folder: Path, sequence: str, run: int = 1) -> Path:
        """``path``, or the file that has the sequence's name in another spelling: ``jogging-1.txt``.

        Raises:
            MmsslError: there is none, or there are several.
        """
        path = self.path(folder, sequence, run)
        if path.is_file() or self.by_run:
            return path
        for name in (sequence, *OTHER_NAMES.get(sequence, ())):
            files = [file for file in folder.glob("*.txt") if same_target(file.stem) == same_target(name)]
            if len(files) > 1:
                names = ", ".join(sorted(file.name for file in files))
                raise MmsslError(f"{folder}: {names} all may be {sequence}; expected {path.name}")
            if files:
                return files[0]
        raise MmsslError(f"{path}: no such file; expected the boxes of {sequence}")


LAYOUTS: dict[str, ResultLayout] = {
    "otb": ResultLayout(origin=1),
    "tc128": ResultLayout(origin=1),
    "uav123": ResultLayout(origin=1),
    "lasot": ResultLayout(origin=1),
    "trackingnet": ResultLayout(origin=0),
    "nfs": ResultLayout(origin=0),
    "tlp": ResultLayout(origin=0),
    "vot": ResultLayout(origin=0),
    "shard_set": ResultLayout(origin=0),
    "got10k": ResultLayout(origin=0, by_run=True),
}
"""By the benchmark's kind; VOT's own experiments have trajectories instead."""


def write_boxes(path: Path | str, boxes: Boxes, origin: int = 1) -> None:
    """Write (T, 4) boxes, one ``x,y,w,h`` a line with 4 decimals, atomically; NaN stays ``nan``.

    Args:
        origin: what the file calls the first pixel; boxes themselves are counted from 0.
    """
    write_bytes(path, _lines(boxes + np.array([origin, origin, 0, 0])))


def read_boxes(path: Path | str, frames: int, origin: int = 1) -> Boxes:
    """(frames, 4) boxes counted from 0, whatever separates the numbers.

    Raises:
        MmsslError: the file is missing, a line (named by its number) is no box, or there are more or fewer
            than ``frames``.
    """
    boxes = _boxes(Path(path), origin)
    check_length(Path(path), len(boxes), frames)
    return boxes


def write_run(
    layout: ResultLayout,
    folder: Path,
    sequence: str,
    boxes: Boxes,
    seconds: NDArray[np.float64] | None = None,
    run: int = 1,
) -> None:
    """Write the boxes (T, 4) of a repetition, and the seconds (T,) of its frames where they were kept."""
    write_boxes(layout.path(folder, sequence, run), boxes, layout.origin)
    if seconds is None:
        return
    path = layout.times(folder, sequence)
    before = _times(path, len(boxes)) if path.is_file() else np.empty((len(boxes), 0))
    columns = np.full((len(boxes), max(run, before.shape[1])), np.nan)
    columns[:, : before.shape[1]] = before
    columns[:, run - 1] = seconds
    write_bytes(path, _lines(columns, decimals=8))


def read_run(
    layout: ResultLayout, folder: Path, sequence: str, frames: int, run: int = 1
) -> tuple[Boxes, NDArray[np.float64] | None]:
    """The boxes (frames, 4) of a repetition, and the seconds (frames,) of its frames where they are known.

    Files that also cover the frames that OTB omits (the first five of Tiger1) lose those lines.

    Raises:
        MmsslError: a file is missing or cannot be read, or there is not one line for every frame.
    """
    path = layout.find(folder, sequence, run)
    boxes = _boxes(path, layout.origin)
    if len(boxes) == frames + OMITTED.get(sequence, 0):
        boxes = boxes[len(boxes) - frames :]
    check_length(path, len(boxes), frames)
    times = layout.times(folder, sequence)
    if not times.is_file():
        return boxes, None
    columns = _times(times, frames)
    return boxes, columns[:, run - 1] if run <= columns.shape[1] else None


def _boxes(path: Path, origin: int) -> Boxes:
    boxes = read_table(path, (4,), "a box x,y,w,h on every line")
    boxes[:, :2] -= origin
    return boxes


def _times(path: Path, frames: int) -> NDArray[np.float64]:
    """(frames, repetitions) seconds."""
    columns = read_table(path, range(1, 1000), "seconds, a line a frame and a column a repetition")
    check_length(path, len(columns), frames)
    return columns


def _lines(rows: NDArray[np.float64], decimals: int = 4) -> bytes:
    rows = np.round(rows, decimals) + 0.0  # -0 becomes 0
    return "".join(",".join(f"{value:.{decimals}f}" for value in row) + "\n" for row in rows).encode()
