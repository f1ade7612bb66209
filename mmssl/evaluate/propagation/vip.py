"""VIP: 20 classes of clothes and body parts carried through videos of people, mIoU.

Zhou et al., "Adaptive Temporal Encoding Network for Video Instance-level Human Parsing" (ACM MM 2018).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from mmssl.evaluate.propagation.files import chosen, images, read_masks
from mmssl.evaluate.propagation.task import Answers, DataConfig, Masks, Value, Video
from mmssl.evaluate.tracking.text import read_names
from mmssl.tracking.frames import ImageFiles

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

CLASSES = 20
"""With the background; what a mask has beyond them is judged as nothing at all."""


class VipConfig(DataConfig):
    """``Images/SEQ/*.jpg``, ``Annotations/Category_ids/SEQ/*.png`` and ``lists/val_videos.txt``."""

    kind: Literal["vip"] = "vip"
    root: str
    split: str = "val"
    sequences: tuple[str, ...] = ()
    """Some of them; empty = all."""
    side: PositiveInt | None = 560
    square: ClassVar[bool] = True

    def task(self, subject: "Subject") -> "Vip":
        return Vip(self)


class Vip(Masks):
    """mIoU of one histogram over all videos."""

    name = "vip"

    def __init__(self, config: VipConfig) -> None:
        self.root = Path(config.root)
        path = self.root / "lists" / f"{config.split}_videos.txt"
        self.sequences = chosen(read_names(path, "a list, one entry a line"), config.sequences, path)
        self.about = (
            f"VIP, {len(self.sequences)} videos; IoU of each of {CLASSES} classes, the background too, from "
            "one histogram over all frames, mean over the classes that occur; the first frame, which is "
            "given, is left out, or counted where the metric says so, as in the common evaluation"
        )

    def __iter__(self) -> Iterator[Video]:
        for name in self.sequences:
            frames = images(self.root / "Images" / name, ".jpg", ".jpeg", ".png")
            folder = self.root / "Annotations" / "Category_ids" / name
            truth = read_masks(folder, frames)
            size = (truth.shape[1], truth.shape[2])
            yield Video(name, ImageFiles(frames, name), size, truth, CLASSES)

    def judge(self, answers: Answers, video: Video) -> dict[str, Any]:
        """(20, 20) pixels by true and found class, of the first frame and of the others."""
        return {
            "first": histogram(video.truth[:1], answers[:1]).tolist(),
            "later": histogram(video.truth[1:], answers[1:]).tolist(),
        }

    def combine(self, judged: Mapping[str, dict[str, Any]]) -> list[Value]:
        first, later = (
            np.sum([video[part] for video in judged.values()], axis=0) for part in ("first", "later")
        )
        return [
            Value("mIoU", 100 * mean_iou(later), headline=True),
            Value("mIoU with first frames", 100 * mean_iou(first + later)),
        ]


def histogram(truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(20, 20) pixels of equal shapes by true class, row, and class found, column."""
    known = truth < CLASSES
    pairs = CLASSES * truth[known].astype(np.int64) + found[known]
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Of a histogram: mean over the classes that are true or found somewhere; NaN where there is no pixel."""
    shared = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - shared
    occurs = union > 0
    return float((shared[occurs] / union[occurs]).mean()) if occurs.any() else float("nan")
