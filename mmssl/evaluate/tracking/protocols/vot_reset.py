"""VOT's reset-based scoring, 2013 to 2019 (Kristan et al., PAMI 2016; VOT2015 report for EAO).

A tracker that has failed is started again 5 frames later. Accuracy is the mean overlap without the 10 frames
from each start, robustness the number of failures. The expected average overlap (EAO) asks what a tracker
that is never restarted would score on sequences of typical lengths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.protocol import Curve, Judged
from mmssl.evaluate.tracking.protocols.frame_size import frame_size
from mmssl.evaluate.tracking.protocols.one_pass import chosen, total
from mmssl.evaluate.tracking.protocols.regions import Floats, overlaps, true_regions
from mmssl.evaluate.tracking.sequence import Sequence as Tracked
from mmssl.evaluate.tracking.trajectory import FAILURE, INIT, REGION, Trajectory

INTERVALS = {2015: (108, 371), 2016: (108, 371), 2017: (100, 356), 2018: (100, 356), 2019: (46, 291)}
"""Lengths in frames, both ends included, over which a year's EAO is averaged; earlier years have none."""

_SKIP, _BURN_IN = 5, 10


@dataclass(frozen=True)
class ResetJudged(Judged):
    """With what sequences are pooled by."""

    overlap: Floats = field(default_factory=lambda: np.empty(0))
    """(T,) averaged over the repetitions that are past their burn-in; NaN where none is."""
    failures: float = 0.0
    """Averaged over repetitions."""
    expected: Floats = field(default_factory=lambda: np.empty((2, 0)))
    """(2, L) over lengths 1 … L: the weighted sum of the fragments' mean overlaps, and the weights."""


class VotReset:
    """The repetitions of every sequence, 15 in the challenges, pooled as VOT's MATLAB toolkit does.

    Accuracy: overlaps are averaged over repetitions frame by frame, then over the frames of all sequences.
    Failures: summed over sequences, averaged over repetitions; robustness is their number per 100 frames.
    """

    def __init__(self, year: int) -> None:
        """
        Raises:
            MmsslError: VOT had no reset-based experiment in that year.
        """
        if not 2013 <= year <= 2019:
            raise MmsslError(f"VOT {year}: the reset-based experiment was that of 2013 to 2019")
        self.name = f"vot{year}"
        self.interval = INTERVALS.get(year)
        eao = "no EAO" if self.interval is None else "EAO over lengths {}–{}".format(*self.interval)
        self.about = (
            f"overlap of rasterised regions within the image; restarted {_SKIP} frames after a failure; "
            f"accuracy without the {_BURN_IN} frames from each start, pooled over frames; failures averaged "
            f"over repetitions; {eao}"
        )

    def judge(self, runs: Sequence[Trajectory], sequence: Tracked) -> ResetJudged:
        """All repetitions of one sequence.

        Raises:
            MmsslError: there is none, or one has not as many frames as the sequence or does not begin with a
                start; names the sequence.
        """
        for run in runs:
            _check(run, sequence)
        if not runs:
            raise MmsslError(f"{sequence.name}: no run; expected the trajectory of at least one repetition")
        size, truth = frame_size(sequence), true_regions(sequence)
        overlap = np.stack([overlaps(run.regions, truth, size) for run in runs])
        codes = np.stack([run.codes for run in runs])
        overlap[codes != REGION] = np.nan
        fragments = [part for run in zip(overlap, codes, strict=True) for part in split(*run)]
        horizon = 0 if self.interval is None else self.interval[1]
        counts = {
            "frames": len(sequence),
            "runs": len(runs),
            "invalid truth": int(np.isnan(truth).any(axis=1).sum()),
        }
        one = ResetJudged(
            {},
            counts=counts,
            overlap=frame_accuracy(overlap, codes),
            failures=float((codes == FAILURE).sum(axis=1).mean()),
            expected=fragment_sums(fragments, horizon) / len(runs),
        )
        values, curves = self._score([one])
        return replace(one, values=values, curves=curves)

    def combine(self, judged: Mapping[str, ResetJudged], sequences: Sequence[Tracked]) -> Judged:
        kept = chosen(judged, sequences)
        values, curves = self._score(kept)
        return Judged(values, curves, total(one.counts for one in kept))

    def ceiling(self, sequences: Sequence[Tracked]) -> Judged:
        """The truth itself, never lost."""
        return self.combine({one.name: self.judge([_perfect(one)], one) for one in sequences}, sequences)

    def _score(self, sequences: Sequence[ResetJudged]) -> tuple[dict[str, float], dict[str, Curve]]:
        frames = np.concatenate([one.overlap for one in sequences])
        failures = sum(one.failures for one in sequences)
        values = {
            "accuracy": 100 * _mean(frames),
            "failures": failures,
            "failures per 100 frames": 100 * failures / len(frames),
        }
        if self.interval is None:
            return values, {}
        low, high = self.interval
        longest = max(len(one.overlap) for one in sequences)
        sums, weights = np.sum([one.expected for one in sequences], axis=0)[:, :longest]
        curve = sums / np.where(weights > 0, weights, np.nan)
        eao = 100 * _mean(curve[low - 1 : high])
        lengths = np.arange(1.0, len(curve) + 1)
        return {"EAO": eao, **values}, {
            "expected overlap": Curve(lengths, curve, "sequence length in frames", "expected average overlap")
        }


def frame_accuracy(overlap: Floats, codes: NDArray[np.int64]) -> Floats:
    """(T,) overlap averaged over the runs (R, T) that did not start within 10 frames; NaN where all did."""
    starts = np.cumsum(codes == INIT, axis=1)
    begun = np.concatenate([np.zeros_like(starts[:, :_BURN_IN]), starts[:, :-_BURN_IN]], axis=1)
    settled = (starts == begun[:, : starts.shape[1]]) & ~np.isnan(overlap)
    runs = settled.sum(axis=0)
    return np.where(runs > 0, np.where(settled, overlap, 0).sum(axis=0) / np.maximum(runs, 1), np.nan)


def split(overlap: Floats, codes: NDArray[np.int64]) -> list[tuple[Floats, bool]]:
    """The fragments of one run (T,), each from a start to the next, and whether it ended in a failure.

    A failure so late that there is no restart leaves its fragment open, as in VOT's toolkit.
    """
    restarts = np.flatnonzero(codes == FAILURE) + _SKIP
    edges = [0, *restarts[restarts < len(codes)].tolist()]
    pieces = np.split(np.nan_to_num(overlap, nan=0.0), edges[1:])
    return [(piece, index < len(pieces) - 1) for index, piece in enumerate(pieces)]


def fragment_sums(fragments: Sequence[tuple[Floats, bool]], lengths: int) -> Floats:
    """(2, L) over the lengths 1 … L: the sum of the fragments' mean overlaps after their first frame, and how
    many fragments tell of that length.

    A fragment that failed is continued with zeros, any other tells of lengths up to its own. The mean over no
    frame, at length 1, is 1.
    """
    padded = np.zeros((len(fragments), lengths))
    usable = np.zeros((len(fragments), lengths), bool)
    for row, (piece, failed) in enumerate(fragments):
        padded[row, : len(piece)] = piece[:lengths]
        usable[row, : lengths if failed else len(piece)] = True
    means = np.concatenate([np.ones_like(padded[:, :1]), padded[:, 1:].cumsum(axis=1)], axis=1)
    means[:, 1:] /= np.arange(1, max(lengths, 1))
    return np.stack([np.where(usable, means, 0).sum(axis=0), usable.sum(axis=0)])


def _check(run: Trajectory, sequence: Tracked) -> None:
    if len(run) != len(sequence):
        raise MmsslError(f"{sequence.name}: expected {len(sequence)} frames in each run, found {len(run)}")
    if len(run) and run.codes[0] != INIT:
        raise MmsslError(
            f"{sequence.name}: expected the code {INIT} (start) in frame 0, found {run.codes[0]}"
        )


def _perfect(sequence: Tracked) -> Trajectory:
    codes = np.full(len(sequence), REGION)
    codes[0] = INIT
    return Trajectory(codes, true_regions(sequence))


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
