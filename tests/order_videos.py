"""Short videos that say which frame is which, samples and shard sets made of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.shards import encode
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard
from mmssl.stream.batch import Batch
from mmssl.stream.sample import Sample
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws

RATE = 10.0


def brightening(frames: int = 40, size: int = 32) -> NDArray[np.uint8]:
    """(T, H, W, 3): frame t is grey, 5 · t + 20 of 255."""
    level = (5 * np.arange(frames) + 20).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (frames, size, size, 3)).copy()


def gradient(frames: int = 40, size: int = 64) -> NDArray[np.uint8]:
    """(T, H, W, 3): nothing moves; red grows by 3 a pixel to the right, green by 3 a pixel downwards."""
    y, x = np.mgrid[:size, :size]
    picture = np.stack([3 * x + 20, 3 * y + 20, np.full_like(x, 128)], axis=2).astype(np.uint8)
    return np.broadcast_to(picture, (frames, *picture.shape)).copy()


def noise(index: int, frames: int = 20, size: int = 32) -> NDArray[np.uint8]:
    """(T, H, W, 3): coarse noise, another in every frame: nothing tells the order."""
    generator = np.random.default_rng(index)
    coarse = generator.integers(60, 196, (frames, size // 8, size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def members(frames: NDArray[np.uint8], meta: dict[str, Any] | None = None) -> dict[str, bytes]:
    return {
        "video.mp4": encode.h264(frames, RATE, crf=4),
        "meta.json": json.dumps({"fps": RATE, "frames": len(frames), **(meta or {})}).encode(),
    }


def sample(id_: int, frames: NDArray[np.uint8], meta: dict[str, Any] | None = None) -> Sample:
    files = {name.split(".")[0]: (name.split(".")[1], data) for name, data in members(frames, meta).items()}
    return Sample(id_, f"k{id_}", "shard", 0, files)


def seen(view: View, samples: Sequence[Sample], pass_: int = 0, seed: int = 0) -> Any:
    """What a view makes of samples, read one by one as a loader does."""
    ids, passes = np.array([one.id for one in samples]), np.full(len(samples), pass_)
    draws = Draws(seed, "clip", ids, passes)
    items = [view.read(one, draws.rows([row])) for row, one in enumerate(samples)]
    return view.finish(view.prepare(items, draws), draws)


def batch_of(clip: Any) -> Batch:
    return Batch(clip=clip, id=torch.arange(len(clip["frames"])))


def write_videos(root: Path, make: Callable[[int], NDArray[np.uint8]], counts: dict[str, int]) -> Path:
    """A shard set of splits with so many videos each; ``make`` numbers them through all splits."""
    splits, made = {}, 0
    for name, count in counts.items():
        rows = [RawSample(f"k{i:05d}", members(make(made + i))) for i in range(count)]
        file, index = f"{name}/000000.tar", f"{name}/000000.index"
        written = write_shard(root / file, rows)
        written.index.at(0).save(root / index)
        shard = Shard(
            file=file, index=index, samples=count, first_id=0,
            bytes=written.index.tar_bytes, sha256=written.sha256,
        )  # fmt: skip
        splits[name] = Split(samples=count, shards=(shard,))
        made += count
    Manifest(name=root.name, splits=splits, fields={"video": 1.0, "meta": 1.0}, classes={}).save(root)
    return root
