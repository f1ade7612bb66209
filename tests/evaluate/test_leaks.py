"""Leak audits: shortcuts are what they say, and a network that has learned one is found out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from order_videos import noise, write_videos
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from mmssl.errors import MmsslError
from mmssl.evaluate import Score, Subject, evaluate, parse_evaluation
from mmssl.evaluate.leaks import batch_statistics, change
from mmssl.evaluate.shortcuts import SHORTCUTS, clock
from mmssl.methods import DataInfo, build_method
from mmssl.methods.base import Method
from mmssl.stream import Source, Stream, StreamConfig
from mmssl.stream.batch import Batch
from mmssl.stream.views.draws import Draws

BATCH = 32


def draws(count: int) -> Draws:
    return Draws(0, "clip", np.arange(count), np.zeros(count, dtype=np.int64))


def frames(b: int = 3, t: int = 4, size: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (b, t, 3, size, size), dtype=torch.uint8, generator=generator)


def times(b: int = 3, t: int = 4) -> Tensor:
    return torch.rand(b, t, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 9


@pytest.mark.parametrize("name", SHORTCUTS)
def test_frames_keep_their_shape_and_are_changed_in_the_same_way_every_time(name: str) -> None:
    x = frames()
    before = x.clone()
    y = change(x, times(), name, draws(3))
    assert y.shape == x.shape
    assert y.dtype == torch.uint8
    assert torch.equal(x, before)
    assert not torch.equal(x, y)
    assert torch.equal(y, change(x, times(), name, draws(3)))
    assert torch.equal(y[1:2], change(x[1:2], times()[1:2], name, draws(3).rows([1])))
    cameras = change(x.unflatten(1, (2, 2)), times().unflatten(1, (2, 2)), name, draws(3))
    assert torch.equal(cameras, y.unflatten(1, (2, 2)))


def test_the_clock_runs_from_a_samples_first_moment_to_its_last() -> None:
    given = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]], dtype=torch.float64)
    assert clock(given).tolist() == [[1.0, 0.0, 0.5], [0.0, 0.0, 0.0]]


def test_planted_shortcuts_show_the_time_and_nothing_else_changes() -> None:
    x, t = frames(), times()
    y = change(x, t, "counter", draws(3))
    share = (t - t.amin(1, keepdim=True)) / (t.amax(1, keepdim=True) - t.amin(1, keepdim=True))
    assert (y[..., :4, :4].double() / 255 - share[:, :, None, None, None]).abs().max() < 0.003
    changed = (x != y).any(dim=2)
    changed[..., :4, :4] = False
    assert not changed.any()
    y = change(x, t, "borders", draws(3))
    for row in range(3):
        for column in range(4):
            height = round(float(share[row, column]) * 24 / 6)
            assert torch.equal(
                y[row, column, :, height : 24 - height], x[row, column, :, height : 24 - height]
            )
            assert y[row, column, :, :height].sum() + y[row, column, :, 24 - height :].sum() == 0


def test_what_is_taken_away_is_gone() -> None:
    x, t = frames(), times()
    bordered = x.clone()
    bordered[..., :3, :] = bordered[..., -3:, :] = bordered[..., :3] = bordered[..., -3:] = 0
    torch.testing.assert_close(change(bordered, t, "trimmed", draws(3)), change(x, t, "trimmed", draws(3)))
    green = change(x, t, "one_channel", draws(3))
    assert all(torch.equal(green[:, :, c], x[:, :, 1]) for c in range(3))
    blurred = change(x, t, "blurred", draws(3))[1, 2, 0].numpy()
    reference = gaussian_filter(x[1, 2, 0].double().numpy(), 1.0, mode="mirror", truncate=8.0)
    assert abs(blurred - reference).max() <= 1
    flat = torch.full((2, 5, 3, 16, 16), 100, dtype=torch.uint8)
    coloured = change(flat, times(2, 5), "recoloured", draws(2))
    assert (coloured.amax((3, 4)) == coloured.amin((3, 4))).all()
    assert coloured[..., 0, 0].unique().numel() > 15  # of 30 draws
    assert 50 <= int(coloured.min()) <= int(coloured.max()) <= 150


def test_recompression_keeps_the_picture_and_its_colours() -> None:
    x = torch.zeros(1, 3, 3, 32, 32, dtype=torch.uint8)
    x[:, :, 0], x[:, :, 1], x[:, :, 2, :, 16:] = 200, 90, 30
    y = change(x, times(1, 3), "recompressed", draws(1))
    assert (y.float().mean((3, 4)) - x.float().mean((3, 4))).abs().max() < 4
    assert not torch.equal(y[0, 0], y[0, 1])  # the grid of every frame lies elsewhere


def test_batch_statistics_are_those_of_training_and_leave_no_trace() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    x = 3 + 2 * torch.randn(64, 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode(), batch_statistics(network):
        y = network(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, drawn anew for every frame: without a shortcut nobody can tell the order."""
    root = tmp_path_factory.mktemp("leaks") / "noise"
    return write_videos(root, noise, {"train": 2 * BATCH, "val": 2 * BATCH})


def method_of(norm: str | None = None) -> Method:
    torch.manual_seed(0)
    kwargs: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
    if norm is not None:
        kwargs |= {"norm_layer": norm, "channels": [32, 32, 32, 64]}
    net = {
        "encoder": {"name": "resnet18", "stem": "small_stride2", "image_size": 24, "kwargs": kwargs},
        "pool": "flatten",
        "width": 16,
    }
    encoder = {"kind": "frames", "net": net, "frames": 2, "stride": 0.5, "fuse": "concat"}
    settings = {"task": "arrow", "encoder": encoder, "dropout": 0.0, "augmentation": None}
    return build_method({"name": "order", **settings}, DataInfo(2 * BATCH, frozenset({"video"})))


def scores(method: Method, videos: Path, folder: Path | None = None, **settings: Any) -> dict[str, Score]:
    subject = Subject(method.encoders(), videos, method=method, seed=3, folder=folder)
    config = parse_evaluation({"name": "leaks", "batch_size": BATCH, **settings}, "test")
    return {score.metric: score for score in evaluate(subject, [config])}


def train(method: Method, videos: Path, shortcut: str | None, steps: int = 30) -> None:
    stream = Stream(
        StreamConfig(sources=(Source(shards=str(videos)),), workers=0, block=4, window=16),
        method.views,
        batch_size=BATCH,
        seed=0,
        finish_on="device",
    )
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    method.train()
    for batch in stream.batches(steps=steps):
        clip = batch.clip
        if shortcut is not None:
            planted = SHORTCUTS[shortcut].change(clip["frames"], clip["times"], draws(BATCH))
            batch = Batch({**batch, "clip": {**clip, "frames": planted}})
        loss = method(stream.finish(batch)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_network_that_has_learned_a_planted_counter_is_found_out(videos: Path, tmp_path: Path) -> None:
    method = method_of()
    train(method, videos, "counter")
    found = scores(method, videos, tmp_path)
    own, counted = found["as it is"], found["change by counter"]
    assert own.chance == 50
    assert abs(own.value - 50) < 20  # without its counter it guesses, on 64 videos
    assert own.value + counted.value > 90
    assert counted.value > 25
    assert abs(found["change by one_channel"].value) < 25
    assert "change by batch_statistics" in found
    assert "planted" in counted.protocol
    assert counted.unit == "points"
    figure = json.loads((tmp_path / "figures" / "leaks.json").read_text())
    assert figure["series"]["arrow_of_time"][0] == counted.value
    assert figure["protocol"].startswith("1 counter: planted")


def test_a_network_that_never_met_a_counter_does_not_use_it(videos: Path) -> None:
    method = method_of()
    train(method, videos, None, steps=15)
    found = scores(method, videos, audits=["counter"])
    assert set(found) == {"as it is", "change by counter"}
    assert found["as it is"].value + found["change by counter"].value < 75


def test_untouched_frames_are_those_of_the_pretext_evaluation(videos: Path) -> None:
    method = method_of("groupnorm")
    subject = Subject(method.encoders(), videos, method=method, seed=3)
    configs = [parse_evaluation({"name": name, "batch_size": BATCH}, "test") for name in ("pretext", "leaks")]
    asked = evaluate(subject, configs)
    assert asked[0].evaluation == "pretext/arrow_of_time"
    assert asked[1].evaluation == "leaks/arrow_of_time"
    assert asked[1].value == pytest.approx(asked[0].value)
    assert not any("batch_statistics" in score.metric for score in asked)  # it has no BatchNorm


def test_questions_that_cannot_be_asked_are_refused(videos: Path) -> None:
    method = method_of()
    with pytest.raises(MmsslError, match="audits: expected some of counter, borders"):
        parse_evaluation({"name": "leaks", "audits": ["watermark"]}, "test")
    config = parse_evaluation({"name": "leaks"}, "test")
    with pytest.raises(MmsslError, match="no method beside the encoder"):
        evaluate(Subject(method.encoders(), videos), [config])
    config = parse_evaluation({"name": "leaks", "batch_size": 1000}, "test")
    with pytest.raises(MmsslError, match="at least 1000 readable samples"):
        evaluate(Subject(method.encoders(), videos, method=method), [config])
