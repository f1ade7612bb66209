"""What a tracker did in a sequence, and where the result files lie that say it, for every experiment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.experiments import RUNS, Experiment
from mmssl.evaluate.tracking.results import (
    LAYOUTS,
    ResultLayout,
    read_run,
    read_trajectory,
    vot_path,
    write_run,
    write_trajectory,
)
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.trajectory import Trajectory
from mmssl.tracking.boxes import Boxes

Times = NDArray[np.float64]

Runs = Mapping[str, Boxes | Trajectory]
"""Run to boxes (n, 4), or to a trajectory in VOT's experiments."""


@dataclass(frozen=True)
class Followed:
    """One tracker in one sequence."""

    runs: Runs
    times: Mapping[str, Times] = field(default_factory=dict)
    """Run to (n,) seconds of each frame, where they were kept."""

    @property
    def frames(self) -> int:
        """That it saw, in all runs together."""
        return sum(map(len, self.runs.values()))

    @property
    def seconds(self) -> float | None:
        """Of all runs together; None where nobody measured."""
        known = self.times.keys() >= self.runs.keys()
        return float(sum(np.nansum(its) for its in self.times.values())) if known else None


def write_followed(folder: Path, sequence: Sequence, followed: Followed, layout: ResultLayout) -> None:
    """Write the result files of one sequence, each of them atomically.

    One pass in the benchmark's own layout, the runs of TRE and SRE as ``SEQUENCE/tre_01.txt``, VOT's as
    ``baseline/SEQUENCE/…``.
    """
    for name, run in followed.runs.items():
        times = followed.times.get(name)
        if isinstance(run, Trajectory):
            write_trajectory(_vot(folder, sequence, name), replace(run, seconds=times))
        elif name == "ope":
            write_run(layout, folder, sequence.name, run, times)
        else:
            write_run(LAYOUTS["otb"], folder / sequence.name, name, run, times)


def read_followed(folder: Path, sequence: Sequence, experiment: Experiment, layout: ResultLayout) -> Followed:
    """The runs of one sequence, of ours or of any other tracker.

    Of one pass, ``SEQUENCE.txt`` and ``SEQUENCE/SEQUENCE_001.txt`` are both found; ``layout`` says what they
    call the first pixel.

    Raises:
        MmsslError: a file is missing, or has not one line for every frame of its run.
    """
    runs: dict[str, Boxes | Trajectory] = {}
    times: dict[str, Times] = {}
    for name, run, seconds in _read(folder, sequence, experiment, layout):
        runs[name] = run
        if seconds is not None:
            times[name] = seconds
    return Followed(runs, times)


def _read(
    folder: Path, sequence: Sequence, experiment: Experiment, layout: ResultLayout
) -> Iterator[tuple[str, Boxes | Trajectory, Times | None]]:
    if experiment == "vot_reset":
        for number in range(1, _repetitions(folder, sequence) + 1):
            yield f"{number:03d}", *_whole(vot_path(folder, sequence.name, number), len(sequence))
        return
    for run in RUNS[experiment](sequence):
        frames = len(run.numbers)
        if experiment == "vot_anchor":
            yield run.name, *_whole(_vot(folder, sequence, run.name), frames)
        elif experiment == "ope":
            other = replace(layout, by_run=not layout.by_run)
            there = other if other.path(folder, sequence.name).is_file() else layout
            yield run.name, *read_run(there, folder, sequence.name, frames)
        else:
            yield run.name, *read_run(LAYOUTS["otb"], folder / sequence.name, run.name, frames)


def _repetitions(folder: Path, sequence: Sequence) -> int:
    """How many there are, from 1 on without a gap; one at least, so that a missing file is named."""
    number = 1
    while vot_path(folder, sequence.name, number + 1).is_file():
        number += 1
    return number


def _vot(folder: Path, sequence: Sequence, run: str) -> Path:
    """``001`` is a repetition; an anchor is a signed frame without leading zeros."""
    if run.startswith("0") and len(run) == 3:
        return vot_path(folder, sequence.name, int(run))
    return vot_path(folder, sequence.name, anchor=int(run))


def _whole(path: Path, frames: int) -> tuple[Trajectory, Times | None]:
    run = read_trajectory(path)
    if len(run) != frames:
        raise MmsslError(f"{path}: {len(run)} lines; expected one for each of {frames} frames")
    return run, run.seconds
