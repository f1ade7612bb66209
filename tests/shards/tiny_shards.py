"""Small raw data sets and shard sets, made on the spot."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmssl.shards.manifest import Manifest
from mmssl.shards.recipe import ShardRecipe


def picture(seed: int, size: tuple[int, int] = (24, 18), kind: str = "JPEG") -> bytes:
    """An encoded image of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


MINIWORLD_FIELDS = [
    "image", "image_right", "depth", "normals", "segmentation", "flow", "boxes", "caption", "label", "meta",
]  # fmt: skip
"""Every field that a frame of the miniworld can be stored with."""


Recipe = Callable[..., ShardRecipe]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder except locks: name to bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


Samples = dict[str, dict[str, Any]]


Build = Callable[..., tuple[Manifest, dict[str, Samples]]]


def put(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def pack(root: Path, archive: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                target.write(path, inside + path.relative_to(root).as_posix())
    return archive
