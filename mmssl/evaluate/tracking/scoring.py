"""Raw results to scores: of any tracker, ours or another's, under any protocol of any experiment."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.resample import Resampled, bootstrap
from mmssl.evaluate.tracking.experiments import RUNS, Experiment
from mmssl.evaluate.tracking.protocol import Judged
from mmssl.evaluate.tracking.protocols import PROTOCOLS, OnePass, VotAnchor, VotReset, by_attribute
from mmssl.evaluate.tracking.raw import Followed, Runs, read_followed
from mmssl.evaluate.tracking.results import ResultLayout
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.trajectory import Trajectory
from mmssl.tracking.boxes import Boxes

ANCHORED = VotAnchor.name
RESET = tuple(f"vot{year}" for year in range(2013, 2020))
"""Protocols of VOT's reset-based experiment: EAO is averaged over other lengths each year."""


class Rule(ABC):
    """A protocol, as it is applied to all the runs that an experiment makes of a sequence."""

    name: str
    about: str

    @abstractmethod
    def judge(self, runs: Runs, sequence: Sequence) -> Judged:
        """Of one sequence. Raises MmsslError where a run has not as many frames as it should."""

    @abstractmethod
    def combine(self, judged: Mapping[str, Any], sequences: Many[Sequence]) -> Judged:
        """Of all of them; one that is named twice counts twice."""

    @abstractmethod
    def ceiling(self, sequences: Many[Sequence]) -> Judged:
        """What the truth itself scores: no tracker can do better."""


class PassRule(Rule):
    """Runs from a start to the end; several of one sequence (TRE, SRE) count frame by frame as one."""

    def __init__(self, protocol: OnePass, experiment: Experiment) -> None:
        self.protocol, self.experiment = protocol, experiment
        self.name, self.about = protocol.name, protocol.about

    def judge(self, runs: Runs, sequence: Sequence) -> Judged:
        planned = RUNS[self.experiment](sequence)
        if missing := [run.name for run in planned if run.name not in runs]:
            raise MmsslError(f"{sequence.name}: no result of run {missing[0]}; expected {len(planned)} runs")
        judged = [self.protocol.judge(cast(Boxes, runs[run.name]), run.sequence) for run in planned]
        return judged[0] if len(judged) == 1 else self.protocol.pool(judged)

    def combine(self, judged: Mapping[str, Any], sequences: Many[Sequence]) -> Judged:
        return self.protocol.combine(judged, sequences)

    def ceiling(self, sequences: Many[Sequence]) -> Judged:
        perfect = {
            one.name: {run.name: run.sequence.truth for run in RUNS[self.experiment](one)}
            for one in sequences
        }
        return self.combine({one.name: self.judge(perfect[one.name], one) for one in sequences}, sequences)


class VotRule(Rule):
    """Trajectories: all repetitions of a sequence, or the runs from each of its anchors."""

    def __init__(self, protocol: VotReset | VotAnchor) -> None:
        self.protocol = protocol
        self.name, self.about = protocol.name, protocol.about

    def judge(self, runs: Runs, sequence: Sequence) -> Judged:
        trajectories = {name: cast(Trajectory, run) for name, run in runs.items()}
        if isinstance(self.protocol, VotReset):
            return self.protocol.judge(list(trajectories.values()), sequence)
        return self.protocol.judge({int(name): run for name, run in trajectories.items()}, sequence)

    def combine(self, judged: Mapping[str, Any], sequences: Many[Sequence]) -> Judged:
        return self.protocol.combine(judged, sequences)

    def ceiling(self, sequences: Many[Sequence]) -> Judged:
        return self.protocol.ceiling(sequences)


def rule(name: str, experiment: Experiment) -> Rule:
    """The protocol of that name for an experiment.

    Raises:
        MmsslError: the experiment is not judged by it.
    """
    known = {"vot_reset": RESET, "vot_anchor": (ANCHORED,)}.get(experiment, tuple(PROTOCOLS))
    if name not in known:
        raise MmsslError(f"protocols: experiment {experiment}: expected {', '.join(known)}, found {name!r}")
    if experiment == "vot_reset":
        return VotRule(VotReset(int(name.removeprefix("vot"))))
    if experiment == "vot_anchor":
        return VotRule(VotAnchor())
    return PassRule(cast(OnePass, PROTOCOLS[name]), experiment)


@dataclass(frozen=True)
class Outcome:
    """What a protocol says of one tracker."""

    total: Judged
    each: dict[str, Judged]
    """By sequence."""
    attributes: dict[str, Judged]
    """Attribute to all sequences that have it."""
    seconds: float | None = None
    """Of tracking, over all runs; None where nobody measured."""
    frames: int = 0
    """That were seen in this time, the first of each run too."""


def outcome(rule: Rule, sequences: Many[Sequence], results: Mapping[str, Followed]) -> Outcome:
    """Score one tracker. Raises MmsslError where a sequence has no result, or too short a one."""
    if missing := [one.name for one in sequences if one.name not in results]:
        raise MmsslError(f"no result of {', '.join(missing[:8])}; expected one of each sequence")
    each = {one.name: rule.judge(results[one.name].runs, one) for one in sequences}
    chosen = [results[one.name] for one in sequences]
    took = [its.seconds for its in chosen]
    return Outcome(
        rule.combine(each, sequences),
        each,
        by_attribute(rule, each, sequences),
        None if None in took else sum(filter(None, took)),
        sum(its.frames for its in chosen),
    )


def interval(
    rule: Rule, each: Mapping[str, Judged], sequences: Many[Sequence], metric: str, seed: int
) -> Resampled | None:
    """How sure a metric is: bootstrap over sequences, each draw combined as the protocol combines them."""

    def statistic(counts: Tensor) -> Tensor:
        repeats = counts.round().to(torch.int64).numpy()
        drawn = (
            [one for one, count in zip(sequences, row, strict=True) for _ in range(count)] for row in repeats
        )
        return torch.tensor([rule.combine(each, its).values[metric] for its in drawn], dtype=torch.float64)

    return bootstrap(torch.eye(len(sequences), dtype=torch.float64), statistic, seed)


def read_results(
    folder: Path, sequences: Iterable[Sequence], experiment: Experiment, layout: ResultLayout
) -> dict[str, Followed]:
    """The result files of any tracker, in OTB's, GOT-10k's or VOT's format, by sequence.

    Args:
        layout: the benchmark's own; it says what the files call the first pixel.

    Raises:
        MmsslError: the folder or the file of a sequence is missing, or is not one box a frame.
    """
    if not folder.is_dir():
        raise MmsslError(f"{folder}: no such folder; expected a tracker's result files")
    return {one.name: read_followed(folder, one, experiment, layout) for one in sequences}
