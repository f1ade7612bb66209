"""Resume with the real stream, shards and methods: queue, momentum encoder, batch norm, random views."""

import io
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_tiny import lines, losses
from PIL import Image
from safetensors.torch import load_file

from mmssl.engine import TrainConfig, seed_everything, train
from mmssl.errors import MmsslError, Preempted
from mmssl.methods import build_method
from mmssl.methods.base import DataInfo, Method
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard
from mmssl.stream import Source, Stream, StreamConfig

ENCODER = {"name": "resnet10t", "image_size": 32, "kwargs": {"channels": [8, 16, 24, 32]}}
METHODS: dict[str, dict[str, Any]] = {
    "simclr": {"name": "simclr", "encoder": ENCODER},
    "moco_v2": {"name": "moco_v2", "encoder": ENCODER, "queue": 20},
    "mae": {
        "name": "mae",
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_heads": 2,
        "encoder": {
            "name": "vit_tiny_patch16_224",
            "image_size": 32,
            "kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
        },
    },
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 pictures of noise, one of them cut short."""
    root = tmp_path_factory.mktemp("shards")
    generator = np.random.default_rng(0)
    rows = []
    for number in range(20):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), np.uint8)).save(file, "jpeg")
        data = file.getvalue()
        rows.append(RawSample(f"k{number:03d}", {"image.jpg": data[:300] if number == 7 else data}))
    written = write_shard(root / "train/000000.tar", rows)
    written.index.at(0).save(root / "train/000000.index")
    shard = Shard(
        file="train/000000.tar",
        index="train/000000.index",
        samples=20,
        first_id=0,
        bytes=written.index.tar_bytes,
        sha256=written.sha256,
    )
    splits = {"train": Split(samples=20, shards=(shard,))}
    Manifest(name="noise", splits=splits, fields={"image": 1.0}, classes={}).save(root)
    return root


def run(shards: Path, folder: Path, name: str, stop_after: int | None = None, **stream: Any) -> Method:
    config = TrainConfig(passes=4, batch_size=8, precision="fp32", log_every=1, accumulate=2)
    seed_everything(config.seed)
    method = build_method(METHODS[name], DataInfo(20))
    settings = {"workers": 0, **stream}
    finish_on = settings.pop("finish_on", "worker")
    data = StreamConfig(sources=(Source(shards=str(shards)),), **settings)
    source = Stream(data, method.views, batch_size=8, seed=config.seed, finish_on=finish_on)
    if stop_after is not None:
        after_step, steps = method.after_step, iter(range(1, 100))

        def stopping(progress: float) -> None:
            after_step(progress)
            if next(steps) == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)

        method.after_step = stopping  # type: ignore[method-assign]
    train(method, source, config, folder, provenance={})
    return method


@pytest.mark.parametrize("name", list(METHODS))
def test_resume_is_exact_with_the_real_parts(name: str, shards: Path, tmp_path: Path) -> None:
    """Stopped after 4 of 10 steps; views finished on the device instead of in the worker change nothing."""
    run(shards, tmp_path / "whole", name)
    with pytest.raises(Preempted):
        run(shards, tmp_path / "run", name, stop_after=3)
    run(shards, tmp_path / "run", name, finish_on="device")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert len(lines(tmp_path / "whole")) == 10
    final = "checkpoints/step-00000010/method.safetensors"
    ours, theirs = load_file(tmp_path / "run" / final), load_file(tmp_path / "whole" / final)
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[key] == theirs[key]).all()) for key in ours)
    assert "k007" in (tmp_path / "whole/quarantine.jsonl").read_text()
    assert (tmp_path / "run/encoders/image/encoder.safetensors").is_file()
    if name == "mae":
        assert list((tmp_path / "run/pictures").glob("*.png"))


def test_workers_may_change_and_the_order_may_not(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path / "whole", "simclr")
    with pytest.raises(Preempted):
        run(shards, tmp_path / "run", "simclr", stop_after=5)
    with pytest.raises(MmsslError, match=r"stream\.block: 256 → 4"):
        run(shards, tmp_path / "run", "simclr", block=4)
    run(shards, tmp_path / "run", "simclr", workers=1)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
