"""Frames one after the other: a folder of images or a video."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.decode import decode_image
from mmssl.stream.video import VideoReader


class Frames(ABC):
    """A sequence whose frames are decoded when they are asked for."""

    name: str
    """What messages call it."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, number: int) -> Tensor:
        """(3, H, W) uint8 sRGB, frame ``number`` from 0, a view of (H, W, 3) memory.

        Raises:
            MmsslError: it is missing or does not decode; names the file.
        """


class ImageFiles(Frames):
    """Images on disk, in this order; grey and 16-bit ones become three channels of 8 bits."""

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

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, number: int) -> Tensor:
        try:
            return self.video.read(np.array([number]))[0]
        except ValueError as error:
            raise MmsslError(f"{self.name}: frame {number} cannot be read: {error}") from error
