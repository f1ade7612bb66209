"""Small shard sets whose images say which sample they are, and a view that reads it back."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard
from mmssl.stream.config import FaultLimits, Source, StreamConfig
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws


def png(number: int) -> bytes:
    """A 4x4 image whose red and green bytes are ``number``."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = number % 256, number // 256
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def write_set(
    root: Path,
    sizes: Sequence[int],
    first: int = 0,
    classes: Sequence[str] = ("a", "b", "c"),
    split: str = "train",
    instead: Mapping[int, dict[str, bytes]] = MappingProxyType({}),
) -> Path:
    """Shards of the given sizes; the n-th sample shows ``first + n`` and has class n modulo C, except for
    what ``instead`` gives other content.
    """
    shards, at = [], 0
    for number, size in enumerate(sizes):
        rows = [
            RawSample(
                f"k{first + at + i:05d}",
                {
                    "image.png": png(first + at + i),
                    "label.json": json.dumps({"class": (at + i) % len(classes)}).encode(),
                    **instead.get(at + i, {}),
                },
            )
            for i in range(size)
        ]
        file, index = f"{split}/{number:06d}.tar", f"{split}/{number:06d}.index"
        written = write_shard(root / file, rows)
        written.index.at(at).save(root / index)
        shards.append(
            Shard(
                file=file,
                index=index,
                samples=size,
                first_id=at,
                bytes=written.index.tar_bytes,
                sha256=written.sha256,
            )
        )
        at += size
    Manifest(
        name=root.name,
        splits={split: Split(samples=at, shards=tuple(shards)), "empty": Split(samples=0, shards=())},
        fields={"image": 1.0, "label": 1.0},
        classes={"class": list(classes)},
    ).save(root)
    return root


class Shown(View):
    """The number an image shows, and one random number of its own: (B, 2) float32."""

    def prepare(self, items: Sequence[Tensor], draws: Draws) -> Tensor:
        shown = torch.stack([image[:2, 0, 0].int() for image in items])
        return (shown[:, 0] + 256 * shown[:, 1]).float()

    def finish(self, x: Tensor, draws: Draws) -> Tensor:
        random = torch.as_tensor(draws.uniform("anything", 1)).reshape(-1)
        return torch.stack([x, random.to(x.device)], dim=1)


def config_of(*roots: Path, workers: int = 0, **settings: object) -> StreamConfig:
    sources = tuple(Source(shards=str(root)) for root in roots)
    return StreamConfig(sources=sources, workers=workers, **{"block": 4, "window": 16, **settings})


LENIENT = FaultLimits(max_in_a_row=10, max_share=1.0, after=1)


def damage(path: Path, offset: int) -> None:
    """Flip one byte."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)
