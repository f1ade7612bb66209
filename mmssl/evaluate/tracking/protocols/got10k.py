"""Three ways of GOT-10k's toolkit (Huang, Zhao, Huang, PAMI 2019): on OTB, on UAV and LaSOT, on GOT-10k."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmssl.evaluate.tracking.protocol import Curve, Judged
from mmssl.evaluate.tracking.protocols import curves as c
from mmssl.evaluate.tracking.protocols.frame_size import frame_size
from mmssl.evaluate.tracking.protocols.one_pass import (
    Errors,
    OnePass,
    centre_errors,
    chosen,
    first_from_truth,
    is_box,
    missing_numbers,
)
from mmssl.evaluate.tracking.sequence import Sequence as Tracked
from mmssl.tracking.boxes import Boxes, inside, iou


class Got10kOtb(OnePass):
    """As OTB, except that a true box that is none is a miss for precision as well."""

    name = "got10k_otb"
    about = (
        "IoU > t at 21 thresholds; centre error ≤ 20 px; first frame replaced by the truth; empty or NaN "
        "truth misses in both; mean over sequences"
    )

    def errors(self, boxes: Boxes, sequence: Tracked) -> Errors:
        truth = sequence.truth
        boxes = first_from_truth(boxes, truth)
        valid = is_box(truth)
        distance, _ = centre_errors(boxes, truth)
        return Errors(
            frames=len(truth),
            overlap=np.where(valid, iou(boxes, truth), -1),
            distance=np.where(valid, distance, np.inf),
            counts={"invalid truth": int((~valid).sum())},
        )


class Got10kLasot(OnePass):
    """Frames whose true box has a NaN do not count at all; an empty one is a box like any other."""

    name = "got10k_lasot"
    about = (
        "IoU > t at 21 thresholds; centre error ≤ 20 px, or ≤ 0.20 of the target; first frame replaced by "
        "the truth; frames with NaN truth leave the denominator; mean over sequences"
    )

    def errors(self, boxes: Boxes, sequence: Tracked) -> Errors:
        valid = ~missing_numbers(sequence.truth)
        truth = sequence.truth[valid]
        boxes = first_from_truth(boxes, sequence.truth)[valid]
        distance, normalised = centre_errors(boxes, truth)
        return Errors(
            frames=len(truth),
            overlap=iou(boxes, truth),
            distance=distance,
            normalised=normalised,
            counts={"invalid truth": int((~valid).sum())},
        )


class Got10k(OnePass):
    """AO, the mean IoU, and SR, the share of frames above 0.5 and 0.75, pooled over all frames that count.

    Both boxes are cut to the image. The success curve has 101 thresholds.
    """

    name = "got10k"
    about = (
        "mean IoU of all frames of all sequences, boxes cut to the image; first frames and frames with "
        "nothing visible (cover 0) or no annotation excluded"
    )
    _THRESHOLDS = np.arange(101) / 100

    def errors(self, boxes: Boxes, sequence: Tracked) -> Errors:
        width, height = frame_size(sequence)
        counts = ~missing_numbers(sequence.truth)
        counts[:1] = False
        missing = int((~counts[1:]).sum())
        if sequence.cover is not None:
            counts &= sequence.cover > 0
        overlap = iou(inside(boxes, width, height), inside(sequence.truth, width, height))
        overlap = np.nan_to_num(overlap[counts], nan=0.0)
        covered = len(boxes) - 1 - missing - len(overlap)
        return Errors(len(overlap), overlap, counts={"covered": covered, "invalid truth": missing})

    def combine(self, judged: Mapping[str, Judged], sequences: Sequence[Tracked]) -> Judged:
        """All frames alike, whatever sequence they are of."""
        return self.pool(chosen(judged, sequences))

    def curves(self, errors: Errors) -> dict[str, Curve]:
        return {c.SUCCESS: c.success(errors.overlap, errors.frames, self._THRESHOLDS)}

    def means(self, errors: Errors) -> dict[str, float]:
        return {"AO": 100 * float(errors.overlap.mean()) if errors.frames else float("nan")}

    def values(self, curves: Mapping[str, Curve]) -> dict[str, float]:
        return {"SR at 0.5": c.at(curves[c.SUCCESS], 0.5), "SR at 0.75": c.at(curves[c.SUCCESS], 0.75)}
