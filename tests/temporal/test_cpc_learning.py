"""CPC learns to predict: on held-out worlds it tells the next frame of a clip from frames of other clips."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmssl.methods import DataInfo, Method, build_method
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import ShardRecipe
from mmssl.shards.sources.miniworld_clips import MiniworldClips
from mmssl.stream import Source, StreamConfig, scan
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

WORLD = {"distractors": 0, "radius": (0.38, 0.46), "defocus": 0.032, "haze": 0.65, "size": 64}
IMAGE = {
    "name": "resnet18",
    "stem": "small_stride4",
    "image_size": 48,
    "kwargs": {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256], "norm_layer": "groupnorm"},
}
CPC = {
    "name": "cpc",
    "encoder": {
        "kind": "recurrent",
        "blocks": 8,
        "context": 128,
        "block": {"kind": "frames", "frames": 1, "stride": 0.25, "net": {"encoder": IMAGE, "width": 128}},
    },
    "augmentation": None,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> StreamConfig:
    folder: Path = tmp_path_factory.mktemp("clips")
    source = MiniworldClips(clips={"train": 128, "val": 40}, fields=("video",), world=WORLD)  # type: ignore[arg-type]
    build_shards(ShardRecipe(name="clips", source=source), folder)
    return StreamConfig(sources=(Source(shards=str(folder), split="train"),), workers=0)


def batches(config: StreamConfig, method: Method, split: str, size: int, seed: int) -> Iterator[Batch]:
    return iter(scan(config, method.views, split=split, batch_size=size, seed=seed))


def accuracies(config: StreamConfig, method: Method) -> dict[str, float]:
    """Percent, each question of the objective over the held-out clips."""
    method.eval()
    (batch,) = batches(config, method, "val", 40, 0)
    answers = method.pretext(batch)
    method.train()
    return {question: 100 * float(answer.values.mean()) for question, answer in answers.items()}


@pytest.mark.slow
def test_cpc_predicts_held_out_clips_five_times_better_than_chance(clips: StreamConfig) -> None:
    torch.manual_seed(0)
    method = build_method(CPC, DataInfo(128, frozenset({"video"})))
    untrained = accuracies(clips, method)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=1e-5)
    step = 0
    for seed in range(8):
        for batch in batches(clips, method, "train", 16, seed):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * min(1.0, (step + 1) / 10)
            loss = method(batch).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    trained = accuracies(clips, method)
    first = "accuracy_other_sequences_1"
    chance = 100 / 33
    assert untrained[first] < 3 * chance
    assert trained[first] >= 5 * chance, f"{untrained} untrained, {trained} trained"
    assert trained[first] >= untrained[first] + 12
    assert trained[first] > trained["accuracy_other_sequences_3"]
