"""Views of videos: chosen frames, all cut out alike, so that only time differs between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.stream.clips.base import Sampler, Timeline
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import open_video
from mmssl.stream.views.base import View
from mmssl.stream.views.centre import CentreCrop
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.photometric import normalise


@dataclass(frozen=True)
class Shown:
    """The frames of one sample, as ``read`` gives them."""

    frames: Tensor
    """(T, 3, size, size) uint8."""
    times: NDArray[np.float64]
    """(T,) seconds: when the frames that are shown had appeared, whatever moments were asked for."""


class ClipView(View):
    """``frames`` (B, T, 3, size, size) float32, normalised, and ``times`` (B, T) float64 in seconds.

    The frames are decoded, cut and resized one sample at a time in ``read``: whole videos never lie in memory
    side by side. Without an augmentation every frame is cut in its centre.

    Args:
        sampler: which moments.
        size: in pixels.
        mean, std: the encoder's statistics, for frames in 0..1.
    """

    optional = ("meta",)

    def __init__(
        self,
        sampler: Sampler,
        size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        field: str = "video",
    ) -> None:
        self.fields = (field,)
        self.sampler = sampler
        self.size = size
        self.mean, self.std = mean, std
        self._centre = CentreCrop(size, mean, std, resize=size)

    def read(self, sample: Sample, draws: Draws) -> Shown:
        field = self.fields[0]
        meta = sample["meta"] if "meta" in sample else {}
        try:
            with open_video(sample[field]) as video:
                timeline = Timeline(video.times, video.duration, meta)
                numbers = timeline.frames_at(self.sampler.moments(timeline, draws))
                frames = self._cut(video.read(numbers), draws)
        except ValueError as error:
            raise Unreadable(field, str(error)) from error
        return Shown(frames, video.times[numbers])

    def _cut(self, frames: Tensor, draws: Draws) -> Tensor:
        """(T, 3, H, W) uint8 to (T, 3, size, size) uint8."""
        return self._centre.prepare(list(frames), draws)

    def prepare(self, items: Sequence[Shown], draws: Draws) -> dict[str, Tensor]:
        return {
            "frames": torch.stack([item.frames for item in items]),
            "times": torch.from_numpy(np.stack([item.times for item in items])),
        }

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        return {"frames": normalise(x["frames"], self.mean, self.std), "times": x["times"]}
