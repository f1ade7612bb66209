"""Crops of a few frames of a video around something that nobody has named: what trackers learn from."""

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Sampler
from mmssl.stream.sample import Sample
from mmssl.stream.video import VideoReader
from mmssl.stream.video.base import Box
from mmssl.stream.views.base import View
from mmssl.stream.views.clip import chosen_frames
from mmssl.stream.views.crops import warp
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.photometric import normalise
from mmssl.stream.views.tracklet import most_textured, tracklet

Start = Literal["centre", "anywhere", "textured"]
SHARE = 6
"""The box is a sixth of the frame in each direction (UDT, CVPR 2019, section 3.4)."""

Floats = NDArray[np.float64]


class TrackedCrops(View):
    """(B, T, 3, size, size) float32, normalised: T frames, each cut out around one box.

    ``centre``: the box, W / 6 × H / 6, stays in the middle of the frame (UDT). ``anywhere``: it stays on a
    place that is drawn, uniform among those whose crop lies within the frame: a few videos show more of what
    there is that way. ``textured``: it starts on the most textured place of the first frame, and a
    correlation filter follows it through every frame up to the last (LUDT). The crop is 1 + padding times
    the box and is stretched to a square.

    Each crop is cut out in ``read``, from the part of a frame that it needs: frames of one batch differ in
    size, and bilinear interpolation of bytes is several times faster than of a padded float batch.

    Args:
        sampler: which moments, ascending.
        size: of the crops, in pixels.
        mean, std: the encoder's statistics, for frames in 0..1.
        padding: context around the box, in its widths and heights.
        start: where the box is.
        field: the video.

    Raises:
        MmsslError: a size below 1 or a padding below 0.
    """

    optional = ("meta",)

    def __init__(
        self,
        sampler: Sampler,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        padding: float = 2.0,
        start: Start = "centre",
        field: str = "video",
    ) -> None:
        if size < 1 or not padding >= 0:
            raise MmsslError(f"tracked crops: size {size}, padding {padding}; expected at least 1 and 0")
        self.fields = (field,)
        self.sampler = sampler
        self.size, self.padding, self.start = size, padding, start
        self.mean, self.std = mean, std

    def read(self, sample: Sample, draws: Draws) -> Tensor:
        """(T, 3, size, size) uint8."""
        with chosen_frames(sample, self.fields[0], self.sampler, draws) as (video, numbers):
            led = self.start == "textured"
            crops = self._led(video, numbers) if led else self._still(video, numbers, draws)
        return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()

    def _still(self, video: VideoReader, numbers: NDArray[np.int64], draws: Draws) -> NDArray[np.uint8]:
        frame = np.array([video.width, video.height])
        window = frame / SHARE * (1 + self.padding)
        centre = (frame - 1) / 2
        if self.start == "anywhere":
            centre = centre + np.maximum(frame - window, 0) * (draws.uniform("place", 2)[0] - 0.5)
        box = needed(centre, window, video)
        frames = video.read(numbers, box).permute(0, 2, 3, 1).numpy()
        centre = centre - np.array([box[1], box[0]])
        return np.stack([warp(frame, centre, window, self.size) for frame in frames])

    def _led(self, video: VideoReader, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        first = int(numbers[0])
        frames = video.read(np.arange(first, numbers[-1] + 1)).permute(0, 2, 3, 1).numpy()
        size = np.array([video.width, video.height]) / SHARE
        window = size * (1 + self.padding)
        grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
        start = most_textured(cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY), size)
        centres = list(tracklet(grey, start, size))
        return np.stack([warp(frames[n], centres[n], window, self.size) for n in numbers - first])

    def prepare(self, items: Sequence[Tensor], draws: Draws) -> Tensor:
        return torch.stack(list(items))

    def finish(self, x: Any, draws: Draws) -> Tensor:
        return normalise(x, self.mean, self.std)


def needed(centre: Floats, window: Floats, video: VideoReader) -> Box:
    """The whole pixels of a frame that a window (width, height) around (x, y) is interpolated from."""
    frame = np.array([video.width, video.height])
    first = np.clip(np.floor(centre - window / 2), 0, frame - 1).astype(int)
    last = np.clip(np.ceil(centre + window / 2), 0, frame - 1).astype(int)
    (left, top), (width, height) = first.tolist(), (last - first + 1).tolist()
    return top, left, height, width
