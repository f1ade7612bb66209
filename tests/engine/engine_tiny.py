"""A method and a stream small enough to train in a second, with everything that makes resuming hard:

dropout (global generators), batch norm, a momentum copy and a queue. As a script (``engine_tiny.py FOLDER``)
it runs one short training, for torchrun to start.
"""

import copy
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmssl import distributed
from mmssl.engine import TrainConfig, process_group, seed_everything, train
from mmssl.errors import EXIT_PREEMPTED, Preempted
from mmssl.methods.base import DataInfo, Loss, Method, MethodConfig
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.stream import Quarantine, Source, StreamConfig
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View

ENCODER = EncoderConfig(
    name="vit_tiny_patch16_224",
    image_size=8,
    kwargs={"patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2},
)


class TinyConfig(MethodConfig):
    name: str = "tiny"
    encoder: EncoderConfig = ENCODER
    temperature: float = 0.2
    bad_at: int | None = None
    """Return a loss that is not a number at this step."""
    queue: int = 24
    norm: bool = True
    """Batch norm and dropout in the head."""


class Tiny(Method):
    """Contrast against a queue of keys from a momentum copy, as MoCo does."""

    Config = TinyConfig

    def __init__(self, config: TinyConfig, data: DataInfo, record: Path | None = None) -> None:
        super().__init__(config, data)
        self.encoder = build_encoder(config.encoder)
        extras = [nn.BatchNorm1d(8), nn.Dropout(0.3)] if config.norm else []
        self.head = nn.Sequential(nn.Linear(8, 8), *extras)
        self.slow = copy.deepcopy(self.encoder).requires_grad_(False)
        self.register_buffer("queue", torch.randn(config.queue, 8))
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))
        self.record = record
        self.keys: list[Tensor] = []

    @property
    def views(self) -> Mapping[str, View]:
        return {}

    def forward(self, batch: Batch) -> Loss:
        if self.record is not None:
            for id_ in distributed.gather(batch.id).tolist():
                if distributed.is_main():
                    with open(self.record, "a") as file:
                        file.write(f"{int(self.steps_seen) + 1} {id_}\n")
        q = self.head(self.encoder(batch.image))
        with torch.no_grad():
            k = self.slow(batch.image)
        self.keys.append(distributed.gather(k, gradient=False))
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.T], dim=1)
        total = -logits.div(self.config.temperature).log_softmax(1)[:, 0].mean()
        if self.config.bad_at == int(self.steps_seen) + 1:
            total = total * float("nan")
        parts = {"top1": (logits.argmax(1) == 0).float().mean()}
        return Loss(total, parts, q.detach())

    def after_step(self, progress: float) -> None:
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.encoder.parameters(), strict=True):
                slow.lerp_(fast, 0.1 * (1 - progress))
        keys = torch.cat(self.keys)
        self.queue = torch.cat([self.queue, keys])[-len(self.queue) :]
        self.keys = []
        self.steps_seen += 1

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        return {"inputs": batch.image[:4].sigmoid()}


class FakeStream:
    """Images that follow from their id; each pass is a permutation that follows from the pass."""

    def __init__(
        self, batch_size: int, samples: int = 20, finish_on: str = "worker", pause: float = 0.0
    ) -> None:
        self.batch_size, self.samples, self.finish_on, self.pause = batch_size, samples, finish_on, pause
        self.closed = 0
        self.config = StreamConfig(sources=(Source(shards="in memory"),))
        self.quarantine = Quarantine(self.config.faults)
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randn(samples, 3, 8, 8, generator=generator)

    @property
    def samples_per_pass(self) -> int:
        return self.samples

    def at(self, position: int) -> tuple[int, int]:
        pass_, row = divmod(position, self.samples)
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(pass_))
        return int(order[row]), pass_

    def batches(self, consumed: int = 0, steps: int | None = None) -> Iterator[Batch]:
        share = self.batch_size // distributed.world_size()
        try:
            while steps is None or steps > 0:
                start = consumed + share * distributed.rank()
                ids, passes = zip(*[self.at(p) for p in range(start, start + share)], strict=True)
                time.sleep(self.pause)
                batch = Batch(
                    id=torch.tensor(ids),
                    pass_=torch.tensor(passes),
                    key=[str(id_) for id_ in ids],
                    label={},
                    image=self.images[list(ids)],
                )
                yield batch if self.finish_on == "device" else self.finish_now(batch)
                consumed += self.batch_size
                steps = None if steps is None else steps - 1
        finally:
            self.closed += 1

    def finish(self, batch: Batch) -> Batch:
        return self.finish_now(batch) if self.finish_on == "device" else batch

    def finish_now(self, batch: Batch) -> Batch:
        batch["image"] = batch["image"] * 0.5
        return batch


def start(
    folder: Path,
    train_config: Mapping[str, Any],
    method: Mapping[str, Any] | None = None,
    record: Path | None = None,
    **stream: Any,
) -> Tiny:
    """Build and train; the settings are those a test wants to differ."""
    config = TrainConfig(
        **{"steps": 12, "batch_size": 4, "log_every": 1, "precision": "fp32", **train_config}
    )
    fake = FakeStream(config.batch_size, **stream)
    seed_everything(config.seed)
    tiny = Tiny(TinyConfig(**(method or {})), DataInfo(fake.samples), record)
    train(tiny, fake, config, folder, provenance={"command": "test"})
    return tiny


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def losses(folder: Path) -> dict[int, tuple[float, float]]:
    """Step to (loss, gradient norm), which pins the whole state of training."""
    found = {line["step"]: (line["loss"], line["grad_norm"]) for line in lines(folder)}
    assert len(found) == len(lines(folder)), "a step appears twice in the log"
    return found


def rank_main(environment: Mapping[str, str], folder: Path, arguments: Mapping[str, Any]) -> None:
    """The whole life of one rank; the exit codes are those of the command line."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    with process_group():
        try:
            start(folder, **arguments)
        except Preempted:
            sys.exit(EXIT_PREEMPTED)


if __name__ == "__main__":
    settings = {"batch_size": 8, "optimizer": {"base_lr": 0.1}}
    rank_main({}, Path(sys.argv[1]), {"train_config": settings, "method": {"norm": False}})
