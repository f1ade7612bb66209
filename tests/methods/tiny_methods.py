"""Tiny encoders and batches for the methods."""

from typing import Any

import numpy as np
import torch

from mmssl.methods import DataInfo, Method, build_method
from mmssl.stream.batch import Batch
from mmssl.stream.views.draws import Draws

RESNET = {"name": "resnet10t", "image_size": 32, "kwargs": {"channels": [16, 16, 32, 32]}}
VIT = {
    "name": "vit_tiny_patch16_224",
    "image_size": 32,
    "kwargs": {"patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3, "global_pool": "avg"},
}
TINY: dict[str, dict[str, Any]] = {
    "simclr": {"encoder": RESNET, "projector": [32, 16]},
    "moco_v1": {"encoder": RESNET, "queue": 48, "dim": 16},
    "moco_v2": {"encoder": RESNET, "queue": 48, "dim": 16, "hidden": 32},
    "moco_v3": {"encoder": VIT, "projector": [32, 32, 16], "predictor": [32, 16]},
    "mae": {"encoder": VIT, "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
}


def tiny(name: str, **settings: Any) -> Method:
    torch.manual_seed(0)
    return build_method({"name": name, **TINY[name], **settings}, DataInfo(samples=1000))


def views_of(method: Method, images: torch.Tensor, pass_: int = 0) -> Batch:
    """A batch of ``images`` (B, 3, H, W) uint8 through the method's own views."""
    ids = np.arange(len(images))
    draws = Draws(0, "image", ids, np.full(len(images), pass_))
    view = method.views["image"]
    x = view.finish(view.prepare(list(images), draws), draws)
    return Batch(image=x, id=torch.from_numpy(ids), pass_=torch.full((len(images),), pass_), key=[], label={})
