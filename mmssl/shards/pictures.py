"""Thumbnails of every modality that can be seen, from encoded bytes."""

import io
import json

import av
import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmssl.pictures import depth_picture, flow_picture, normals_picture, segmentation_picture
from mmssl.shards.flow.jpeg import flow_from_jpeg
from mmssl.shards.flow.matroska import read_packets

PICTURED = ("image", "video", "depth", "normals", "flow", "segmentation")
"""Modalities that have a thumbnail."""


def thumbnail(field: str, data: bytes, size: int) -> Image.Image:
    """An RGB picture of at most ``size`` × ``size`` pixels.

    Depth, normals, flow and segmentation in the colours of ``mmssl.pictures``; of a video the first frame, of
    the flow of a video the field in the middle.

    Raises:
        ValueError: the bytes are not what the field's name says.
    """
    kind = field.partition("_")[0]
    if kind == "video":
        picture = _first_frame(data)
    elif kind in _MAPS:
        coloured = _MAPS[kind](data).permute(1, 2, 0)
        picture = Image.fromarray(coloured.contiguous().numpy())
    else:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.thumbnail((size, size))
    return picture


def _depth(data: bytes) -> Tensor:
    return depth_picture(torch.from_numpy(_pixels(data, "uint16", 2).astype(np.float32) / 1000)[None])


def _normals(data: bytes) -> Tensor:
    stored = _pixels(data, "uint16", 3)[..., ::-1].astype(np.float32) * (2 / 65535) - 1
    # A vector of zeros is stored as the middle of the range, half a level off.
    stored[np.abs(stored).max(2) < 1e-4] = 0
    return normals_picture(torch.from_numpy(stored).permute(2, 0, 1))


def _segmentation(data: bytes) -> Tensor:
    with Image.open(io.BytesIO(data)) as ids:
        if ids.mode not in ("L", "P"):
            raise ValueError(f"pixels of mode {ids.mode!r}; expected an 8-bit index image")
        return segmentation_picture(torch.from_numpy(np.array(ids))[None])


def _flow(data: bytes) -> Tensor:
    if data.startswith(b"\x1aE\xdf\xa3"):
        packets = read_packets(data)[1]
        data = bytes(packets[len(packets) // 2])
    if data.startswith(b"\xff\xd8"):
        return flow_picture(torch.from_numpy(flow_from_jpeg(data)))
    pixels = _pixels(data, "uint16", 3)
    flow = (pixels[..., :0:-1].astype(np.float32) - 32768) / 64
    flow[pixels[..., 0] == 0] = np.nan
    return flow_picture(torch.from_numpy(flow).permute(2, 0, 1))


_MAPS = {"depth": _depth, "normals": _normals, "segmentation": _segmentation, "flow": _flow}


def _pixels(data: bytes, kind: str, dimensions: int) -> np.ndarray:
    """(H, W) or (H, W, 3) BGR."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("not a readable image")
    if pixels.dtype != kind or pixels.ndim != dimensions:
        raise ValueError(f"pixels of {pixels.dtype} {pixels.shape}; expected {kind} of {dimensions} axes")
    return np.asarray(pixels)


def _first_frame(data: bytes) -> Image.Image:
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            for frame in container.decode(video=0):
                return frame.to_image()
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"not a readable video ({error})") from error
    raise ValueError("a video without frames")


def describe(field: str, data: bytes, classes: dict[str, list[str]]) -> str:
    """A short text for fields that are words or numbers; class indices become names."""
    text = data.decode("utf-8", "replace").strip()
    try:
        content = json.loads(text)
    except ValueError:
        return text[:200]
    if field.startswith("label"):
        values = content if isinstance(content, dict) else {"class": content}
        return ", ".join(_class_name(name, value, classes) for name, value in values.items())
    if field.startswith("caption") and isinstance(content, dict):
        content = [content.get("caption")]
    if field.startswith("caption") and isinstance(content, list):
        return " · ".join(map(str, content))[:300]
    return json.dumps(content, ensure_ascii=False)[:200]


def _class_name(label: str, value: object, classes: dict[str, list[str]]) -> str:
    names = classes.get(label, [])
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return f"{label} {value}"
