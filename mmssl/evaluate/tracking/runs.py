"""Run a tracker over the sequences of a benchmark, and go on where an earlier run was stopped."""

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence as Many
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich import get_console

from mmssl.config import fingerprint
from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.experiments import RUNS, Experiment
from mmssl.evaluate.tracking.raw import Followed, read_followed, write_followed
from mmssl.evaluate.tracking.results import LAYOUTS, ResultLayout
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.supervised import supervise, trajectory
from mmssl.files import read_json, write_json
from mmssl.models.feature_map import FeatureMap
from mmssl.progress import Told, progress_bar
from mmssl.tracking.lockstep import Job, lockstep
from mmssl.tracking.tracker import Tracker, TrackerConfig, Trackers

FINISHED = "finished.json"
"""In a tracker's folder of results: sequence to the fingerprint of what its files were made with."""


def follow_all(
    features: FeatureMap,
    config: TrackerConfig,
    sequences: Many[Sequence],
    experiment: Experiment,
    *,
    folder: Path | None = None,
    layout: ResultLayout = LAYOUTS["otb"],
    lanes: int = 4,
    what: str = "tracking",
) -> dict[str, Followed]:
    """Sequence name to what the tracker did there, for all of them.

    A sequence's result files are written to ``folder`` as soon as its last frame is done. Those that are
    there from a run with the same weights, settings, truth and starts are read and not run again.

    Args:
        lanes: runs that advance together, one batch of crops a step. VOT's reset-based experiment watches
            each tracker frame by frame and has one lane.

    Raises:
        MmsslError: a frame is missing or is no picture, or a box to start from is none; names the sequence.
    """
    store = Store(folder, experiment, layout)
    tracker = _tracker(features, config)
    identities = {one.name: fingerprint([tracker, experiment, *_about(one)]) for one in sequences}
    found = {one.name: store.read(one, identities[one.name]) for one in sequences}
    left = [one for one in sequences if found[one.name] is None]
    if left:
        run = (
            partial(_supervised, Tracker(features, config))
            if experiment == "vot_reset"
            else partial(_lockstep, Trackers(features, config), experiment, lanes)
        )
        before = len(sequences) - len(left)
        words = f"{what} ({before} sequences were done before)" if before else what
        with progress_bar(words, "frames", get_console(), transient=True) as told:
            for sequence, followed in run(left, told):
                found[sequence.name] = store.write(sequence, followed, identities[sequence.name])
    return {name: its for name, its in found.items() if its is not None}


class Store:
    """A folder of result files, and the record of what is in them; without a folder nothing is kept.

    Raises:
        MmsslError: the record is damaged.
    """

    def __init__(self, folder: Path | None, experiment: Experiment, layout: ResultLayout) -> None:
        self.folder, self.experiment, self.layout = folder, experiment, layout
        self._done: dict[str, str] = {}
        if folder is not None and (folder / FINISHED).is_file():
            found = read_json(folder / FINISHED, "the record of finished sequences")
            if not isinstance(found, dict):
                raise MmsslError(f"{folder / FINISHED}: expected a mapping of sequence to fingerprint")
            self._done = found

    def read(self, sequence: Sequence, identity: str) -> Followed | None:
        """What is there of a sequence; None if it is not finished, or was made by something else."""
        if self.folder is None or self._done.get(sequence.name) != identity:
            return None
        try:
            return read_followed(self.folder, sequence, self.experiment, self.layout)
        except MmsslError:  # files that were removed or damaged since: as if it had not been run
            return None

    def write(self, sequence: Sequence, followed: Followed, identity: str) -> Followed:
        """First the result files, then the record that they are finished.

        Returns:
            What the files say, in which numbers are rounded: what is scored is what others can score again.
        """
        if self.folder is None:
            return followed
        write_followed(self.folder, sequence, followed, self.layout)
        self._done[sequence.name] = identity
        write_json(self.folder / FINISHED, self._done)
        return read_followed(self.folder, sequence, self.experiment, self.layout)


def _lockstep(
    trackers: Trackers,
    experiment: Experiment,
    lanes: int,
    sequences: Many[Sequence],
    told: Told,
) -> Iterator[tuple[Sequence, Followed]]:
    """All runs of all sequences side by side; a sequence comes when the last of its runs is done."""
    runs = [run for sequence in sequences for run in RUNS[experiment](sequence)]
    waiting: dict[str, list[str]] = {}
    for run in runs:
        waiting.setdefault(run.whole.name, []).append(run.name)
    done: dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    frames, total = 0, sum(len(run.numbers) for run in runs)
    jobs = [Job(run.whole.frames, run.numbers.tolist(), run.box) for run in runs]
    for index, boxes, seconds in lockstep(trackers, jobs, lanes):
        run, its = runs[index], done.setdefault(runs[index].whole.name, {})
        its[run.name] = boxes, seconds
        frames += len(boxes)
        told(frames, total)
        if len(its) == len(waiting[run.whole.name]):
            names = waiting[run.whole.name]
            keep = trajectory if experiment == "vot_anchor" else np.asarray
            times = {name: its[name][1] for name in names}
            yield run.whole, Followed({name: keep(its[name][0]) for name in names}, times)
            del done[run.whole.name]


def _supervised(
    tracker: Tracker, sequences: Many[Sequence], told: Told
) -> Iterator[tuple[Sequence, Followed]]:
    frames, total = 0, sum(map(len, sequences))
    for sequence in sequences:
        its = supervise(tracker, sequence)
        frames += len(sequence)
        told(frames, total)
        times = {} if its.seconds is None else {"001": its.seconds}
        yield sequence, Followed({"001": its}, times)


def _about(sequence: Sequence) -> list[Any]:
    """What the runs of a sequence depend on, but for the pictures themselves."""
    regions = sequence.truth if sequence.polygons is None else sequence.polygons
    truth = [hashlib.sha256(np.ascontiguousarray(one).tobytes()) for one in (sequence.truth, regions)]
    return [sequence.name, len(sequence), *sequence.anchors, *(one.hexdigest() for one in truth)]


def _tracker(features: FeatureMap, config: TrackerConfig) -> list[Any]:
    """Which tracker it is: a hash of its weights, and its settings."""
    digest = hashlib.sha256()
    for name, value in sorted(features.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    encoder = features.encoder.config.model_dump(mode="json", exclude={"weights"})
    return [digest.hexdigest(), encoder, features.stage, config.model_dump(mode="json")]
