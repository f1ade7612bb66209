"""TrackingNet's development kit (Müller et al., ECCV 2018)."""

from collections.abc import Mapping

import numpy as np

from mmssl.evaluate.tracking.protocol import Curve
from mmssl.evaluate.tracking.protocols import curves as c
from mmssl.evaluate.tracking.protocols.one_pass import (
    Errors,
    OnePass,
    centre_errors,
    first_from_truth,
    is_box,
)
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.tracking.boxes import Boxes, iou


class TrackingNet(OnePass):
    """Boxes rounded to whole pixels (halves to even), an overlap that reaches the threshold counts, areas by
    the trapezoidal rule over 21 thresholds each: perfect tracking scores 100."""

    name = "trackingnet"
    about = (
        "boxes rounded; IoU ≥ t, centre error ≤ 0, 2.5 … 50 px and ≤ 0, 0.025 … 0.5 of the target, "
        "21 thresholds each, areas by the trapezoidal rule; "
        "first frame replaced by the truth; mean over sequences"
    )
    _PIXELS = np.linspace(0, 50, 21)
    _RELATIVE = np.arange(21) / 40

    def errors(self, boxes: Boxes, sequence: Sequence) -> Errors:
        truth = np.round(sequence.truth)
        boxes = first_from_truth(np.round(boxes), truth)
        valid = is_box(truth)
        distance, normalised = centre_errors(boxes, truth)
        return Errors(
            frames=len(truth),
            overlap=np.where(valid, iou(boxes, truth), np.nan),
            distance=distance,
            normalised=normalised,
            counts={"invalid truth": int((~valid).sum())},
        )

    def curves(self, errors: Errors) -> dict[str, Curve]:
        assert errors.distance is not None
        assert errors.normalised is not None
        return {
            c.SUCCESS: c.success(errors.overlap, errors.frames, ties=True),
            c.PRECISION: c.precision(errors.distance, errors.frames, self._PIXELS),
            c.NORMALISED: c.normalised_precision(errors.normalised, errors.frames, self._RELATIVE),
        }

    def values(self, curves: Mapping[str, Curve]) -> dict[str, float]:
        return {
            "success AUC": c.trapezoid(curves[c.SUCCESS]),
            "precision AUC": c.trapezoid(curves[c.PRECISION]),
            "normalised precision AUC": c.trapezoid(curves[c.NORMALISED]),
        }
