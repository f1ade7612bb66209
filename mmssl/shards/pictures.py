"""Thumbnails of every modality that can be seen, from encoded bytes."""

import io
import json

import av
import cv2
import numpy as np
from PIL import Image

PICTURED = ("image", "video", "depth", "normals", "flow", "segmentation")
"""Modalities that have a thumbnail."""


def thumbnail(field: str, data: bytes, size: int) -> Image.Image:
    """An RGB picture of at most ``size`` × ``size`` pixels.

    Depth is shown in colours from far to near, normals as (n + 1) / 2, PNG flow with direction as hue and
    length as saturation, relative to the longest, segmentation in fixed colours.

    Raises:
        ValueError: the bytes are not what the field's name says.
    """
    kind = field.partition("_")[0]
    if kind == "video":
        picture = _first_frame(data)
    elif kind in ("depth", "flow", "segmentation", "normals"):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("not a readable image")
        picture = Image.fromarray(_colours(kind, pixels))
    else:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.thumbnail((size, size))
    return picture


def _colours(kind: str, pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a stored map, which OpenCV gives as (H, W) or BGR."""
    if kind == "depth" and pixels.ndim == 2:
        inverse = np.where(pixels > 0, 1.0 / np.maximum(pixels, 1), 0.0)
        scaled = (255 * inverse / max(float(inverse.max()), 1e-9)).astype(np.uint8)
        shown = np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO))
        shown[pixels == 0] = 0
        return np.ascontiguousarray(shown[..., ::-1])
    if kind == "flow" and pixels.dtype == np.uint16 and pixels.ndim == 3:
        flow = (pixels[..., :0:-1].astype(np.float32) - 32768) / 64 * (pixels[..., :1] > 0)
        length, angle = np.hypot(flow[..., 0], flow[..., 1]), np.arctan2(flow[..., 1], flow[..., 0])
        hue = ((angle % (2 * np.pi)) * 90 / np.pi).astype(np.uint8)
        saturation = (255 * length / max(float(length.max()), 1e-6)).astype(np.uint8)
        return np.asarray(cv2.cvtColor(np.dstack([hue, saturation, hue * 0 + 255]), cv2.COLOR_HSV2RGB))
    if kind == "segmentation" and pixels.ndim == 2:
        return _palette()[pixels.astype(np.uint8)]
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB))


def _palette() -> np.ndarray:
    """(256, 3) uint8: hues a golden ratio apart; 0 is black."""
    hue = (np.arange(256) * 0.618034 * 180 % 180).astype(np.uint8)
    colours = np.dstack([hue, np.full_like(hue, 200), np.full_like(hue, 240)])
    palette = np.asarray(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB))[0]
    palette[0] = 0
    return palette


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
    if field.startswith("caption") and isinstance(content, list):
        return " · ".join(map(str, content))[:300]
    return json.dumps(content, ensure_ascii=False)[:200]


def _class_name(label: str, value: object, classes: dict[str, list[str]]) -> str:
    names = classes.get(label, [])
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return f"{label} {value}"
