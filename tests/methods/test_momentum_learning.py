"""MoCo v1, v2 and v3 on miniworld's stills make the shapes of unseen worlds neighbours."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.methods import DataInfo, Method, build_method
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import load_recipe
from mmssl.stream import Source, Stream, StreamConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("one_thread")]

CLIPS, QUERIES, FRAMES, STEPS = 800, 300, 3, 600
MARGIN = 5.0
"""Percentage points of kNN above the untrained encoder."""
NET = {"name": "resnet18", "stem": "small_stride4", "image_size": 48, "kwargs": {"layers": [1, 1, 1, 1]}}
GENTLE = {"scale": [0.5, 1.0], "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "blur": 0}
QUEUE = {"queue": 1024, "momentum": 0.99, "temperature": 0.1, "augmentation": GENTLE}
METHODS: dict[str, dict[str, Any]] = {
    "moco_v1": {**QUEUE},
    "moco_v2": {**QUEUE, "hidden": 512, "head_norm": True},
    "moco_v3": {
        "projector": [512, 128],
        "predictor": [512, 128],
        "temperature": 0.2,
        "augmentations": [GENTLE, GENTLE],
    },
}


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = [
        f"source.clips.train={CLIPS}",
        f"source.clips.val={QUERIES}",
        f"source.frames_per_clip={FRAMES}",
        "source.fields=[image,label,meta]",
    ]
    folder = tmp_path_factory.mktemp("stills")
    build_shards(load_recipe("miniworld", settings), folder, workers=1)
    return folder


def accuracy(method: Method, stills: Path) -> float:
    """Percent of 900 frames of unseen worlds whose shape neighbours among 2,400 tell; chance is 12.5."""
    knn = parse_evaluation({"name": "knn", "labels": ["shape"]}, "test")
    method.eval()
    scores = evaluate(Subject(method.encoders(), stills), [knn])
    method.train()
    return next(score.value for score in scores if score.metric == "accuracy")


@pytest.mark.parametrize("name", METHODS)
def test_training_beats_the_untrained_encoder(name: str, stills: Path) -> None:
    torch.manual_seed(0)
    method = build_method({"name": name, "encoder": NET, **METHODS[name]}, DataInfo(CLIPS * FRAMES))
    untrained = accuracy(method, stills)
    data = StreamConfig(sources=(Source(shards=str(stills)),), workers=0)
    stream = Stream(data, method.views, batch_size=64, seed=0)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=STEPS, pct_start=0.1)
    method.train()
    for step, batch in enumerate(stream.batches(steps=STEPS)):
        loss = method(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / STEPS)
        schedule.step()
    trained = accuracy(method, stills)
    assert trained >= untrained + MARGIN, f"{untrained:.1f} % untrained, {trained:.1f} % trained"
