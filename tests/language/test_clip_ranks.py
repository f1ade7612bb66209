"""CLIP trained end to end on captioned stills: the same run in one piece, in pieces, and on two ranks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmssl import distributed
from mmssl.engine import TrainConfig, seed_everything, train
from mmssl.methods import DataInfo, build_method
from mmssl.methods.artifact import load_method
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import load_recipe
from mmssl.stream import Source, Stream, StreamConfig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SIZE, SAMPLES, STEPS = 32, 40, 6
METHOD = {
    "name": "clip",
    "image": {
        "name": "vit_tiny_patch16_224",
        "image_size": SIZE,
        "kwargs": {"patch_size": 8, "depth": 1, "embed_dim": 16, "num_heads": 2},
    },
    "text": {"kind": "clip", "width": 16, "heads": 2, "layers": 1, "context": 16},
    "dim": 8,
}


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = [f"source.clips.train={SAMPLES}", "source.frames_per_clip=1", f"source.world.size={SIZE}"]
    folder = tmp_path_factory.mktemp("stills")
    build_shards(load_recipe("miniworld", settings), folder, workers=1)
    return folder


def run(shards: Path, folder: Path, **settings: Any) -> None:
    """Passes of 40 samples in batches of 16: some batches hold the end of one and the start of the next."""
    optimizer = {"name": "sgd", "base_lr": 4.0}
    config = TrainConfig(
        steps=STEPS, batch_size=16, optimizer=optimizer, precision="fp32", log_every=1, **settings
    )
    seed_everything(config.seed)
    method = build_method(METHOD, DataInfo(SAMPLES, frozenset({"image", "caption"})))
    data = StreamConfig(sources=(Source(shards=str(shards)),), workers=0)
    share = {"rank": distributed.rank(), "world": distributed.world_size()}
    stream = Stream(data, method.views, batch_size=16, seed=config.seed, **share)
    train(method, stream, config, folder, provenance={"command": "test"})


def on_ranks(rank: int, world: int, shards: Path, folder: Path) -> None:
    run(shards, folder / "ranks", accumulate=2, cached=True)
    run(shards, folder / "plain_ranks")


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_pieces_and_ranks_change_nothing(stills: Path, tmp_path: Path, ranks: Callable[..., None]) -> None:
    run(stills, tmp_path / "one")
    run(stills, tmp_path / "pieces", accumulate=4, cached=True)
    run(stills, tmp_path / "others", accumulate=4)
    ranks(on_ranks, 2, stills, tmp_path)
    one = logged(tmp_path / "one")
    assert [line["samples"] for line in one] == [16 * step for step in range(1, STEPS + 1)]
    weights = load_file(tmp_path / "one/method.safetensors")
    start = build_method(METHOD, DataInfo(SAMPLES, frozenset({"image", "caption"}))).state_dict()
    assert (weights["logit_scale"] - start["logit_scale"]).abs() > 1e-3
    for name in ("pieces", "plain_ranks", "ranks"):
        for line, same in zip(logged(tmp_path / name), one, strict=True):
            for key in ("loss", "grad_norm"):
                assert line[key] == pytest.approx(same[key], rel=1e-4), (name, key)
            assert line["parts"] == pytest.approx(same["parts"], rel=1e-4)
            assert line["health"]["rankme"] == pytest.approx(same["health"]["rankme"], rel=1e-3)
        for key, value in load_file(tmp_path / name / "method.safetensors").items():
            torch.testing.assert_close(value, weights[key], rtol=1e-3, atol=1e-5, msg=f"{name}: {key}")
    # four pieces that know nothing of each other are another objective
    assert logged(tmp_path / "others")[0]["loss"] < one[0]["loss"] - 0.5
    left = load_method(tmp_path / "ranks").encoders()
    assert left.keys() == {"image", "text"}
