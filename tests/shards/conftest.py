"""Small raw data sets and shard sets, made on the spot."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmssl.shards.build import build_shards
from mmssl.shards.local import LocalShards
from mmssl.shards.manifest import Manifest
from mmssl.shards.recipe import ShardRecipe, parse_recipe
from mmssl.shards.verify import verify


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


Samples = dict[str, dict[str, Any]]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[Manifest, dict[str, Samples]]]:
    """Build, verify, and read back: split to key to column to bytes (JSON parsed)."""

    def run(max_bad_share: float = 0.0, **source: Any) -> tuple[Manifest, dict[str, Samples]]:
        recipe = parse_recipe({"name": "set", "source": source, "max_bad_share": max_bad_share}, "set.yaml")
        manifest = build_shards(recipe, tmp_path / "set")
        assert verify(tmp_path / "set") == []
        shards = LocalShards(tmp_path / "set")
        splits: dict[str, Samples] = {}
        for name, split in manifest.splits.items():
            samples = [shards.sample(name, id_) for id_ in range(split.samples)]
            splits[name] = {
                sample.key: {
                    column: json.loads(data) if column.endswith("json") else data
                    for column, data in sample.members.items()
                }
                for sample in samples
            }
        return manifest, splits

    return run


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
