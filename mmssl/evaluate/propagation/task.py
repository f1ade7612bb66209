"""What is carried through videos, and how it is judged: masks, joints, boxes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from mmssl.config import Config
from mmssl.evaluate.propagation.maps import Size
from mmssl.evaluate.propagation.propagate import Rule
from mmssl.tracking.frames import Frames, ImageFiles

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

Answers = NDArray[Any]
"""Of a video: masks (T, H, W) uint8, 0 = background, or joints (T, J, 2) float64 x, y in pixels, NaN = lost.
"""


@dataclass(frozen=True)
class Video:
    """Frames, and what is true of them."""

    name: str
    frames: Frames
    size: Size
    """Height and width of the truth, which is the frames' own."""
    truth: Answers
    """Of every frame; the first one is given to whoever is asked."""
    labels: int
    """L, with the background."""

    @property
    def names(self) -> list[str]:
        """Of its frames: those of their files, or numbers."""
        if isinstance(self.frames, ImageFiles):
            return [path.stem for path in self.frames.paths]
        return [f"{number:05}" for number in range(len(self.frames))]


@dataclass(frozen=True)
class Value:
    """One number over all videos."""

    metric: str
    value: float
    """In per cent; NaN where nothing could be judged."""
    better: Literal["higher", "lower"] = "higher"
    headline: bool = False


class DataConfig(Config):
    """Where a benchmark lies, and at what size its frames are seen; ``kind`` selects it."""

    side: PositiveInt | None
    """Pixels of the shorter side that frames are resized to; None: as they are."""
    cell: PositiveInt = 8
    """Pixels of the resized frame a side; finer maps are averaged, coarser ones stay (see ``Maps``)."""
    square: ClassVar[bool] = False
    """Frames are stretched to squares."""

    @abstractmethod
    def task(self, subject: "Subject") -> "Task":
        """The benchmark; ``subject`` is who is asked, and has a shard set of its own."""


class Task(ABC):
    """A benchmark: its videos, and what it says of answers to them."""

    name: str
    """Part of every score's name: ``davis2017``."""
    about: str
    """For the protocol: what is judged, on which frames, how it is averaged."""

    @abstractmethod
    def __iter__(self) -> Iterator[Video]:
        """One video after the other; nothing of the next is read before it is asked for."""

    @abstractmethod
    def maps(self, answer: NDArray[Any], video: Video, grid: Size, rule: Rule) -> Tensor:
        """Labels (L, h, w) float32 of the cells of a frame with that answer."""

    @abstractmethod
    def answer(self, maps: Tensor, video: Video, size: Size, rule: Rule) -> NDArray[Any]:
        """What maps (L, h, w) of a frame that had been resized to ``size`` say."""

    @abstractmethod
    def judge(self, answers: Answers, video: Video) -> dict[str, Any]:
        """What is kept of one video for ``combine``, as JSON holds it."""

    @abstractmethod
    def combine(self, judged: Mapping[str, dict[str, Any]]) -> list[Value]:
        """Over all videos, by name; the first value is the headline."""


class Masks(Task):
    """Tasks whose answers are masks of labels."""

    def maps(self, answer: NDArray[Any], video: Video, grid: Size, rule: Rule) -> Tensor:
        labels = torch.from_numpy(np.minimum(answer, video.labels).astype(np.int64))
        one_hot = F.one_hot(labels, video.labels + 1)[..., : video.labels].permute(2, 0, 1).float()
        return F.interpolate(one_hot[None], grid, mode=rule.shrink)[0]

    def answer(self, maps: Tensor, video: Video, size: Size, rule: Rule) -> NDArray[Any]:
        """Enlarged bilinearly to the frame, then the label of the highest value; ties go to the first."""
        large = F.interpolate(maps[None], video.size, mode="bilinear")[0]
        if rule.stretch:
            low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
            large = torch.where(high > 0, (large - low) / (high - low).clamp_min(1e-12), large)
        return large.cpu().numpy().argmax(axis=0).astype(np.uint8)  # torch's takes seven times as long
