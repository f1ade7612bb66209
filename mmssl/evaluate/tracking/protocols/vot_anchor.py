"""VOT's anchor-based scoring, from 2020 (Kristan et al., VOT2020 report, section 3).

A tracker starts at every anchor frame and runs, without restarts, to an end of the sequence, forward or
backward. It has failed once the overlap was at most 0.1 in 10 consecutive frames; what follows from the
first of them on is not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.protocol import Curve, Judged
from mmssl.evaluate.tracking.protocols.frame_size import frame_size
from mmssl.evaluate.tracking.protocols.one_pass import chosen, total
from mmssl.evaluate.tracking.protocols.regions import Floats, overlaps, true_regions
from mmssl.evaluate.tracking.sequence import Sequence as Tracked
from mmssl.evaluate.tracking.trajectory import INIT, REGION, Trajectory

LOW, HIGH = 115, 755
_PATIENCE, _LOST = 10, 0.1


@dataclass(frozen=True)
class AnchorJudged(Judged):
    """With what sequences are pooled by."""

    overlap: float = 0.0
    """Summed over the frames before the failures of all runs."""
    progress: int = 0
    """How many frames these are."""
    length: int = 0
    """How many frames the runs have together."""
    expected: Floats = field(default_factory=lambda: np.zeros((2, HIGH)))
    """(2, HIGH) over frames after the anchor: the sum of the runs' mean overlaps, and how many runs tell."""


class VotAnchor:
    """A = Σ overlap / Σ progress; R_s = Σ progress / Σ length over the runs of a sequence, and R their mean
    with the sequences' numbers of frames as weights.

    As in VOT's Python toolkit, the anchor frame itself, where the region was given, has the overlap 0. A
    perfect tracker thus scores less than 100 in accuracy: see ``ceiling``.
    """

    name = "vot_anchor"
    about = (
        f"overlap of rasterised regions within the image; failed = overlap ≤ {_LOST} in {_PATIENCE} "
        "consecutive frames, counted from the first; A over the frames before, R their share, EAO over "
        f"lengths {LOW}–{HIGH}"
    )

    def judge(self, runs: Mapping[int, Trajectory], sequence: Tracked) -> AnchorJudged:
        """The runs of one sequence by their anchor, signed as in ``sequence.anchors``.

        Raises:
            MmsslError: a run is missing or has the wrong number of frames; names sequence and anchor.
        """
        if not sequence.anchors:
            raise MmsslError(f"{sequence.name}: has no anchors; expected some for {self.name}")
        if missing := [anchor for anchor in sequence.anchors if anchor not in runs]:
            raise MmsslError(f"{sequence.name}: no run from anchor {', '.join(map(str, missing))}")
        size, truth = frame_size(sequence), true_regions(sequence)
        judged: list[tuple[Floats, int]] = []
        for anchor in sequence.anchors:
            frames, run = visited(anchor, len(sequence)), runs[anchor]
            if len(run) != len(frames):
                raise MmsslError(
                    f"{sequence.name}: expected {len(frames)} frames in the run from anchor {anchor}, "
                    f"found {len(run)}"
                )
            overlap = np.nan_to_num(overlaps(run.regions, truth[frames], size), nan=0.0)
            overlap[run.codes != REGION] = 0
            judged.append((overlap, progress(overlap, ~np.isnan(truth[frames]).any(axis=1))))
        one = AnchorJudged(
            {},
            counts={
                "frames": len(sequence),
                "runs": len(judged),
                "invalid truth": int(np.isnan(truth).any(axis=1).sum()),
            },
            overlap=sum(float(overlap[:done].sum()) for overlap, done in judged),
            progress=sum(done for _, done in judged),
            length=sum(len(overlap) for overlap, _ in judged),
            expected=np.sum([run_sums(*run) for run in judged], axis=0),
        )
        values, curves = _score([one])
        return replace(one, values=values, curves=curves)

    def combine(self, judged: Mapping[str, AnchorJudged], sequences: Sequence[Tracked]) -> Judged:
        kept = chosen(judged, sequences)
        values, curves = _score(kept)
        return Judged(values, curves, total(one.counts for one in kept))

    def ceiling(self, sequences: Sequence[Tracked]) -> Judged:
        """The truth itself from every anchor."""
        judged = {}
        for sequence in sequences:
            runs = {anchor: _perfect(sequence, anchor) for anchor in sequence.anchors}
            judged[sequence.name] = self.judge(runs, sequence)
        return self.combine(judged, sequences)


def visited(anchor: int, frames: int) -> np.ndarray:
    """Frame numbers that the run from an anchor visits, in order: up from a ≥ 0, down to 0 from −a < 0."""
    return np.arange(anchor, frames) if anchor >= 0 else np.arange(-anchor, -1, -1)


def progress(overlap: Floats, present: np.ndarray) -> int:
    """How many of n frames went before the failure; one without truth (``present`` False) ends a streak."""
    bad = (overlap <= _LOST) & present
    if len(bad) < _PATIENCE:
        return len(bad)
    streaks = np.lib.stride_tricks.sliding_window_view(bad, _PATIENCE).all(axis=1)
    return int(streaks.argmax()) if streaks.any() else len(bad)


def run_sums(overlap: Floats, done: int) -> Floats:
    """(2, HIGH) over the number of frames after the anchor: the mean overlap of a run (n,) that failed after
    ``done`` frames, or did not (done = n), and whether it tells of so many frames.

    A run that failed is continued with zeros. Beyond its last frame the toolkit divides its sum by one frame
    less, and so does this.
    """
    sums, tells = np.zeros(HIGH), np.zeros(HIGH)
    n = min(len(overlap), HIGH)
    seen = np.where(np.arange(len(overlap)) < done, overlap, 0)[1:].cumsum()
    sums[1:n] = seen[: n - 1] / np.arange(1, n)
    tells[1:n] = 1
    if done < len(overlap) < HIGH:
        sums[n:] = seen[-1] / np.arange(n - 1, HIGH - 1)
        tells[n:] = 1
    return np.stack([sums, tells])


def _score(sequences: Sequence[AnchorJudged]) -> tuple[dict[str, float], dict[str, Curve]]:
    overlap, gone = sum(one.overlap for one in sequences), sum(one.progress for one in sequences)
    robustness = np.average(
        [one.progress / one.length for one in sequences], weights=[one.counts["frames"] for one in sequences]
    )
    sums, tells = np.sum([one.expected for one in sequences], axis=0)
    curve = sums / np.maximum(tells, 1)  # 0 where no run tells, as in the toolkit
    values = {
        "EAO": 100 * float(curve[LOW:].mean()) if tells[LOW:].any() else float("nan"),
        "accuracy": 100 * overlap / gone if gone else 0.0,
        "robustness": 100 * float(robustness),
    }
    frames = np.arange(float(HIGH))
    return values, {
        "expected overlap": Curve(frames, curve, "frames after the anchor", "expected average overlap")
    }


def _perfect(sequence: Tracked, anchor: int) -> Trajectory:
    regions = true_regions(sequence)[visited(anchor, len(sequence))]
    codes = np.full(len(regions), REGION)
    codes[0] = INIT
    return Trajectory(codes, regions)
