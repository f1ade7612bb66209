"""Tiny TCNs, batches without videos, and two-camera samples made on the spot."""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl.methods import DataInfo, build_method
from mmssl.methods.temporal.tcn import TCN
from mmssl.shards import encode
from mmssl.stream.batch import Batch
from mmssl.stream.sample import Sample

CAMERAS = ("video", "video_right")
NET = {
    "encoder": {"name": "resnet10t", "image_size": 16, "kwargs": {"channels": [8, 8, 16, 16]}},
    "pool": "flatten",
    "convolutions": [],
    "hidden": None,
    "width": 6,
}


def tiny_tcn(*, double: bool = False, **settings: Any) -> TCN:
    torch.manual_seed(0)
    encoder = {"net": NET} | settings.pop("encoder", {})
    data = DataInfo(samples=100, fields=frozenset({*CAMERAS, "meta"}))
    method = build_method({"name": "tcn", "moments": 4, "encoder": encoder, **settings}, data)
    assert isinstance(method, TCN)
    return method.double() if double else method


def noise_batch(
    method: TCN,
    times: Tensor,
    sequence: list[int],
    *,
    moving: Tensor | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """A batch whose frames are noise: ``times`` (B, V, T) as the view gives them."""
    b, v, t = times.shape
    generator = torch.Generator().manual_seed(seed)
    clip = {
        "frames": torch.randn(b, v, t, 3, 16, 16, generator=generator, dtype=dtype),
        "times": times.double(),
        "sequence": torch.tensor(sequence),
        "moving": torch.ones(b, t, dtype=torch.bool) if moving is None else moving,
        "motion_known": torch.ones(b, dtype=torch.bool),
    }
    return Batch(clip=clip, id=torch.arange(b))


def clock(frames: int, brightness: int, size: int = 16) -> np.ndarray:
    """(T, size, size, 3) uint8 grey frames; ``brightness`` tells a camera, its steps tell the frame."""
    level = brightness + 4 * np.arange(frames)
    return np.broadcast_to(level[:, None, None, None], (frames, size, size, 3)).astype(np.uint8)


def two_cameras(
    id_: int = 0,
    *,
    frames: tuple[int, int] = (16, 16),
    fps: tuple[float, float] = (8.0, 8.0),
    meta: dict[str, Any] | None = None,
    pass_: int = 0,
) -> Sample:
    """A sample with a dark left camera (levels 10 to 70 …) and a bright right one (130 …)."""
    members: dict[str, tuple[str, bytes | memoryview]] = {}
    for field, count, rate, brightness in zip(CAMERAS, frames, fps, (10, 130), strict=True):
        members[field] = ("mp4", encode.h264(clock(count, brightness), rate, crf=4))
    if meta is not None:
        members["meta"] = ("json", json.dumps(meta).encode())
    return Sample(id_, f"{id_:06d}", "shard", pass_, members)
