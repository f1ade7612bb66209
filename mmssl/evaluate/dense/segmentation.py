"""Which class does a pixel belong to? Mean intersection over union from one confusion matrix."""

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Score
from mmssl.evaluate.dense.heads import Fitted, Gallery, SoftmaxFit, softmax
from mmssl.evaluate.dense.measures import (
    Confusion,
    class_iou,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
)
from mmssl.evaluate.dense.probe import Dense, DenseConfig
from mmssl.evaluate.dense.view import Truth
from mmssl.evaluate.resample import bootstrap
from mmssl.evaluate.tables import Table, write_table
from mmssl.modalities import IGNORED

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class SegmentationConfig(DenseConfig):
    """Semantic segmentation by a head on frozen feature maps."""

    name: Literal["segmentation"] = "segmentation"
    field: str = "segmentation"
    """A segmentation whose classes the manifest lists, the background among them where it counts as one."""
    linear: SoftmaxFit = SoftmaxFit()
    """How a linear head is fitted."""


class Segmentation(Dense):
    """mIoU, pixel accuracy and mean class accuracy; each class in ``tables/segmentation.json``."""

    Config = SegmentationConfig

    def truth(self, subject: "Subject") -> Truth:
        self.names = subject.classes.get(self.config.field, [])
        if not self.names:
            raise MmsslError(
                f"shard set {subject.manifest.name!r}: classes: {self.config.field}: missing; expected the "
                "names of the classes, in the order of their ids"
            )
        self.outputs = len(self.names)
        return Truth(self.config.field, classes=self.outputs)

    def linear(self, gallery: Gallery, train: Tensor, held_out: Tensor, generator: torch.Generator) -> Fitted:
        return softmax(gallery, train, held_out, self.outputs, self.config.linear, self.judge, generator)

    def loss(self, answers: Tensor, truth: Tensor) -> Tensor:
        return cross_entropy(answers, truth[:, 0].long())

    def judge(self, answers: Tensor, truth: Tensor) -> float:
        """1 - mIoU; a hundredth of the cross-entropy decides between heads that are nearly as good."""
        confusion = Confusion(self.outputs)
        confusion.add(answers.argmax(1), truth[:, 0])
        return 1 - float(mean_iou(confusion.counts)) + 0.01 * float(self.loss(answers, truth))

    def blind(self, truth: Tensor) -> Tensor:
        """The logarithms of the classes' shares."""
        counts = torch.bincount(truth[:, 0].long(), minlength=self.outputs).float()
        return ((counts + 1) / (counts + 1).sum()).log()

    def begin(self, gallery: Gallery) -> None:
        self.confusion, self.guess = Confusion(self.outputs), Confusion(self.outputs)
        self.commonest = self.blind(gallery.truth.flatten(0, 1)).argmax().cpu()

    def compare(self, answers: Tensor, truth: Tensor) -> None:
        self.confusion.add(answers.argmax(0), truth[0])
        self.guess.add(self.commonest.expand(truth.shape[1]), truth[0])

    def drawn(self, answers: Tensor) -> Tensor:
        return answers.argmax(0, keepdim=True).to(torch.uint8).cpu()

    def scores(self, subject: "Subject", evaluation: str, protocol: str) -> list[Score]:
        counts = self.confusion.counts
        true = counts[2]
        absent = [name for name, pixels in zip(self.names, true.tolist(), strict=True) if not pixels]
        protocol = (
            f"{protocol}; one confusion matrix of {int(true.sum())} pixels, id {IGNORED} ignored, means over "
            f"{self.outputs - len(absent)} classes"
            + (f" (absent and left out: {', '.join(absent)})" if absent else "")
            + f"; chance says {self.names[int(self.commonest)]} everywhere; 95 % over pictures"
        )
        self._write(subject, protocol)
        metrics = {"mIoU": mean_iou, "pixel accuracy": pixel_accuracy, "mean class accuracy": mean_accuracy}
        found = []
        for metric, of in metrics.items():
            resampled = bootstrap(self.confusion.images, of, subject.seed)
            found.append(
                Score(
                    evaluation,
                    metric,
                    100 * float(of(counts)),
                    "%",
                    protocol,
                    chance=100 * float(of(self.guess.counts)),
                    ceiling=100.0,
                    interval=None if resampled is None else resampled.percent,
                )
            )
        return found

    def _write(self, subject: "Subject", protocol: str) -> None:
        counts = self.confusion.counts
        right, predicted, true = counts.tolist()
        iou = class_iou(counts).tolist()
        total = sum(true)
        rows = [
            [
                name,
                None if math.isnan(iou[k]) else 100 * iou[k],
                100 * right[k] / true[k] if true[k] else None,
                100 * true[k] / total,
                100 * predicted[k] / total,
            ]
            for k, name in enumerate(self.names)
        ]
        columns = ["class", "IoU %", "accuracy %", "of the truth %", "of the predictions %"]
        write_table(
            subject.folder, self.config.name, Table("Segmentation, class by class", columns, rows, protocol)
        )
