"""Fixtures of the shards' tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_shards import Recipe, Samples, picture

from mmssl.shards.build import build_shards
from mmssl.shards.local import LocalShards
from mmssl.shards.manifest import Manifest
from mmssl.shards.recipe import ShardRecipe, parse_recipe
from mmssl.shards.verify import verify


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
