"""TCN learns which moment it is: the same instant is found in the other camera of unseen clips."""

from pathlib import Path

import pytest
import torch

from mmssl.methods import DataInfo, build_method
from mmssl.methods.temporal.tcn import TCN
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import ShardRecipe
from mmssl.stream import Source, Stream, StreamConfig, scan

pytestmark = pytest.mark.usefixtures("one_thread")

EASY = {
    "size": 48,
    "distractors": 0,
    "radius": [0.38, 0.46],
    "defocus": 0.032,
    "haze": 0.65,
}
"""One large object before a quiet background."""
NET = {
    "encoder": {
        "name": "resnet18",
        "stem": "small_stride4",
        "image_size": 48,
        "kwargs": {
            "layers": [1, 1, 1, 1],
            "channels": [32, 32, 64, 64],
            "norm_layer": "groupnorm",
            "output_stride": 8,
        },
    },
    "convolutions": [64],
    "hidden": None,
}
LIGHT = {
    "scale": [1.0, 1.0],
    "ratio": [1.0, 1.0],
    "flip": 0.0,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.05,
    "grey": 0.0,
    "blur": 0.0,
}
STEPS, BATCH, RATE = 150, 4, 2e-3


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 clips to learn from and 40 others, each of 16 frames from two cameras."""
    folder = tmp_path_factory.mktemp("clips")
    source = {
        "kind": "miniworld_clips",
        "clips": {"train": 160, "val": 40},
        "fields": ["video", "video_right", "meta"],
        "world": EASY,
    }
    build_shards(ShardRecipe.model_validate({"name": "clips", "source": source}), folder)
    return folder


def config(clips: Path, split: str) -> StreamConfig:
    return StreamConfig(sources=(Source(shards=str(clips), split=split),), workers=0)


def accuracy(method: TCN, clips: Path) -> tuple[float, float]:
    """Percent of moments found within a frame among the 8 of the other camera, and what guessing finds."""
    method.eval()
    values, chances = [], []
    for batch in scan(config(clips, "val"), method.views, batch_size=20):
        answers = method.pretext(batch)["same moment"]
        values.append(answers.values)
        chances.append(answers.chance)
    method.train()
    return 100 * float(torch.cat(values).mean()), 100 * sum(chances) / len(chances)


@pytest.mark.slow
def test_the_same_moment_is_found_in_the_other_camera(clips: Path) -> None:
    torch.manual_seed(0)
    method = build_method(
        {
            "name": "tcn",
            "loss": "info_nce",
            "temperature": 0.2,
            "encoder": {"net": NET},
            "moments": 8,
            "window": 2.0,
            "positive_radius": 0.13,
            "augmentation": LIGHT,
        },
        DataInfo(samples=160, fields=frozenset({"video", "video_right", "meta"})),
    )
    assert isinstance(method, TCN)
    untrained, chance = accuracy(method, clips)
    optimizer = torch.optim.AdamW(method.parameters(), lr=RATE)
    stream = Stream(config(clips, "train"), method.views, batch_size=BATCH, seed=0)
    for step, batch in enumerate(stream.batches(steps=STEPS)):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20, 2 * (1 - step / STEPS))
        loss = method(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained, _ = accuracy(method, clips)
    assert trained >= untrained + 15, (
        f"{chance:.1f} % chance, {untrained:.1f} % untrained, {trained:.1f} % trained"
    )
