"""The real videos that MMSSL_REAL_DATA names, through every source that takes them."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mmssl.shards.build import build_shards
from mmssl.shards.local import LocalShards
from mmssl.shards.recipe import load_recipe, parse_recipe
from mmssl.shards.verify import verify
from mmssl.shards.video.measure import Measures

ROOT = Path(os.environ.get("MMSSL_REAL_DATA", ""))
RECIPES = Path(__file__).parents[2] / "shards"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("MMSSL_REAL_DATA" not in os.environ, reason="MMSSL_REAL_DATA is not set"),
]

Members = dict[str, Any]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., dict[str, Members]]:
    """Build and verify; the samples of the only split, by key, with ``meta`` parsed."""

    def run(**source: Any) -> dict[str, Members]:
        recipe = parse_recipe({"name": "real", "source": source, "max_bad_share": 0}, "real")
        (split,) = build_shards(recipe, tmp_path / "out").splits
        assert verify(tmp_path / "out") == []
        return read_split(tmp_path / "out", split)

    return run


def read_split(folder: Path, split: str) -> dict[str, Members]:
    shards = LocalShards(folder)
    samples = [shards.sample(split, id_) for id_ in range(shards.manifest.splits[split].samples)]
    return {
        sample.key: {**sample.members, "meta": json.loads(sample.members["meta.json"])} for sample in samples
    }


def frames(data: bytes | Path) -> Iterator[np.ndarray]:
    source = str(data) if isinstance(data, Path) else io.BytesIO(data)
    with av.open(source) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def small(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(rgb, (48, 48), interpolation=cv2.INTER_AREA), np.float32)


def test_overhead_actions(build: Callable[..., dict[str, Members]], tmp_path: Path) -> None:
    folder = ROOT / "actions" / "overhead_actions" / "clips"
    names = sorted(path.name for path in folder.glob("*.mp4"))[::40]
    (tmp_path / "raw").mkdir()
    for name in names:
        shutil.copy(folder / name, tmp_path / "raw")
    samples = build(kind="video_folder", root=str(tmp_path / "raw"), splits={"train": {"labels": "none"}})
    assert len(samples) == len(names)
    for sample in samples.values():
        meta = sample["meta"]
        raw = [small(pixels) for pixels in frames(folder / meta["source"])]
        kept = [small(pixels) for pixels in frames(sample["video.mp4"])]
        assert (meta["fps"], meta["original"]["fps"]) == (15, 25)
        assert len(kept) == meta["frames"] == int(np.ceil(len(raw) / 25 * 15)) == len(meta["motion"])
        last = len(raw) - 1  # 5/3 · n is never halfway between two
        nearest = [min(round(number / 15 * 25), last) for number in range(len(kept))]
        errors = [float(np.abs(a - raw[n]).mean()) for a, n in zip(kept, nearest, strict=True)]
        assert max(errors) < 6
        assert meta["cuts"] == []
        assert 0 < max(meta["motion"]) < 2


def test_four_cameras(build: Callable[..., dict[str, Members]]) -> None:
    root = ROOT / "multiview"
    samples = build(
        kind="multi_camera",
        root=str(root),
        offsets={"cam02": 0.05},
        encoding={"short_side": 96},
        segments={"seconds": 1},
    )
    assert sorted(samples) == ["pose2sim_single_person-000", "pose2sim_single_person-001"]
    first = samples["pose2sim_single_person-000"]
    assert {name for name in first if name.startswith("video")} == {
        "video.mp4", "video_cam02.mp4", "video_cam03.mp4", "video_cam04.mp4",
    }  # fmt: skip
    meta = first["meta"]
    assert (meta["width"], meta["height"], meta["frames"]) == (96, 170, 15)
    durations = [camera["original_duration"] for camera in meta["cameras"].values()]
    assert durations == pytest.approx([100 / 60] * 4, abs=0.01)
    raw = [small(pixels) for pixels in frames(root / "pose2sim_single_person" / "cam03.mp4")]
    for number, kept in enumerate(frames(first["video_cam03.mp4"])):
        moment = round((0.05 + number / 15) * 60)  # 0.05 s · 60 and 60 / 15 are whole numbers
        assert np.abs(small(kept) - raw[moment]).mean() < 6


def test_davis_frames(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "davis_frames.yaml", [f"source.root={ROOT}/vos/davis/JPEGImages/480p"])
    build_shards(recipe, tmp_path / "out")
    samples = read_split(tmp_path / "out", "train")
    assert set(samples) == {"dog", "car-shadow", "drift-straight", "libby", "blackswan"}
    for key, sample in samples.items():
        files = sorted((ROOT / "vos/davis/JPEGImages/480p" / key).glob("*.jpg"))
        meta = sample["meta"]
        assert (meta["fps"], meta["frames"], meta["height"]) == (12, (len(files) + 1) // 2, 256)
        assert meta["cuts"] == []
    speed = {key: np.median(sample["meta"]["motion"]) for key, sample in samples.items()}
    assert speed["drift-straight"] > speed["blackswan"]


def test_tracking_frames_in_segments(tmp_path: Path) -> None:
    overrides = [f"source.root={ROOT}/tracking", "source.splits={train: [Couple, Jogging]}"]
    build_shards(load_recipe(RECIPES / "otb_frames.yaml", overrides), tmp_path / "out")
    samples = read_split(tmp_path / "out", "train")
    assert sorted(samples) == ["Couple-000", "Couple-001", *(f"Jogging-00{n}" for n in range(4))]
    truth = [
        [float(word) for word in line.replace("\t", ",").split(",")]
        for line in (ROOT / "tracking/Couple/groundtruth_rect.txt").read_text().splitlines()
    ]
    boxes = json.loads(samples["Couple-001"]["boxes.json"])
    assert samples["Couple-001"]["meta"]["segment"] == {"start": 3.0, "of": "Couple"}
    for position, number in enumerate(range(90, 140, 2)):
        x, y, width, height = truth[number]
        assert boxes[position][0] == pytest.approx([x - 1, y - 1, width, height])
    assert {len(json.loads(samples["Jogging-001"]["boxes.json"])[0])} == {2}


def test_segtrack_and_cuts_between_its_videos(build: Callable[..., dict[str, Members]]) -> None:
    folder = ROOT / "vos" / "segtrack2_mp4" / "Video"
    samples = build(kind="video_folder", root=str(folder), splits={"train": {"labels": "none"}})
    assert len(samples) == 10
    assert all(sample["meta"]["cuts"] == [] for sample in samples.values())
    found = joined = 0
    heads = {key: list(frames(sample["video.mp4"]))[:8] for key, sample in samples.items()}
    for one in heads:
        for other in heads:
            if one < other:
                measures = Measures()
                for pixels in (*heads[one], *heads[other]):
                    measures.put(np.asarray(cv2.resize(pixels, (160, 112)), np.uint8))
                joined += 1
                found += measures.cuts() == [8]
    assert found >= 0.95 * joined
