"""How maps are compared with the truth. Images come one by one; what is kept is small."""

import math

import torch
from torch import Tensor

DEPTHS = ("AbsRel", "RMSE", "log10", "SILog", "δ<1.25", "δ<1.25²", "δ<1.25³")
NEAREST = 1e-3
"""Metres; predicted depths are at least so large."""
ANGLES = (11.25, 22.5, 30.0)
"""Degrees (Fouhey et al., "Data-Driven 3D Primitives for Single Image Understanding", ICCV 2013)."""
_BIN = 0.01
"""Degrees; the median of angles is exact to this."""


class Confusion:
    """One confusion matrix over all pixels of all images.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        self.matrix = torch.zeros(classes, classes, dtype=torch.int64)
        """(true, predicted) pixels."""
        self._images: list[Tensor] = []

    def add(self, predicted: Tensor, truth: Tensor) -> None:
        """Class ids 0..K-1 of the known pixels of one image, (n,) integers each."""
        classes = len(self.matrix)
        found = torch.bincount(truth.long() * classes + predicted.long(), minlength=classes**2)
        found = found.view(classes, classes).cpu()
        self.matrix += found
        self._images.append(_counts(found))

    @property
    def counts(self) -> Tensor:
        """(3, K) float64 pixels: rightly predicted, predicted, true."""
        return _counts(self.matrix)

    @property
    def images(self) -> Tensor:
        """(M, 3, K): ``counts`` of every image; they add up to those of all."""
        return torch.stack(self._images)


def _counts(matrix: Tensor) -> Tensor:
    return torch.stack([matrix.diagonal(), matrix.sum(0), matrix.sum(1)]).double()


def class_iou(counts: Tensor) -> Tensor:
    """(…, K) intersection over union from counts (…, 3, K); NaN for classes that no true pixel has."""
    right, predicted, true = counts.unbind(-2)
    return torch.where(true > 0, right / (predicted + true - right), math.nan)


def mean_iou(counts: Tensor) -> Tensor:
    """(…,): the mean over the classes that are there."""
    return class_iou(counts).nanmean(-1)


def mean_accuracy(counts: Tensor) -> Tensor:
    """(…,): the mean over the classes that are there of the share of their pixels that is found."""
    return (counts[..., 0, :] / counts[..., 2, :]).nanmean(-1)


def pixel_accuracy(counts: Tensor) -> Tensor:
    """(…,): the share of all pixels that is right."""
    return counts[..., 0, :].sum(-1) / counts[..., 2, :].sum(-1)


def depth_errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """The errors of one image's known pixels, in the order of ``DEPTHS``; (7,) float64.

    As Eigen, Puhrsch and Fergus define them ("Depth Map Prediction from a Single Image", NeurIPS 2014,
    section 4.1), log10 as Saxena et al. (Make3D, TPAMI 2009) and SILog as KITTI's depth benchmark: a
    hundred times the standard deviation of ln(prediction) - ln(truth).

    Args:
        predicted: (n,) metres > 0.
        truth: (n,) metres > 0.
    """
    p, t = predicted.double(), truth.double()
    off = p.log() - t.log()
    ratio = off.abs().exp()
    return torch.stack(
        [
            ((p - t).abs() / t).mean(),
            (p - t).square().mean().sqrt(),
            off.abs().mean() / math.log(10),
            100 * off.std(correction=0),
            *((ratio < 1.25**power).double().mean() for power in (1, 2, 3)),
        ]
    ).cpu()


class Angles:
    """Angles between predicted and true directions, over all pixels of all images."""

    def __init__(self) -> None:
        self._bins = torch.zeros(round(180 / _BIN) + 1, dtype=torch.int64)
        self._images: list[Tensor] = []

    def add(self, predicted: Tensor, truth: Tensor) -> None:
        """Vectors of any length > 0 and unit vectors (n, 3) of the known pixels of one image."""
        found = degrees(predicted, truth).cpu()
        self._bins += torch.bincount((found / _BIN).round().long(), minlength=len(self._bins))
        below = [(found < angle).double().sum() for angle in ANGLES]
        self._images.append(torch.stack([found.sum(), *below, found.new_tensor(len(found))]))

    @property
    def images(self) -> Tensor:
        """(M, 2 + len(ANGLES)) float64: of every image the sum of angles, pixels below each of ``ANGLES``,
        and pixels."""
        return torch.stack(self._images)

    @property
    def median(self) -> float:
        """Degrees, rounded to a hundredth."""
        half = self._bins.sum() / 2
        return _BIN * int((self._bins.cumsum(0) >= half).nonzero()[0])


def degrees(a: Tensor, b: Tensor) -> Tensor:
    """(…,) float64 angles between vectors (…, 3), 0..180; exact near 0, too, unlike the arc cosine."""
    a, b = a.double(), b.double()
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1)).rad2deg()
