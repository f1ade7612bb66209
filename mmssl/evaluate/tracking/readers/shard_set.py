"""Any shard set with the fields ``video`` and ``boxes`` as a benchmark: one sequence an object."""

import threading
from collections.abc import Iterator
from typing import Literal

import numpy as np
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import BenchmarkConfig, choose, sequence
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.stream.decode import EncodedVideo
from mmssl.stream.reader import ShardReader
from mmssl.stream.sample import Unreadable
from mmssl.stream.video import VideoReader, open_video
from mmssl.tracking.frames import Frames

_RUN = 32
"""Frames decoded at once: one by one, each would be decoded from the keyframe before it on."""


class ShardSetConfig(BenchmarkConfig):
    kind: Literal["shard_set"] = "shard_set"
    root: str
    """Folder or fsspec URL that holds ``manifest.json``."""
    split: str = "val"


class ClipFrames(Frames):
    """Frames ``first`` … of a clip that is kept as bytes, opened when the first of them is asked for."""

    def __init__(self, video: EncodedVideo, name: str, first: int, count: int) -> None:
        self.video, self.name, self.first, self.count = video, name, first, count
        self._reader: VideoReader | None = None
        self._run: tuple[int, Tensor] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Tensor:
        if not 0 <= number < self.count:
            raise IndexError(f"{self.name}: frame {number}; there are {self.count}")
        start = number - number % _RUN
        with self._lock:
            if self._run is None or self._run[0] != start:
                self._run = (start, self._decode(start))
            return self._run[1][number - start]

    def _decode(self, start: int) -> Tensor:
        numbers = np.arange(start, min(start + _RUN, self.count)) + self.first
        try:
            if self._reader is None:
                self._reader = open_video(self.video)
            return self._reader.read(numbers)
        except ValueError as error:
            raise MmsslError(
                f"{self.name}: frames {numbers[0]} to {numbers[-1]} cannot be read: {error}"
            ) from error


def read_shard_set(config: ShardSetConfig) -> list[Sequence]:
    """A sequence for every object of every sample, named KEY, or KEY.1, KEY.2 … where a sample has several.

    It begins with the object's first box that has an area and ends with the clip; objects that never have one
    are left out. NaN boxes are absent.

    Raises:
        MmsslError: no such shard set or split, no such fields, a sample that cannot be read, or boxes that
            do not fit their video.
    """
    reader = ShardReader(config.root, config.split, fields={"video", "boxes"})
    reader.check()
    for field in ("video", "boxes"):
        if not reader.manifest.fields.get(field):
            known = ", ".join(sorted(reader.manifest.fields)) or "none"
            raise MmsslError(f"shard_set: {config.root}: fields: expected {field}, found {known}")
    found: dict[str, tuple[str, Sequence]] = {}
    for number in range(reader.samples):
        for read in _read(reader, number):
            found[read.name] = (reader.where(number)[1], read)
    reader.close()
    chosen = choose(config, list(found), [key for key, _ in found.values()])
    return [found[name][1] for name in chosen]


def _read(reader: ShardReader, number: int) -> Iterator[Sequence]:
    """The sequences of one sample; its bytes are held once."""
    shard, key = reader.where(number)
    where = f"shard_set: {reader.root}/{shard}: {key}"
    try:
        sample = reader.sample(number)
        boxes = sample["boxes"].double().numpy()
        stored: EncodedVideo = sample["video"]
        video = EncodedVideo(bytes(stored.data), stored.extension)
        with open_video(video) as opened:
            length, size = len(opened), (opened.width, opened.height)
    except (Unreadable, ValueError) as error:
        raise MmsslError(f"{where}: {error}") from error
    if len(boxes) != length:
        raise MmsslError(f"{where}: boxes: {len(boxes)} frames, but the video has {length}")
    for target, truth in enumerate(boxes.swapaxes(0, 1), 1):
        usable = np.isfinite(truth).all(axis=1) & (truth[:, 2:] > 0).all(axis=1)
        if usable.any():
            name = key if boxes.shape[1] == 1 else f"{key}.{target}"
            first = int(usable.argmax())
            frames = ClipFrames(video, name, first, length - first)
            absent = np.isnan(truth[first:]).any(axis=1)
            yield sequence("shard_set", name, frames, truth[first:].copy(), absent=absent, size=size)
