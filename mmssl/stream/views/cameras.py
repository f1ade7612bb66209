"""Videos of several cameras that run at the same time: some of them are shown at the same moments."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.draws import Draws

_BUSY = 0.9
"""Quantile of a video's motion that stands for its motion when it moves."""


@dataclass(frozen=True)
class Recorded:
    """What V cameras saw of one sample, as ``read`` gives it."""

    frames: Tensor
    """(V, T, 3, size, size) uint8."""
    times: NDArray[np.float64]
    """(V, T) seconds: when the frames that are shown had appeared."""
    sequence: int
    moving: NDArray[np.bool_]
    motion_known: bool


class CamerasView(ClipView):
    """``shown`` cameras out of all, drawn for each sample, at the same moments.

    A batch entry of B samples is a dict:

    frames        (B, V, T, 3, size, size) float32, normalised
    times         (B, V, T) float64 seconds; of segments, in the time of the whole video
    sequence      (B,) int64: equal for samples that show the same video, of which segments may overlap
    moving        (B, T) bool: the frame's ``motion`` in the metadata is at least ``gate`` times the 0.9
                  quantile of the video's; True where the metadata has no motion
    motion_known  (B,) bool: whether it has

    Each camera is cut and coloured with draws of its own; the order of the cameras is drawn as well. Moments
    lie where all shown cameras run, so the end of a longer one is not used.

    Args:
        cameras: the video fields.
        shown: V, how many of them a sample shows.
        gate: 0..1; 0 takes every moment for moving.

    Raises:
        MmsslError: fewer cameras than are to be shown, or one named twice.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        shown: int,
        sampler: Sampler,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augmentation: ClipAugmentation | None = None,
        gate: float = 0.0,
    ) -> None:
        super().__init__(sampler, size, mean, std, augmentation)
        if not 1 <= shown <= len(cameras) or len(set(cameras)) < len(cameras):
            raise MmsslError(f"cameras {', '.join(cameras)}: expected at least {shown}, each named once")
        self.fields = tuple(cameras)
        self.shown, self.gate = shown, gate

    def read(self, sample: Sample, draws: Draws) -> Recorded:  # type: ignore[override]
        meta = sample.meta
        order = draws.permutation("cameras", len(self.fields))[0, : self.shown]
        fields = [self.fields[number] for number in order]
        with ExitStack() as open_now:
            videos = [open_now.enter_context(_open(sample, field)) for field in fields]
            timeline = _common(videos, meta)
            moments = np.minimum(self.sampler.moments(timeline, draws), timeline.times[-1])
            frames, times = [], []
            for v, (field, video) in enumerate(zip(fields, videos, strict=True)):
                numbers = Timeline(video.times, video.duration).frames_at(moments)
                try:
                    frames.append(self._cut(video, numbers, draws.view(v)))
                except ValueError as error:
                    raise Unreadable(field, str(error)) from error
                times.append(video.times[numbers])
        moving, known = _moving(timeline.frames_at(moments), meta, self.gate)
        sequence, start = _whole(sample.id, meta)
        return Recorded(torch.stack(frames), np.stack(times) + start, sequence, moving, known)

    def prepare(self, items: Sequence[Recorded], draws: Draws) -> dict[str, Tensor]:  # type: ignore[override]
        return {
            "frames": torch.stack([item.frames for item in items]),
            "times": torch.from_numpy(np.stack([item.times for item in items])),
            "sequence": torch.tensor([item.sequence for item in items], dtype=torch.int64),
            "moving": torch.from_numpy(np.stack([item.moving for item in items])),
            "motion_known": torch.tensor([item.motion_known for item in items]),
        }

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        cameras = [
            super(CamerasView, self).finish({**x, "frames": x["frames"][:, v]}, draws.view(v))["frames"]
            for v in range(self.shown)
        ]
        return {**x, "frames": torch.stack(cameras, dim=1)}


def _open(sample: Sample, field: str) -> VideoReader:
    try:
        return open_video(sample[field])
    except ValueError as error:
        raise Unreadable(field, str(error)) from error


def _common(videos: Sequence[VideoReader], meta: Mapping[str, Any]) -> Timeline:
    """The timeline of the first camera, as far as all of them run."""
    duration = min(video.duration for video in videos)
    times = videos[0].times
    return Timeline(times[: max(1, int(np.searchsorted(times, duration, side="left")))], duration, meta)


def _moving(
    numbers: NDArray[np.int64], meta: Mapping[str, Any], gate: float
) -> tuple[NDArray[np.bool_], bool]:
    """(T,) whether the video moves at these frames, and whether its metadata tells."""
    motion = np.asarray(meta.get("motion") or [], dtype=np.float64)
    if not len(motion):
        return np.ones(len(numbers), dtype=np.bool_), False
    there = motion[np.minimum(numbers, len(motion) - 1)]
    busy = float(np.quantile(motion, _BUSY))
    # in a video that never moves every share of its motion is 0: all of it is static
    return (there >= gate * busy) & ((busy > 0) | (gate == 0)), True


def _whole(id_: int, meta: Mapping[str, Any]) -> tuple[int, float]:
    """Number of the video that a sample shows, and when in it the sample starts, in seconds.

    Segments of a long video may overlap: two of them in one batch must not take each other's frames for
    another moment. Their number is a hash with bit 62 set, which no sample id has.
    """
    segment = meta.get("segment")
    if not isinstance(segment, Mapping):
        return id_, 0.0
    digest = hashlib.blake2b(str(segment["of"]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2 | 1 << 62, float(segment["start"])
