"""A miniworld without distractors, every modality of its frames, and short plain trainings on it."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmssl.methods import DataInfo, Method
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import load_recipe
from mmssl.stream import Source, Stream, StreamConfig, scan
from mmssl.stream.batch import Batch

FIELDS = ("image", "depth", "normals", "segmentation", "flow", "label", "meta")
SIZE = 32
NET = {
    "name": "resnet18",
    "stem": "small_stride2",
    "image_size": SIZE,
    "kwargs": {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128]},
}


def build_easy(root: Path, train: int, val: int) -> Path:
    """One frame of every clip, as a shard set."""
    recipe = load_recipe(
        "miniworld_modalities",
        [
            f"source.clips.train={train}",
            f"source.clips.val={val}",
            "source.frames_per_clip=1",
            f"source.fields=[{','.join(FIELDS)}]",
            "source.world.distractors=0",
            "source.world.radius=[0.38,0.46]",
            "source.world.defocus=0.032",
            "source.world.haze=0.65",
            f"source.world.size={SIZE}",
        ],
    )
    build_shards(recipe, root, workers=1)
    return root


def info(samples: int, *lacking: str) -> DataInfo:
    """Of a set of which no sample has the fields ``lacking``."""
    return DataInfo(samples, frozenset(FIELDS) - set(lacking))


def stream_of(method: Method, root: Path, batch_size: int) -> Stream:
    data = StreamConfig(sources=(Source(shards=str(root)),), workers=0)
    return Stream(data, method.views, batch_size=batch_size, seed=0)


def held_out(method: Method, root: Path, count: int) -> Batch:
    """The first samples of val, seen as in training."""
    data = StreamConfig(sources=(Source(shards=str(root)),), workers=0)
    return next(iter(scan(data, method.views, split="val", batch_size=count, seed=0)))


def learn(method: Method, root: Path, steps: int, lr: float, batch_size: int = 64) -> list[float]:
    """Train as plainly as can be, the rate falling to zero along a line; the loss of every step."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.15)
    method.train()
    return [
        step(method, optimizer, schedule.step, batch)
        for batch in stream_of(method, root, batch_size).batches(steps=steps)
    ]


def step(
    method: Method, optimizer: torch.optim.Optimizer, after: Callable[[], object], batch: Batch
) -> float:
    loss: Tensor = method(batch).total
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    method.after_step(0.0)
    after()
    return float(loss.detach())
