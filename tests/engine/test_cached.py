"""Two passes over micro-batches against one graph over the whole batch."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from engine_tiny import FakeStream, Tiny, TinyConfig, lines, losses
from torch import Tensor, nn
from torch.distributed import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel
from two_towers import TwoTowers, TwoTowersConfig, by_hand

from mmssl.engine import TrainConfig, seed_everything, train
from mmssl.engine.cache import TwoPasses
from mmssl.engine.setup import Precision, prepare
from mmssl.engine.step import MicroBatches
from mmssl.errors import MmsslError
from mmssl.methods import build_method
from mmssl.methods.base import DataInfo, Loss, Method, TwoPart
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SAMPLES = 24


def config(accumulate: int, **settings: Any) -> TrainConfig:
    return TrainConfig(steps=6, batch_size=SAMPLES, accumulate=accumulate, cached=True, **settings)


def towers(**settings: Any) -> TwoTowers:
    torch.manual_seed(1)
    return TwoTowers(TwoTowersConfig(**settings), DataInfo(SAMPLES)).double().train()


def seen(part: slice = slice(None)) -> Batch:
    """Part of a global batch of 24 samples, always the same; shares no image with itself."""
    images = torch.randn(SAMPLES, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return Batch(id=torch.arange(SAMPLES), key=["?"] * SAMPLES, label={}, image=images).rows(part)


def two_passes(method: Method, batch: Batch, accumulate: int, precision: Precision = "fp32") -> Loss:
    passes = TwoPasses(FakeStream(SAMPLES), accumulate, precision, CPU)
    return passes.forward_backward(prepare(method, config(accumulate), CPU), batch)


def gradients(method: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def whole_graph(method: TwoTowers, shares: list[list[Batch]], seeds: list[int]) -> tuple[Tensor, Any]:
    """Loss and gradient of all ranks' micro-batches in one graph, each rank with its own random numbers."""
    embedded: dict[str, list[Tensor]] = {"image": [], "text": []}
    for share, seed in zip(shares, seeds, strict=True):
        seed_everything(seed)
        for part in share:
            e = method.embed(part)
            for name, pieces in embedded.items():
                pieces.append(e[name])
    loss = by_hand(method, torch.cat(embedded["image"]), torch.cat(embedded["text"]))
    method.zero_grad()
    loss.backward()
    return loss.detach(), gradients(method)


def assert_equal(ours: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    assert ours.keys() == exact.keys()
    assert {"logit_scale", "shift", "image.branch.weight", "text.layers.0.weight"} <= ours.keys()
    for name, value in exact.items():
        assert value.abs().max() > 1e-5, name
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("accumulate", [2, 4, 24])
def test_gradients_are_those_of_one_graph_with_dropout(accumulate: int) -> None:
    method, batch = towers(), seen()
    exact_loss, exact = whole_graph(method, [batch.chunks(accumulate)], [7])
    after = torch.rand(1)
    seed_everything(7)
    loss = two_passes(method, batch, accumulate)
    assert torch.equal(torch.rand(1), after)  # the second pass draws nothing of its own
    torch.testing.assert_close(loss.total, exact_loss.float())
    assert_equal(gradients(method), exact)
    assert loss.embedding is not None
    assert loss.embedding.shape == (SAMPLES, 12)
    assert loss.parts == {"negatives": torch.tensor(23.0)}
    assert not loss.total.requires_grad
    # without the replay it would be another gradient
    two_passes(method, batch, accumulate)
    with pytest.raises(AssertionError):
        assert_equal(gradients(method), exact)


def test_without_dropout_it_is_the_batch_in_one_piece_and_accumulation_is_not() -> None:
    method, batch = towers(dropout=0.0), seen()
    method(batch).total.backward()
    exact = gradients(method)
    two_passes(method, batch, 4)
    assert_equal(gradients(method), exact)
    MicroBatches(FakeStream(SAMPLES), 4, "fp32", CPU).forward_backward(method, batch)
    with pytest.raises(AssertionError):
        assert_equal(gradients(method), exact)


def on_ranks(rank: int, world: int) -> None:
    share = SAMPLES // world
    shares = [seen(slice(r * share, (r + 1) * share)).chunks(3) for r in range(world)]
    method = towers()
    exact_loss, exact = whole_graph(method, shares, [20 + r for r in range(world)])
    model = prepare(method, config(3), CPU)
    assert isinstance(model, DistributedDataParallel)
    buckets = []

    def counted(state: object, bucket: GradBucket) -> Future[Tensor]:
        buckets.append(bucket.index())
        return (
            dist.all_reduce(bucket.buffer().div_(world), async_op=True)
            .get_future()
            .then(lambda done: done.value()[0])
        )

    model.register_comm_hook(None, counted)
    passes = TwoPasses(FakeStream(SAMPLES), 3, "fp32", CPU)
    for _ in range(2):  # the second time DDP has seen the first
        buckets.clear()
        seed_everything(20 + rank)
        loss = passes.forward_backward(model, seen(slice(rank * share, (rank + 1) * share)))
        assert_equal(gradients(method), exact)
        assert len(buckets) == len(set(buckets)) > 0  # gradients travelled once
        total = loss.total.clone()
        dist.all_reduce(total)
        torch.testing.assert_close(total / world, exact_loss.float())
        assert loss.parts["negatives"] == 23


def test_two_ranks_have_the_gradient_of_the_global_batch(ranks: Callable[..., None]) -> None:
    ranks(on_ranks, 2)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_batch_norms_take_in_each_micro_batch_once(accumulate: int) -> None:
    method, batch = towers(batch_norm=True, dropout=0.0), seen()
    _, exact = whole_graph(method, [batch.chunks(accumulate)], [7])
    fresh = towers(batch_norm=True, dropout=0.0)
    two_passes(fresh, batch, accumulate)
    assert_equal(gradients(fresh), exact)
    norm = fresh.image.layers[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert int(norm.num_batches_tracked) == accumulate
    # the last micro-batch comes first, as its graph is kept
    *early, last = batch.chunks(accumulate)
    mean = torch.zeros(12, dtype=torch.float64)
    for part in (last, *early):
        mean = 0.9 * mean + 0.1 * fresh.image.layers[0](part.image.flatten(1)).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, mean.detach())


def test_bf16_is_the_same_in_both_passes() -> None:
    method, batch = towers().float(), seen()
    batch["image"] = batch.image.float()
    seed_everything(7)
    with torch.autocast("cpu", torch.bfloat16):
        embedded = [method.embed(part) for part in batch.chunks(4)]
        joined = {name: torch.cat([e[name] for e in embedded]) for name in embedded[0]}
        method.loss_of(joined, batch).total.backward()
    exact = gradients(method)
    seed_everything(7)
    two_passes(method, batch, 4, "bf16")
    for name, value in gradients(method).items():
        error = (value - exact[name]).norm() / exact[name].norm()
        assert error < 0.01, name
    method.zero_grad()
    seed_everything(7)
    two_passes(method, batch, 4, "fp32")
    assert (method.image.branch.weight.grad - exact["image.branch.weight"]).abs().max() > 1e-6


@contextmanager
def graph_bytes(method: nn.Module) -> Iterator[list[int]]:
    """Bytes that graphs hold beside parameters: [now, at most]."""
    held = [0, 0]
    own = {parameter.untyped_storage().data_ptr() for parameter in method.parameters()}

    class Saved:
        def __init__(self, x: Tensor) -> None:
            self.x = x
            known = x.untyped_storage().data_ptr() in own
            self.bytes = 0 if known else x.numel() * x.element_size()
            held[0] += self.bytes
            held[1] = max(held)

        def __del__(self) -> None:
            held[0] -= self.bytes

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.x):
        yield held


def test_graphs_are_never_larger_than_a_micro_batch_and_the_loss() -> None:
    method, batch = towers(), seen()
    with graph_bytes(method) as whole:
        two_passes(method, batch, 2)
    with graph_bytes(method) as one:
        e = method.embed(batch.chunks(12)[0])
    del e
    leaves = {name: x.detach() for name, x in method.embed(batch).items()}
    for name in ("image", "text"):
        leaves[name].requires_grad_()
    with graph_bytes(method) as comparison:
        total = method.loss_of(leaves, batch).total
    del total
    with graph_bytes(method) as cached:
        two_passes(method, batch, 12)
    assert cached[0] == whole[0] == 0
    assert 0 < cached[1] <= one[1] + comparison[1]
    with graph_bytes(method) as plain:
        method(batch)
    assert plain[1] > 5 * one[1] + comparison[1]


def run(folder: Path) -> TwoTowers:
    settings = config(4, log_every=1, checkpoint_every=3, keep=5, precision="fp32")
    seed_everything(settings.seed)
    method = TwoTowers(TwoTowersConfig(batch_norm=True), DataInfo(SAMPLES))
    stream = FakeStream(SAMPLES, finish_on="device", samples=40)
    train(method, stream, settings, folder, provenance={"command": "test"})
    return method


def test_a_run_with_it_learns_logs_and_goes_on_exactly(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    assert lines(tmp_path / "whole")[-1]["parts"] == {"negatives": 23.0}
    assert lines(tmp_path / "whole")[-1]["health"]["rankme"] > 1
    shutil.copytree(tmp_path / "whole/checkpoints/step-00000003", tmp_path / "on/checkpoints/step-00000003")
    shutil.copy(tmp_path / "whole/log.jsonl", tmp_path / "on/log.jsonl")
    again = run(tmp_path / "on")
    assert losses(tmp_path / "on") == losses(tmp_path / "whole")
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_run_without_it_is_called_what_it_was_called_before() -> None:
    """Settings of runs made before there was such a key still match."""
    plain = TrainConfig(steps=1)
    assert "cached" not in plain.model_dump(mode="json")
    assert json.loads(config(4).model_dump_json())["cached"] is True
    assert TrainConfig(**plain.model_dump()) == plain
    assert "cached" in TrainConfig.model_json_schema()["properties"]


def test_what_cannot_be_cached_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cached: expected accumulate > 1"):
        config(1)
    with pytest.raises(ValueError, match="cached: expected compile: false"):
        config(2, compile=True)
    with pytest.raises(MmsslError, match=r"train\.cached: Tiny does not tell embeddings from loss"):
        train(Tiny(TinyConfig(), DataInfo(20)), FakeStream(24), config(2), tmp_path, provenance={})
    assert not (tmp_path / "log.jsonl").exists()


def test_simclr_sees_the_negatives_of_the_whole_batch() -> None:
    encoder = {
        "name": "vit_tiny_patch16_224",
        "image_size": 8,
        "kwargs": {"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2},
    }
    torch.manual_seed(0)
    settings = {"name": "simclr", "encoder": encoder, "projector": (16, 8), "batch_norm": "local"}
    method = build_method(settings, DataInfo(SAMPLES)).train()
    assert isinstance(method, TwoPart)
    batch = seen()
    batch["image"] = torch.stack([batch.image, batch.image.flip(-1)], dim=1).float()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()  # the one thing in which micro-batches differ from the batch
    method(batch).total.backward()
    exact = gradients(method)
    two = TwoPasses(FakeStream(SAMPLES), 4, "fp32", CPU)
    model = prepare(method, config(4), CPU)
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    loss = two.forward_backward(model, batch)
    assert loss.parts["negatives"] == 2 * SAMPLES - 2
    for name, value in gradients(method).items():
        torch.testing.assert_close(value, exact[name], rtol=1e-4, atol=1e-6, msg=name)
