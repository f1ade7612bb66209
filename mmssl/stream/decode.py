"""Encoded bytes to values, as ``mmssl.modalities`` promises; anything wrong with them is a ValueError."""

import io
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from mmssl.modalities import modality_of
from mmssl.shards.captions import read_captions
from mmssl.shards.flow.jpeg import flow_from_jpeg

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded (Pillow's own limit for decompression bombs)."""

Bytes = bytes | memoryview
Decoder = Literal["auto", "pyav", "torchcodec", "decord"]


@dataclass(frozen=True)
class EncodedVideo:
    """A clip as it is stored; a video reader opens it."""

    data: Bytes
    extension: str
    decoder: Decoder = "auto"
    """Which reader opens it; see ``mmssl.stream.video``."""


@dataclass(frozen=True)
class EncodedFlow:
    """The flow of a clip as it is stored; ``mmssl.stream.flow.open_flow`` opens it."""

    data: Bytes


def decode(field: str, extension: str, data: Bytes) -> Any:
    """Decode one field of a sample.

    Raises:
        ValueError: the bytes are empty, cut short, too large, or not what the field's name says.
    """
    if len(data) == 0:
        raise ValueError("zero bytes")
    return _DECODERS[modality_of(field).name](data, extension)


def decode_image(data: Bytes) -> Tensor:
    """(3, H, W) uint8 sRGB: a view of (H, W, 3) memory (channels last), the layout that cropping reads
    fastest.

    The content decides, not the extension. Grey images become three equal channels, transparent ones lie on
    white, 16-bit grey is cut to 8 bits, animations give their first frame. EXIF rotation is not applied.
    """
    if data[:3] == b"\xff\xd8\xff":
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(width, height)
        if colorspace not in ("CMYK", "YCCK"):
            # Strict by default: a truncated file raises instead of ending in grey.
            return torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1)
    with _open(data) as image:
        return torch.from_numpy(_to_rgb(image)).permute(2, 0, 1)


def _open(data: Bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(f"not an image that Pillow knows (starts with {bytes(data[:8])!r})") from error
    _check_size(*image.size)
    return image


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels; expected at most {MAX_PIXELS} (a decompression bomb?)")


def _to_rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, writable."""
    try:
        image.load()
    except (OSError, SyntaxError) as error:  # Pillow's PNG reader raises SyntaxError for broken chunks
        raise ValueError(str(error)) from error
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode!r}; expected 8 or 16 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _image(data: Bytes, extension: str) -> Tensor:
    return decode_image(data)


def png_size(data: Bytes) -> tuple[int, int]:
    """(H, W) of a PNG by its header.

    Raises:
        ValueError: not a PNG, or too large.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 33:
        raise ValueError("not a PNG")
    width, height = struct.unpack(">II", data[16:24])
    _check_size(width, height)
    return height, width


def _png16(data: Bytes, channels: int) -> np.ndarray:
    """(H, W) or (H, W, 3) uint16 RGB. Pillow would cut 16-bit colour to 8 bits, so OpenCV reads it."""
    png_size(data)
    depth, colour = data[24], data[25]
    if (depth, colour) != (16, 0 if channels == 1 else 2):
        raise ValueError(
            f"PNG of bit depth {depth}, colour type {colour}; expected 16 bits, {channels} channels"
        )
    # OpenCV fills what a cut file lacks with zeros and only prints a warning.
    pixels = None
    if bytes(data[-8:]) == b"IEND\xaeB`\x82":
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("truncated or damaged PNG")
    return pixels if channels == 1 else pixels[..., ::-1]


def _depth(data: Bytes, extension: str) -> Tensor:
    return torch.from_numpy(_png16(data, 1).astype(np.float32) / 1000)[None]


def _flow(data: Bytes, extension: str) -> Tensor | EncodedFlow:
    if extension == "mkv":
        return EncodedFlow(data)
    return torch.from_numpy(decode_flow(data, extension))


def decode_flow(data: Bytes, extension: str, out: np.ndarray | None = None) -> np.ndarray:
    """(2, H, W) float32 of one field, jpg or png; written to ``out`` where it is given.

    PNG is that of the KITTI 2015 development kit: R, G = 64 · (u, v) + 2^15; B = known.

    Raises:
        ValueError: not of this kind, damaged, too large, or not of the size of ``out``.
    """
    if extension == "jpg":
        return flow_from_jpeg(data, out)
    pixels = _png16(data, 3)
    flow = (pixels[..., :2].astype(np.float32) - 32768) / 64
    flow[pixels[..., 2] == 0] = math.nan
    planes = flow.transpose(2, 0, 1)
    if out is None:
        return planes
    if planes.shape != out.shape:
        raise ValueError(f"fields of different sizes: {planes.shape[1:]} and {out.shape[1:]}")
    out[...] = planes
    return out


def _normals(data: Bytes, extension: str) -> Tensor:
    """Unit length again after rounding; (0, 0, 0) where the stored vector is no direction."""
    stored = _png16(data, 3).astype(np.float32) * (2 / 65535) - 1
    length = np.linalg.norm(stored, axis=2, keepdims=True)
    normals = np.where(length > 0.5, stored / np.maximum(length, 0.5), 0).astype(np.float32)
    return torch.from_numpy(normals).permute(2, 0, 1)


def _segmentation(data: Bytes, extension: str) -> Tensor:
    with _open(data) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(f"pixels of mode {image.mode!r}; expected an 8-bit index image")
        try:
            return torch.from_numpy(np.array(image))[None]
        except (OSError, SyntaxError) as error:
            raise ValueError(str(error)) from error


def _video(data: Bytes, extension: str) -> EncodedVideo:
    return EncodedVideo(data, extension)


def _text(data: Bytes) -> str:
    return bytes(data).decode("utf-8")  # UnicodeDecodeError is a ValueError


def _json(data: Bytes) -> Any:
    return json.loads(_text(data))  # JSONDecodeError is a ValueError


def _caption(data: Bytes, extension: str) -> list[str]:
    return read_captions(data, extension)


def _boxes(data: Bytes, extension: str) -> Tensor:
    """Nested lists [frame][object][x, y, w, h]; null in place of a box or of a number = absent."""
    frames = _json(data)
    try:
        filled = [[[math.nan] * 4 if box is None else box for box in frame] for frame in frames]
        boxes = np.array(filled, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError("expected the same number of boxes [x, y, w, h] for every frame") from error
    if boxes.ndim == 2 and boxes.shape[1] == 0:  # frames without any object
        boxes = boxes.reshape(len(boxes), 0, 4)
    if boxes.ndim != 3 or boxes.shape[2] != 4:
        raise ValueError(f"expected (frames, objects, 4) numbers, found shape {boxes.shape}")
    return torch.from_numpy(boxes)


def _label(data: Bytes, extension: str) -> dict[str, int]:
    label = {"class": int(_text(data))} if extension == "cls" else _json(data)
    if not isinstance(label, dict) or not all(type(value) is int and value >= 0 for value in label.values()):
        raise ValueError(f"expected label names with class indices ≥ 0, found {label!r:.80}")
    return label


def _meta(data: Bytes, extension: str) -> dict[str, Any]:
    meta = _json(data)
    if not isinstance(meta, dict):
        raise ValueError(f"expected a JSON object, found {type(meta).__name__}")
    return meta


_DECODERS: dict[str, Callable[[Bytes, str], Any]] = {
    "image": _image,
    "video": _video,
    "flow": _flow,
    "depth": _depth,
    "normals": _normals,
    "segmentation": _segmentation,
    "caption": _caption,
    "boxes": _boxes,
    "label": _label,
    "meta": _meta,
}
