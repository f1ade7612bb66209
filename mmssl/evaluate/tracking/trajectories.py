"""Files of VOT's result folders: ``TRACKER/baseline/SEQ/SEQ_001.txt``, one region or code a line.

A line is ``1`` (given to the tracker), ``2`` (failure), ``0`` (skipped), a box x,y,w,h or corners x1,y1,…,
counted from 0. Seconds lie beside it in ``SEQ_001_time.value``, one number a line, or, from the MATLAB
toolkit, in ``SEQ_time.txt`` with a column for each repetition.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import check_length
from mmssl.evaluate.tracking.text import read_lines, read_series, read_table, split_numbers
from mmssl.evaluate.tracking.trajectory import FAILURE, INIT, REGION, UNKNOWN, Trajectory
from mmssl.files import write_bytes

_EXPECTED = "0, 1, 2, a box x,y,w,h or the corners of a polygon"


def vot_path(folder: Path, sequence: str, run: int = 1, anchor: int | None = None) -> Path:
    """The file of repetition ``run``, or of the run from ``anchor`` (a frame; its sign does not count)."""
    number = f"{run:03d}" if anchor is None else f"{abs(anchor):08d}"
    return folder / "baseline" / sequence / f"{sequence}_{number}.txt"


def write_trajectory(path: Path | str, trajectory: Trajectory) -> None:
    """Write a trajectory, with 4 decimals, and its seconds where it has them; each file atomically.

    Regions that are upright boxes are written as such.

    Raises:
        MmsslError: a region that is not finite.
    """
    path = Path(path)
    lines = []
    for frame, (code, region) in enumerate(zip(trajectory.codes, trajectory.regions, strict=True)):
        if code == REGION and not np.isfinite(region).all():
            raise MmsslError(f"{path}: frame {frame}: a region that is not finite; expected a code instead")
        lines.append(_words(region) if code == REGION else str(code))
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
    if trajectory.seconds is not None:
        seconds = "".join(f"{second:.8f}\n" for second in trajectory.seconds)
        write_bytes(path.with_name(f"{path.stem}_time.value"), seconds.encode())


def read_trajectory(path: Path | str) -> Trajectory:
    """A trajectory with as many frames as the file has lines.

    Boxes become their four corners, a triangle's third corner counts twice; one number behind a code, a box
    or four corners, such as a confidence, is left out.

    Raises:
        MmsslError: the file is missing or empty, a line (named by its number) is none of what is expected or
            a mask, or there is not one time for every frame.
    """
    path = Path(path)
    lines = read_lines(path, _EXPECTED)
    if not lines:
        raise MmsslError(f"{path}: empty; expected {_EXPECTED} on every line")
    codes = np.full(len(lines), REGION, dtype=np.int64)
    regions = np.full((len(lines), 8), np.nan)
    for row, line in enumerate(lines):
        try:
            found = _parsed(line)
        except ValueError as error:
            raise MmsslError(f"{path}:{row + 1}: {line!r:.80} ({error}); expected {_EXPECTED}") from error
        if isinstance(found, int):
            codes[row] = found
        else:
            regions[row] = found
    return Trajectory(codes, regions, _seconds(path, len(lines)))


def _parsed(line: str) -> int | NDArray[np.float64]:
    """A code, or (8,) corners.

    Raises:
        ValueError: it is neither.
    """
    if line.startswith("m"):
        raise ValueError("a mask, as of VOT2020")
    values = split_numbers(line)
    if len(values) in (2, 5, 9):  # no region has so many numbers
        values.pop()
    if len(values) == 1:
        if values[0] not in (UNKNOWN, INIT, FAILURE):
            raise ValueError("no such code")
        return int(values[0])
    if not np.isfinite(values).all():
        raise ValueError("not finite")
    if len(values) == 4:
        x, y, width, height = values
        return np.array([x, y, x + width, y, x + width, y + height, x, y + height])
    if len(values) == 6:
        return np.array([*values, *values[4:]])
    if len(values) != 8:
        raise ValueError(f"{len(values)} numbers; polygons of more than four corners are not read")
    return np.array(values)


def _words(region: NDArray[np.float64]) -> str:
    """A line for (8,) corners."""
    corners = np.round(region, 4) + 0.0  # -0 becomes 0
    x, y, right, _, _, bottom, _, _ = corners
    upright = np.array([x, y, right, y, right, bottom, x, bottom])
    if (corners == upright).all():
        corners = np.array([x, y, right - x, bottom - y])
    return ",".join(f"{value:.4f}" for value in corners)


def _seconds(path: Path, frames: int) -> NDArray[np.float64] | None:
    own = path.with_name(f"{path.stem}_time.value")
    if own.is_file():
        seconds = read_series(own, "the seconds of every frame")
        check_length(own, len(seconds), frames)
        return seconds
    name, _, run = path.stem.rpartition("_")
    shared = path.with_name(f"{name}_time.txt")
    if not (shared.is_file() and run.isdecimal()):
        return None
    columns = read_table(shared, range(1, 1000), "seconds, a line a frame and a column a repetition")
    check_length(shared, len(columns), frames)
    return columns[:, int(run) - 1] if 1 <= int(run) <= columns.shape[1] else None
