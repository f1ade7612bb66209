"""Order is learned from videos nobody labelled, and the arrow of time is not where there is none to see."""

from pathlib import Path
from typing import Any

import pytest
import torch
from order_videos import RATE, write_videos

from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.methods import DataInfo, Method, build_method
from mmssl.miniworld import MiniworldConfig, clip
from mmssl.stream import Source, Stream, StreamConfig

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN, VAL = 400, 120
EASY = MiniworldConfig(size=32, fps=RATE, distractors=0, radius=(0.38, 0.46), defocus=0.032, haze=0.65)
NET = {
    "encoder": {
        "name": "resnet18", "stem": "small_stride2", "image_size": 32,
        "kwargs": {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 64]},
    },
    "pool": "flatten", "width": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of the procedural world; those of val are others, of the same photographs."""
    root = tmp_path_factory.mktemp("order") / "world"
    return write_videos(root, lambda index: clip("train", index, EASY).frames, {"train": TRAIN, "val": VAL})


def built(task: str, frames: int, **settings: Any) -> Method:
    torch.manual_seed(0)
    encoder = {"kind": "frames", "net": NET, "frames": frames, "stride": 1 / RATE, "fuse": "concat"}
    config = {"name": "order", "task": task, "encoder": encoder, "dropout": 0.0, "augmentation": None}
    return build_method(config | settings, DataInfo(TRAIN, frozenset({"video"})))


def train(method: Method, world: Path, steps: int, lr: float) -> None:
    stream = Stream(
        StreamConfig(sources=(Source(shards=str(world)),), workers=0, block=8, window=64),
        method.views, batch_size=32, seed=0,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(method.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    method.train()
    for batch in stream.batches(steps=steps):
        loss = method(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def held_out(method: Method, world: Path) -> dict[str, float]:
    subject = Subject(method.encoders(), world, method=method)
    config = parse_evaluation({"name": "pretext", "batch_size": 60}, "test")
    return {score.evaluation.removeprefix("pretext/"): score.value for score in evaluate(subject, [config])}


@pytest.mark.slow
def test_verification_is_learned_and_holds_for_clips_never_seen(world: Path) -> None:
    method = built("verify", 1, spacing=[0.2, 0.2])
    untrained = held_out(method, world)
    train(method, world, steps=300, lr=3e-3)
    trained = held_out(method, world)
    assert trained["verification_balanced"] >= untrained["verification_balanced"] + 10, (untrained, trained)


@pytest.mark.slow
def test_no_arrow_of_time_is_found_where_every_motion_has_its_reverse(world: Path) -> None:
    """A leak alarm: what tells forwards from backwards here is how frames are coded, not what they show."""
    method = built("arrow", 4)
    train(method, world, steps=100, lr=3e-3)
    noise = 100 * (0.25 / VAL) ** 0.5
    assert held_out(method, world)["arrow_of_time"] <= 50 + 3 * noise
