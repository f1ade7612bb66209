"""Tiny CPC, DPC and image CPC, and batches for them."""

from typing import Any

import numpy as np
import torch

from mmssl.methods import DataInfo, Method, build_method
from mmssl.stream.batch import Batch
from mmssl.stream.views.draws import Draws

IMAGE = {
    "name": "resnet18",
    "stem": "small_stride4",
    "image_size": 32,
    "kwargs": {"layers": [1, 1, 1, 1], "channels": [32, 32, 32, 64], "norm_layer": "groupnorm"},
}
BLOCK = {"kind": "frames", "frames": 2, "stride": 0.5, "net": {"encoder": IMAGE, "width": 24}}
NET = {
    "kind": "video_net",
    "name": "r2d3d",
    "frames": 2,
    "stride": 0.5,
    "image_size": 32,
    "norm": "group",
    "layers": [1, 1, 1, 1],
    "channels": [16, 16, 32, 32],
    "stem": "small_stride2",
}
TINY: dict[str, dict[str, Any]] = {
    "cpc": {"encoder": {"kind": "recurrent", "blocks": 5, "block": BLOCK, "context": 20}, "steps": 3},
    "dpc": {"encoder": {"kind": "dense_recurrent", "blocks": 5, "block": NET}, "steps": 2},
    "cpc_image": {
        "encoder": IMAGE | {"stem": "small", "image_size": 48},
        "grid": 5,
        "steps": 2,
        "context_width": 16,
        "context_depth": 2,
    },
}
FRAMES, SIZE = 10, 32


def tiny(name: str, **settings: Any) -> Method:
    torch.manual_seed(0)
    data = DataInfo(samples=100, fields=frozenset({"image", "video"}))
    return build_method({"name": name, "candidates": 6, **TINY[name], **settings}, data)


def batch_for(method: Method, n: int = 6, ids: torch.Tensor | None = None, seed: int = 0) -> Batch:
    """A batch of noise, with frames every half second, as the method's views would give it."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.arange(n) if ids is None else ids
    if "clip" in method.views:
        frames = torch.randn(n, FRAMES, 3, SIZE, SIZE, generator=generator)
        times = 0.5 * torch.arange(FRAMES, dtype=torch.float64).repeat(n, 1)
        return Batch(clip={"frames": frames, "times": times}, id=ids)
    images = torch.randint(0, 256, (n, 3, 60, 52), dtype=torch.uint8, generator=generator)
    draws = Draws(seed, "image", np.arange(n), np.zeros(n, dtype=np.int64))
    view = method.views["image"]
    return Batch(image=view.finish(view.prepare(list(images), draws), draws), id=ids)
