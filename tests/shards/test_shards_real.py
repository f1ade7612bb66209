"""The real data that MMSSL_REAL_DATA names, through every source."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmssl.shards.build import build_shards
from mmssl.shards.local import LocalShards
from mmssl.shards.manifest import Manifest
from mmssl.shards.recipe import load_recipe, parse_recipe
from mmssl.shards.verify import verify
from mmssl.stream.decode import decode

ROOT = Path(os.environ.get("MMSSL_REAL_DATA", ""))
TUM_CAMERA = [525.0, 525.0, 319.5, 239.5]
RECIPES = Path(__file__).parents[2] / "shards"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("MMSSL_REAL_DATA" not in os.environ, reason="MMSSL_REAL_DATA is not set"),
]

Build = Callable[..., tuple[Manifest, LocalShards]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def run(max_bad_share: float = 0.0, **source: Any) -> tuple[Manifest, LocalShards]:
        data = {"name": "real", "source": source, "max_bad_share": max_bad_share}
        manifest = build_shards(parse_recipe(data, "real"), tmp_path / "out")
        assert verify(tmp_path / "out", decode=decode) == []
        return manifest, LocalShards(tmp_path / "out")

    return run


def test_cifar10(tmp_path: Path) -> None:
    archive = ROOT / "images" / "cifar10_train10k_val2k.zip"
    recipe = load_recipe(RECIPES / "cifar10.yaml", [f"source.root={archive}", "shard_mb=4"])
    manifest = build_shards(recipe, tmp_path, workers=2)
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 10000, "val": 2000}
    assert manifest.classes["class"][3] == "cat"
    assert manifest.built["skipped"] == {}
    labels = [
        json.loads(LocalShards(tmp_path).sample("train", id_).members["label.json"])["class"]
        for id_ in range(300)
    ]
    assert np.bincount(labels, minlength=10).min() > 10, "classes are mixed within a shard"
    assert verify(tmp_path) == []


def test_tiny_imagenet_with_a_held_out_tenth(tmp_path: Path) -> None:
    archive = ROOT / "images" / "tinyimagenet40_train6k.zip"
    recipe = load_recipe(RECIPES / "tiny_imagenet_holdout.yaml", [f"source.root={archive}"])
    manifest = build_shards(recipe, tmp_path)
    train, val = manifest.splits["train"].samples, manifest.splits["val"].samples
    assert train + val == 6000
    assert 500 < val < 700
    assert len(manifest.classes["class"]) == 40


def test_tracking(build: Build) -> None:
    manifest, shards = build(kind="frame_folders", root=str(ROOT / "tracking"))
    samples = [shards.sample("test", id_) for id_ in range(manifest.samples)]
    boxes = {sample.key: decode("boxes", "json", sample.members["boxes.json"]).numpy() for sample in samples}
    frames = {sample.key: json.loads(sample.members["meta.json"])["frames"] for sample in samples}
    assert all(len(boxes[key]) == frames[key] for key in frames)
    assert boxes["Jogging"].shape == (307, 2, 4)
    assert boxes["Couple"][0, 0].tolist() == [50, 46, 25, 62]
    assert np.isnan(boxes["Diving"][215:]).all()
    assert not np.isnan(boxes["Diving"][:215]).any()


@pytest.mark.parametrize(
    ("folder", "options", "count"),
    [
        ("7scenes_seq", {}, 88),
        ("rgbd_sample_a", {}, 17),
        (
            "tum_freiburg1_xyz_18",
            {"depth_scale": 5000, "max_bad_share": 0.1, "max_missing_share": 0.99, "intrinsics": TUM_CAMERA},
            17,
        ),
    ],
)
def test_rgbd(folder: str, options: dict[str, Any], count: int, build: Build) -> None:
    """Normals face the camera and agree with their neighbours; all frames but the last have flow."""
    source = {"kind": "rgbd", "root": str(ROOT / "rgbd" / folder), "normals": True, "short_side": 120}
    manifest, shards = build(**source, flow={}, **options)
    assert manifest.samples == count
    assert manifest.fields["flow"] == pytest.approx((count - 1) / count)
    sample = shards.sample("train", 0).members
    depth = decode("depth", "png", sample["depth.png"])
    assert 0.3 < float(depth[depth > 0].median()) < 5
    normals = decode("normals", "png", sample["normals.png"]).numpy()
    known = np.linalg.norm(normals, axis=0) > 0
    assert known.mean() > 0.9 * float((depth > 0).float().mean())
    y, x = np.indices(known.shape)
    camera = np.array(json.loads(sample["meta.json"])["intrinsics"])
    rays = np.linalg.inv(camera) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    facing = (normals.reshape(3, -1) * rays).sum(0).reshape(known.shape) < 0
    assert facing[known].mean() > 0.99
    beside = (normals[:, :, 1:] * normals[:, :, :-1]).sum(0)[known[:, 1:] & known[:, :-1]]
    assert np.median(np.degrees(np.arccos(np.clip(beside, -1, 1)))) < 20


def test_captions(build: Build) -> None:
    folder = ROOT / "captions"
    table = {
        "table": str(folder / "flickr8k_dev_captions.csv"),
        "files": str(folder / "flickr8k_dev_128.zip" / "dev"),
    }
    manifest, shards = build(kind="table", splits={"val": table}, caption="caption")
    assert manifest.samples == 491
    assert all(len(json.loads(shards.sample("val", n).members["caption.json"])) == 5 for n in range(50))


def test_videos(build: Build) -> None:
    splits = {"train": {"folder": "clips", "labels": "labels.csv"}}
    manifest, shards = build(
        kind="video_folder",
        root=str(ROOT / "actions" / "overhead_actions"),
        splits=splits,
        encoding={"fps": 3, "short_side": 64},
    )
    assert manifest.samples == 163
    assert manifest.classes["class"] == ["lie", "liedown", "sit", "sitdown", "standup", "walk"]
    for id_ in range(0, 163, 40):
        sample = shards.sample("train", id_)
        label = json.loads(sample.members["label.json"])["class"]
        assert sample.key.startswith(manifest.classes["class"][label] + "__")
