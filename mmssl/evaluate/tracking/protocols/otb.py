"""OTB's own scoring (Wu, Lim, Yang, CVPR 2013 and PAMI 2015), as its Python toolkit computes it."""

import numpy as np

from mmssl.evaluate.tracking.protocols.one_pass import (
    Errors,
    OnePass,
    centre_errors,
    first_from_truth,
    positive,
)
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.tracking.boxes import Boxes, iou


class Otb(OnePass):
    """OPE, and TRE and SRE when ``pool`` has put the runs of each sequence together.

    A true box is valid where the numbers of its line, counted from 1, are all above 0. An invalid one gets
    the overlap −1 and the centre error −1: a miss for success, but a hit for precision. Centre errors are
    rounded to 4 decimals, so that one of 20.00004 px still is within 20.
    """

    name = "otb"
    about = (
        "mean over 21 thresholds of the share of frames with IoU > t; centre error ≤ 20 px; first frame "
        "replaced by the truth; invalid truth misses in success and hits in precision; mean over sequences"
    )

    def errors(self, boxes: Boxes, sequence: Sequence) -> Errors:
        truth = sequence.truth
        boxes = first_from_truth(boxes, truth)
        valid = positive(truth)
        distance, _ = centre_errors(boxes, truth)
        return Errors(
            frames=len(truth),
            overlap=np.where(valid, iou(boxes, truth), -1),
            distance=np.where(valid, np.round(distance, 4), -1),
            counts={"invalid truth": int((~valid).sum())},
        )
