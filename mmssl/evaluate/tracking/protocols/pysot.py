"""pysot's toolkit, and the official one of LaSOT (Fan et al., CVPR 2019)."""

import numpy as np
from numpy.typing import NDArray

from mmssl.evaluate.tracking.protocols.one_pass import (
    Errors,
    OnePass,
    centre_errors,
    every,
    first_from_truth,
    is_box,
    missing_numbers,
    positive,
)
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.tracking.boxes import Boxes, centres, iou


class Pysot(OnePass):
    """The first frame counts as it was predicted.

    A true box without area is a miss for success; a true centre that is not right of and below (0, 0), or not
    there at all, is a hit for precision. Frames flagged as absent cannot hit, but stay in the denominator.
    """

    name = "pysot"
    about = (
        "IoU > t at 21 thresholds; centre error ≤ 20 px, or ≤ 0.20 of the target; first frame not replaced; "
        "empty or NaN truth misses in success, a true centre ≤ 0 or NaN hits in precision; absent frames "
        "dropped but kept in the denominator; mean over sequences"
    )

    def errors(self, boxes: Boxes, sequence: Sequence) -> Errors:
        truth, present = sequence.truth, _present(sequence)
        sized = every(truth[:, 2:] > 0)
        centred = every(centres(truth) > 0)
        distance, normalised = centre_errors(boxes, truth)
        return Errors(
            frames=len(truth),
            overlap=np.where(sized, iou(boxes, truth), -1)[present],
            distance=np.where(centred, distance, -1)[present],
            normalised=np.where(centred, normalised, -1)[present],
            counts=_counts(present, ~sized),
        )


class Lasot(OnePass):
    """LaSOT's official toolkit: pysot's treatment of absent frames with OTB's of everything else.

    A prediction that is no box is replaced by the one before it, unless the truth is NaN.
    """

    name = "lasot"
    about = (
        "IoU > t at 21 thresholds; centre error ≤ 20 px, or ≤ 0.20 of the target; first frame replaced by "
        "the truth; predictions that are no box repeat the last one; invalid truth misses in success and "
        "hits in precision; absent frames dropped but kept in the denominator; mean over sequences"
    )

    def errors(self, boxes: Boxes, sequence: Sequence) -> Errors:
        truth, present = sequence.truth, _present(sequence)
        boxes = repeated(first_from_truth(boxes, truth), ~missing_numbers(truth))
        valid = positive(truth)
        distance, normalised = centre_errors(boxes, truth)
        return Errors(
            frames=len(truth),
            overlap=np.where(valid, iou(boxes, truth), -1)[present],
            distance=np.where(valid, distance, -1)[present],
            normalised=np.where(valid, normalised, -1)[present],
            counts=_counts(present, ~valid),
        )


def repeated(boxes: Boxes, where: NDArray[np.bool_]) -> Boxes:
    """A new array in which rows that are no box, ``where`` (T,) says so, repeat the row before them."""
    source = np.where(is_box(boxes) | ~where, np.arange(len(boxes)), 0)
    return boxes[np.maximum.accumulate(source)]


def _present(sequence: Sequence) -> NDArray[np.bool_]:
    return np.ones(len(sequence.truth), bool) if sequence.absent is None else ~sequence.absent


def _counts(present: NDArray[np.bool_], invalid: NDArray[np.bool_]) -> dict[str, int]:
    return {"absent": int((~present).sum()), "invalid truth": int((invalid & present).sum())}
