"""What the protocols of one pass share: errors frame by frame become curves, curves become numbers."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.protocol import Curve, Judged, Protocol
from mmssl.evaluate.tracking.protocols import curves as c
from mmssl.evaluate.tracking.sequence import Sequence as Tracked
from mmssl.tracking.boxes import Boxes, centres


@dataclass(frozen=True)
class Errors:
    """One sequence, frame by frame, as a toolkit sees it: its conventions are already in the numbers."""

    frames: int
    """The denominator."""
    overlap: c.Floats
    """(N,) of the frames that can hit, N ≤ ``frames``; −1 or NaN is a miss at every threshold."""
    distance: c.Floats | None = None
    """(N,) px between the centres; −1 is a hit at every threshold, NaN and infinity a miss."""
    normalised: c.Floats | None = None
    """(N,) the same in sizes of the true box."""
    counts: dict[str, int] = field(default_factory=dict)


class OnePass(Protocol):
    """One run from the first frame to the last, or several such runs of a sequence, pooled (TRE, SRE)."""

    @abstractmethod
    def errors(self, boxes: Boxes, sequence: Tracked) -> Errors:
        """The frames that count; ``boxes`` has as many rows as the sequence has frames and is not changed."""

    def judge(self, boxes: Boxes, sequence: Tracked) -> Judged:
        boxes = np.asarray(boxes, float)
        if boxes.shape != (len(sequence), 4):
            raise MmsslError(
                f"{sequence.name}: expected boxes of shape ({len(sequence)}, 4), one for every frame, "
                f"found {boxes.shape}"
            )
        errors = self.errors(boxes, sequence)
        lost = int((~is_box(boxes)).sum())
        counts = {"frames": errors.frames, **errors.counts, "frames without a predicted box": lost}
        curves = self.curves(errors)
        return Judged({**self.means(errors), **self.values(curves)}, curves, counts)

    def combine(self, judged: Mapping[str, Judged], sequences: Sequence[Tracked]) -> Judged:
        """The mean over sequences; those of which no frame counts are left out and counted."""
        kept = chosen(judged, sequences)
        return self._average(kept, [float(one.counts["frames"] > 0) for one in kept])

    def pool(self, runs: Sequence[Judged]) -> Judged:
        """Of several runs of one sequence, every frame alike, as OTB does with the runs of TRE and SRE."""
        return self._average(runs, [float(run.counts["frames"]) for run in runs])

    def curves(self, errors: Errors) -> dict[str, Curve]:
        found = {c.SUCCESS: c.success(errors.overlap, errors.frames)}
        if errors.distance is not None:
            found[c.PRECISION] = c.precision(errors.distance, errors.frames)
        if errors.normalised is not None:
            found[c.NORMALISED] = c.normalised_precision(errors.normalised, errors.frames)
        return found

    def means(self, errors: Errors) -> dict[str, float]:
        """Means over the frames that count, in per cent, which no curve tells; they stand first."""
        return {}

    def values(self, curves: Mapping[str, Curve]) -> dict[str, float]:
        """Linear in the curves, so that the value of a mean curve is the mean of the values."""
        values = {
            "success AUC": c.area(curves[c.SUCCESS]),
            "success at 0.5": c.at(curves[c.SUCCESS], 0.5),
            "precision at 20 px": c.at(curves[c.PRECISION], 20),
        }
        if c.NORMALISED in curves:
            values["normalised precision at 0.20"] = c.at(curves[c.NORMALISED], 0.2)
            values["normalised precision AUC"] = c.area(curves[c.NORMALISED])
        return values

    def _average(self, judged: Sequence[Judged], weights: Sequence[float]) -> Judged:
        names = judged[0].curves
        curves = {name: c.mean([one.curves[name] for one in judged], weights) for name in names}
        read = self.values(curves)
        kept = [(one.values, weight) for one, weight in zip(judged, weights, strict=True) if weight > 0]
        means = {
            name: sum(values[name] * weight for values, weight in kept) / sum(weight for _, weight in kept)
            if kept
            else float("nan")
            for name in judged[0].values
            if name not in read
        }
        counts = total(one.counts for one in judged)
        if empty := sum(weight == 0 for weight in weights):
            counts["sequences without a frame that counts"] = empty
        return Judged({**means, **read}, curves, counts)


J = TypeVar("J", bound=Judged)


def chosen(judged: Mapping[str, J], sequences: Iterable[Tracked]) -> list[J]:
    """What was judged of these sequences, in their order.

    Raises:
        MmsslError: there is no sequence, or one of them was not judged; names it.
    """
    names = [sequence.name for sequence in sequences]
    if not names:
        raise MmsslError("no sequence to combine: expected at least one")
    if missing := [name for name in names if name not in judged]:
        raise MmsslError(
            f"not judged: {', '.join(missing)}; expected a result for each of {len(names)} sequences"
        )
    return [judged[name] for name in names]


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums by name, in the order in which the names appear."""
    sums: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def is_box(boxes: Boxes) -> NDArray[np.bool_]:
    """(…,) whether there is a box: four finite numbers, width and height above 0."""
    return every(np.isfinite(boxes)) & every(boxes[..., 2:] > 0)


def positive(boxes: Boxes) -> NDArray[np.bool_]:
    """(…,) whether all four numbers, counted from 1, are above 0: OTB's own test of a true box."""
    return every(boxes > np.array([-1.0, -1.0, 0.0, 0.0]))


def missing_numbers(boxes: Boxes) -> NDArray[np.bool_]:
    """(…,) whether one of the four numbers is NaN."""
    return ~every(~np.isnan(boxes))


def every(conditions: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(…,) whether all of the last axis hold."""
    found: NDArray[np.bool_] = np.logical_and.reduce(conditions, axis=-1)
    return found


def centre_errors(boxes: Boxes, truth: Boxes) -> tuple[c.Floats, c.Floats]:
    """(N,) in px and (N,) in true widths and heights; NaN or infinite where that is not defined."""
    offset = centres(boxes) - centres(truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = offset / truth[..., 2:]
    return np.hypot(*offset.T), np.hypot(*relative.T)


def first_from_truth(boxes: Boxes, truth: Boxes) -> Boxes:
    """A new array whose first box is the true one: it was given to the tracker."""
    return np.concatenate([truth[:1], boxes[1:]])
