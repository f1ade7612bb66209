"""The raw folders of NYU Depth v2 (Silberman et al., ECCV 2012): what the Kinect gave, frame by frame."""

import re
from typing import Literal

import numpy as np
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards import encode
from mmssl.shards.sources.base import BadInput
from mmssl.shards.sources.depth import Depth, check_range, pixels_of
from mmssl.shards.sources.files import Files
from mmssl.shards.sources.frames import Folders, Frame, RGBDFrames
from mmssl.shards.sources.tum import associate, unmatched

_NO_RETURN = 2047
"""The 11-bit disparity of a pixel without depth."""


class NYURaw(RGBDFrames):
    """Scenes with ``r-TIME-….ppm`` and ``d-TIME-….pgm``, images matched to the depth maps nearest in time.

    Depth is not projected into the colour camera, and lenses are not undistorted, which the toolbox of the
    data set does with its calibration: here the two are a few centimetres apart, as the sensor has them, and
    ``intrinsics`` are those of the depth camera. Images are stored as JPEG, quality 95.
    """

    kind: Literal["nyu_raw"] = "nyu_raw"
    max_gap: float = Field(default=0.04, gt=0)
    """Seconds by which an image and its depth may be apart. An image without depth counts as unreadable."""
    furthest: float = Field(default=10, gt=0)
    """Metres beyond which depth counts as missing: one step of disparity is then 0.28 m."""

    def sequences(self, folders: Folders) -> list[str]:
        found = sorted(
            folder for folder, files in folders.items() if any(_time(name, "d", "pgm") for name in files)
        )
        if not found:
            raise MmsslError(f"{self.root}: no scenes; expected folders with r-*.ppm and d-*.pgm")
        return found

    def frames(self, tree: Files, folder: str, folders: Folders) -> list[Frame]:
        files = sorted(folders[folder])
        images = sorted((time, name) for name in files if (time := _time(name, "r", "ppm")))
        depths = sorted((time, name) for name in files if (time := _time(name, "d", "pgm")))
        times = [time for time, _ in depths]
        matches = dict(associate([time for time, _ in images], times, self.max_gap))
        frames = []
        for at, (time, name) in enumerate(images):
            problem = None
            if at not in matches:
                problem = unmatched(time, times, self.max_gap)
            frames.append(
                Frame(
                    sequence=folder,
                    name=name.removesuffix(".ppm"),
                    timestamp=time,
                    image=f"{folder}/{name}",
                    depth=f"{folder}/{depths[matches[at]][1]}" if at in matches else None,
                    problem=problem,
                )
            )
        return frames

    def read_depth(self, data: bytes) -> Depth:
        metres = kinect_metres(pgm16(data))
        metres[metres > self.furthest] = 0
        check_range(metres)
        return Depth(metres.astype(np.float32))

    def read_image(self, data: bytes, size: tuple[int, int]) -> tuple[str, bytes]:
        return "image.jpg", encode.jpeg(pixels_of(data))


def kinect_metres(disparity: np.ndarray) -> np.ndarray:
    """11-bit disparity to metres: 351.3 / (1092.5 - disparity), the toolbox's depth_rel2depth_abs; 0 where
    the sensor saw nothing or the formula has no positive value."""
    known = (disparity < _NO_RETURN) & (disparity < 1092.5)
    return np.where(known, 351.3 / np.where(known, 1092.5 - disparity, 1), 0)


def pgm16(data: bytes) -> np.ndarray:
    """(H, W) uint16 of a binary PGM with 11-bit disparities.

    Netpbm says most significant byte first. What recorded NYU wrote the machine's own order under the same
    header, which is why the toolbox swaps bytes after reading; so the order is taken in which all values have
    11 bits, Netpbm's if both do.

    Raises:
        BadInput: not such a file, cut short, or neither order gives 11 bits.
    """
    header = re.match(rb"P5\s+(?:#[^\n]*\n\s*)*(\d+)\s+(\d+)\s+(\d+)\s", data[:512])
    if header is None:
        raise BadInput(f"depth is not a binary PGM (starts with {data[:8]!r})")
    width, height, most = (int(word) for word in header.groups())
    payload = data[header.end() :]
    if most <= 255 or len(payload) != 2 * width * height:
        raise BadInput(
            f"depth of {width}×{height} up to {most} with {len(payload)} bytes; expected "
            f"{2 * width * height} of 16 bits"
        )
    for order in (">u2", "<u2"):
        raw = np.frombuffer(payload, order).reshape(height, width)
        if raw.max(initial=0) <= _NO_RETURN:
            return raw.astype(np.uint16)
    raise BadInput(f"disparities up to {raw.max()}; expected 11 bits, 0..{_NO_RETURN}")


def _time(name: str, letter: str, extension: str) -> float | None:
    """Seconds in ``d-1294438672.238-2381571.pgm``; None for other files."""
    found = re.fullmatch(rf"{letter}-(\d+\.?\d*)-\d+\.{extension}", name)
    return float(found[1]) if found else None
