"""UDT learns to track: targets in clips never seen, before and after a short training without labels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.evaluate.tracking.evaluation import TrackingConfig, track
from mmssl.evaluate.tracking.readers.shard_set import ShardSetConfig
from mmssl.methods import DataInfo, build_method
from mmssl.methods.tracking.udt import UDT
from mmssl.models.feature_map import FeatureMap
from mmssl.models.layout import channels_last
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import ShardRecipe
from mmssl.stream import Source, Stream, StreamConfig

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, BATCH, RATE = 150, 16, 2e-3


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sharp backgrounds, a distractor, objects of half the width: hard for features that know nothing."""
    folder = tmp_path_factory.mktemp("clips")
    source = {
        "kind": "miniworld_clips",
        "clips": {"train": 240, "val": 40},
        "fields": ["video", "boxes", "meta"],
    }
    build_shards(ShardRecipe.model_validate({"name": "clips", "source": source}), folder)
    return folder


def success(method: UDT, clips: Path) -> float:
    """Success AUC of the first object of 40 unseen clips, in per cent."""
    benchmark = ShardSetConfig(kind="shard_set", root=str(clips), split="val")
    config = TrackingConfig(benchmark=benchmark, preset="dcfnet", lanes=8)
    (shown,) = track(config, "clips", {"tracker": FeatureMap(method.map.encoder)}, None)
    return float(shown.outcomes["tracker"].total.values["success AUC"])


@pytest.mark.slow
def test_targets_in_unseen_clips_are_followed_better(clips: Path) -> None:
    torch.manual_seed(0)
    settings = {"name": "udt", "start": "anywhere", "within": 4, "encoder": {"image_size": 61}}
    method = build_method(settings, DataInfo(samples=240, fields=frozenset({"video", "meta"})))
    assert isinstance(method, UDT)
    channels_last(method)
    untrained = success(method, clips)
    optimizer = torch.optim.AdamW(method.parameters(), lr=RATE, weight_decay=1e-4)
    data = StreamConfig(sources=(Source(shards=str(clips), split="train"),), workers=0)
    for step, batch in enumerate(Stream(data, method.views, batch_size=BATCH, seed=0).batches(steps=STEPS)):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / 10, 0.5 * (1 + np.cos(np.pi * step / STEPS)))
        loss = method(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = success(method, clips)
    assert trained >= untrained + 3, f"success AUC: untrained {untrained:.1f}, trained {trained:.1f}"
