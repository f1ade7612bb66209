"""Frames one after the other: a folder of images, a video or a camera."""

import itertools
import re
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.decode import EncodedVideo, decode_image
from mmssl.stream.video import VideoReader, open_video

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
BLOCK = 16
"""Frames of a video that are decoded at once: backwards, each block starts at a keyframe before it."""


class Frames(ABC):
    """A sequence whose frames are decoded when they are asked for, from any thread."""

    name: str
    """What messages call it."""
    rate: float = 25.0
    """Frames a second; what a film of them is played at where nothing says more."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, number: int) -> Tensor:
        """(3, H, W) uint8 sRGB, frame ``number`` from 0, a view of (H, W, 3) memory.

        Raises:
            MmsslError: it is missing or does not decode; names the file.
        """

    def walk(self, numbers: Iterable[int]) -> Iterator[Tensor]:
        """The frames with these numbers, in this order. Forward is the fast way; backward works."""
        return map(self.__getitem__, numbers)


class ImageFiles(Frames):
    """Images on disk, in this order; grey and 16-bit ones become three channels of 8 bits.

    They need not be of one size.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.paths = tuple(paths)
        self.name = name

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        path = self.paths[number]
        try:
            return decode_image(path.read_bytes())
        except FileNotFoundError as error:
            raise MmsslError(f"{path}: no such frame; expected frame {number} of {self.name}") from error
        except (OSError, ValueError) as error:
            raise MmsslError(f"{path}: frame {number} of {self.name} cannot be read: {error}") from error


class VideoFrames(Frames):
    """The frames of an open video."""

    def __init__(self, video: VideoReader, name: str) -> None:
        self.video = video
        self.name = name
        self.rate = len(video) / video.duration if video.duration > 0 else Frames.rate
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, number: int) -> Tensor:
        return self._read([number])[0]

    def walk(self, numbers: Iterable[int]) -> Iterator[Tensor]:
        rest = iter(numbers)
        while block := list(itertools.islice(rest, BLOCK)):
            yield from self._read(block)

    def _read(self, numbers: list[int]) -> Tensor:
        with self._lock:
            try:
                return self.video.read(np.array(numbers))
            except ValueError as error:
                of = f"frame {numbers[0]}" if len(numbers) == 1 else f"frames {numbers[0]} to {numbers[-1]}"
                raise MmsslError(f"{self.name}: {of} cannot be read: {error}") from error


class Camera(Frames):
    """What a camera sees from now on. It has no end, and no frame can be had again.

    Raises:
        MmsslError: there is no such camera, or it is in use.
    """

    def __init__(self, index: int) -> None:
        self.name = f"camera {index}"
        self._camera: Any = cv2.VideoCapture(index)
        if not self._camera.isOpened():
            raise MmsslError(f"{self.name}: cannot be opened; expected the number of a connected camera")
        self.rate = self._camera.get(cv2.CAP_PROP_FPS) or Frames.rate
        self._taken = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The largest number there is."""
        return sys.maxsize

    def __getitem__(self, number: int) -> Tensor:
        with self._lock:
            if number < self._taken:
                raise MmsslError(f"{self.name}: frame {number} has passed; expected {self._taken} or later")
            while self._taken <= number:
                seen, pixels = self._camera.read()
                if not seen:
                    raise MmsslError(f"{self.name}: no frame after {self._taken}; is it connected?")
                self._taken += 1
        return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1])).permute(2, 0, 1)


def open_frames(source: str | Path | int) -> Frames:
    """The frames of a video file, of a folder of images (in natural order: 2 before 10) or of a camera.

    Args:
        source: a path, or a camera's number, also as text; a path that exists comes first.

    Raises:
        MmsslError: nothing there, a folder without images, not a video, or no such camera.
    """
    path = Path(str(source))
    if path.is_dir():
        folder = path.resolve()
        return ImageFiles(_images(path), folder.parent.name if folder.name == "img" else folder.name)  # OTB
    if path.is_file():
        try:
            return VideoFrames(open_video(EncodedVideo(path.read_bytes(), path.suffix[1:])), str(path))
        except (OSError, ValueError) as error:
            raise MmsslError(f"{path}: {error}; expected a video or a folder of images") from error
    if str(source).isdecimal():
        return Camera(int(str(source)))
    raise MmsslError(f"{path}: no such file; expected a video, a folder of images or a camera's number")


def _images(folder: Path) -> list[Path]:
    found = [
        path for path in folder.iterdir() if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    ]
    if not found:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
        hint = f"; is it one of its folders: {', '.join(inside[:4])}?" if inside else ""
        raise MmsslError(f"{folder}: no images; expected {', '.join(sorted(IMAGES))}{hint}")
    return sorted(found, key=lambda path: [_natural(part) for part in re.split(r"(\d+)", path.name)])


def _natural(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (-1, part)
