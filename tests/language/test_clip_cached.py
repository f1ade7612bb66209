"""CLIP, SigLIP and MS-CLIP in two passes, on one rank and two, against losses written out over all pairs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captioned_stills import SIZE, made, seen
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmssl.engine import TrainConfig, seed_everything
from mmssl.engine.cache import TwoPasses
from mmssl.engine.setup import prepare
from mmssl.methods.language.towers import ImageText
from mmssl.stream import Quarantine, Source, StreamConfig
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ["a cat", "a dog", "snow", "rain", "a cat", "a red kite", "two birds", "a boat"]
CPU = torch.device("cpu")
VIT = {
    "name": "vit_tiny_patch16_224",
    "image_size": SIZE,
    "kwargs": {
        "patch_size": 16,
        "depth": 2,
        "embed_dim": 24,
        "num_heads": 2,
        "drop_path_rate": 0.4,
        "proj_drop_rate": 0.2,
    },
}
BERT = {"kind": "bert", "width": 24, "heads": 2, "layers": 1, "context": 8, "dropout": 0.2}
SETTINGS: dict[str, dict[str, Any]] = {
    "clip": {"image": VIT, "text": BERT},
    "siglip": {"image": VIT, "text": BERT},
    "ms_clip": {"image": VIT, "text": {"kind": "clip", "context": 8}},
}


class Finished:
    """What ``TwoPasses`` asks of a stream whose batches are ready."""

    samples_per_pass = len(WORDS)
    config = StreamConfig(sources=(Source(shards="in memory"),))
    quarantine = Quarantine(config.faults)

    def batches(self, consumed: int = 0, steps: int | None = None) -> Any:
        raise NotImplementedError

    def finish(self, batch: Batch) -> Batch:
        return batch


def all_pairs(method: ImageText, image: Tensor, text: Tensor) -> Tensor:
    """The loss of the global batch; samples 0 and 4, of two ranks, have the same caption."""
    alike = torch.zeros(8, 8, dtype=torch.bool)
    alike[0, 4] = alike[4, 0] = True
    logits = method.logit_scale.exp() * image @ text.T
    if method.config.name == "siglip":
        sign = 2 * torch.eye(8, dtype=torch.float64) - 1
        return -logsigmoid(sign * (logits + method.logit_bias))[~alike].sum() / 8
    logits = logits.masked_fill(alike, -torch.inf)
    own = logits.diagonal()
    return -(2 * own - logits.logsumexp(0) - logits.logsumexp(1)).mean() / 2


def gradients(method: ImageText) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def compare(rank: int, world: int, name: str, pieces: int) -> None:
    share = len(WORDS) // world
    method = made(name, **SETTINGS[name]).double()
    batch = seen(method, WORDS)
    batch["image"] = batch.image.double()
    shares = [batch.rows(slice(r * share, (r + 1) * share)) for r in range(world)]
    embedded = []
    for number, mine in enumerate(shares):
        seed_everything(5 + number)
        embedded += [method.embed(part) for part in mine.chunks(pieces)]
    exact_loss = all_pairs(method, *(torch.cat([e[side] for e in embedded]) for side in ("image", "text")))
    exact_loss.backward()
    exact = gradients(method)

    config = TrainConfig(steps=1, batch_size=len(WORDS), accumulate=pieces, cached=True)
    passes = TwoPasses(Finished(), pieces, "fp32", CPU)
    model = prepare(method, config, CPU)
    seed_everything(5 + rank)
    loss = passes.forward_backward(model, shares[rank])
    ours = gradients(method)
    assert ours.keys() == exact.keys() == dict(method.named_parameters()).keys()
    for key, value in exact.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-8, atol=1e-11, msg=key)
    assert ours["logit_scale"].abs() > 1e-4
    assert loss.parts["duplicates"].item() == 0.25


def on_ranks(rank: int, world: int) -> None:
    for name in SETTINGS:
        compare(rank, world, name, 2)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("pieces", [2, 8])
def test_gradients_are_those_of_the_whole_batch(name: str, pieces: int) -> None:
    compare(0, 1, name, pieces)


def test_and_of_the_global_batch_of_two_ranks(ranks: Callable[..., None]) -> None:
    ranks(on_ranks, 2)
