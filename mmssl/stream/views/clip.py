"""Views of videos: chosen frames, all cut out alike, so that only time differs between them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Sampler, Timeline
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import VideoReader, open_video
from mmssl.stream.views.base import View
from mmssl.stream.views.clip_augmentation import ClipAugmentation
from mmssl.stream.views.crops import draw_crops, draw_flips, resize_frames
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.photometric import normalise

__all__ = ["ClipAugmentation", "ClipView", "Shown", "chosen_frames"]


@dataclass(frozen=True)
class Shown:
    """The frames of one sample, as ``read`` gives them."""

    frames: Tensor
    """(T, 3, size, size) uint8."""
    times: NDArray[np.float64]
    """(T,) seconds: when the frames that are shown had appeared, whatever moments were asked for."""


@contextmanager
def chosen_frames(
    sample: Sample, field: str, sampler: Sampler, draws: Draws
) -> Iterator[tuple[VideoReader, NDArray[np.int64]]]:
    """The open video of a sample and the numbers (T,) of the frames that ``sampler`` chooses of it.

    Raises:
        Unreadable: the video cannot be opened, or what is done with it finds that it does not decode.
    """
    meta = sample.meta
    try:
        with open_video(sample[field]) as video:
            timeline = Timeline(video.times, video.duration, meta)
            yield video, timeline.frames_at(sampler.moments(timeline, draws))
    except ValueError as error:
        raise Unreadable(field, str(error)) from error


class ClipView(View):
    """``frames`` (B, T, 3, size, size) float32, normalised, and ``times`` (B, T) float64 in seconds.

    The frames are decoded, cut and resized one sample at a time in ``read``: whole videos never lie in memory
    side by side. All frames of a sample are cut alike: between them, nothing but time moves.

    Args:
        sampler: which moments.
        size: in pixels.
        mean, std: the encoder's statistics, for frames in 0..1.
        augmentation: random crop, flip and colours; None is the largest square in the centre, unchanged.
        field: the video, or one camera of several.

    Raises:
        MmsslError: a size below 1.
    """

    optional = ("meta",)

    def __init__(
        self,
        sampler: Sampler,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augmentation: ClipAugmentation | None = None,
        field: str = "video",
    ) -> None:
        if size < 1:
            raise MmsslError(f"clip view: size {size}; expected at least 1")
        self.fields = (field,)
        self.sampler = sampler
        self.size = size
        self.mean, self.std = mean, std
        self.augmentation = augmentation

    def read(self, sample: Sample, draws: Draws) -> Shown:
        with chosen_frames(sample, self.fields[0], self.sampler, draws) as (video, numbers):
            return Shown(self._cut(video, numbers, draws), video.times[numbers])

    def _cut(self, video: VideoReader, numbers: NDArray[np.int64], draws: Draws) -> Tensor:
        """(T, 3, size, size) uint8: these frames of the video, all of them cut out alike."""
        if self.augmentation is None:
            side = min(video.height, video.width)
            box = ((video.height - side) // 2, (video.width - side) // 2, side, side)
            return resize_frames(video.read(numbers, box), self.size, flip=False, kernel="bicubic")
        sizes = np.array([[video.height, video.width]])
        crops = draw_crops(draws, sizes, self.augmentation.scale, self.augmentation.ratio)
        top, left, height, width = crops[0].tolist()
        flip = bool(draw_flips(draws, self.augmentation.flip)[0])
        return resize_frames(video.read(numbers, (top, left, height, width)), self.size, flip)

    def prepare(self, items: Sequence[Shown], draws: Draws) -> dict[str, Tensor]:
        return {
            "frames": torch.stack([item.frames for item in items]),
            "times": torch.from_numpy(np.stack([item.times for item in items])),
        }

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        if self.augmentation is None:
            return {"frames": normalise(x["frames"], self.mean, self.std), "times": x["times"]}
        return {
            "frames": self.augmentation.changed(x["frames"], draws, self.mean, self.std),
            "times": x["times"],
        }
