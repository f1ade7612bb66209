"""Small raw data sets and shard sets, made on the spot."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmssl.shards.recipe import ShardRecipe, parse_recipe


def picture(seed: int, size: tuple[int, int] = (24, 18), kind: str = "JPEG") -> bytes:
    """An encoded image of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def image_tree(tmp_path: Path) -> Path:
    """train/ and val/ with classes cat and dog, 12 and 4 images each."""
    root = tmp_path / "raw"
    seed = 0
    for split, count in (("train", 12), ("val", 4)):
        for label in ("cat", "dog"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number:03d}.jpg").write_bytes(picture(seed))
                seed += 1
    return root


Recipe = Callable[..., ShardRecipe]


@pytest.fixture
def recipe(image_tree: Path) -> Recipe:
    """A recipe for ``image_tree``, with changes: ``recipe(shard_samples=5)``."""

    def make(**changes: object) -> ShardRecipe:
        source = {
            "kind": "image_folder",
            "root": str(image_tree),
            "splits": {"train": {"folder": "train"}, "val": {"folder": "val"}},
        }
        data = {"name": "pets", "source": source, "shard_samples": 5, **changes}
        return parse_recipe(data, "pets.yaml")

    return make


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder except locks: name to bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
