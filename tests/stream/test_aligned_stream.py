"""Aligned views through the stream: missing modalities, faults, and the same numbers whoever reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_stream import LENIENT, config_of

from mmssl.shards import encode
from mmssl.stream.batch import Batch
from mmssl.stream.loader import FinishOn, Stream
from mmssl.stream.views.aligned import AlignedViews, CropFlip
from mmssl.stream.views.shown import Shown

Make = Callable[..., Path]

SHOWN = {
    "L": Shown("L", "image", 8, 1, (50.0,), (25.0,)),
    "ab": Shown("ab", "image", 8, 2, (0.0,) * 2, (20.0,) * 2),
    "depth": Shown("depth", "depth", 8, 2, (0.7, 0.0), (0.7, 1.0), optional=True),
}


def with_depth(number: int) -> dict[str, bytes]:
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    members = {"image.png": encode.png(image), "meta.json": json.dumps({"n": number}).encode()}
    # The even ones have depth, at half the resolution.
    return members | ({} if number % 2 else {"depth.png": encode.depth_png(rng.uniform(1, 5, (6, 8)))})


@pytest.fixture
def rooms(make_set: Make) -> Path:
    return make_set([16, 14], instead={number: with_depth(number) for number in range(30)})


def batches(root: Path, steps: int, workers: int = 0, finish_on: FinishOn = "worker") -> list[Batch]:
    views = {"views": AlignedViews(SHOWN, CropFlip())}
    stream = Stream(
        config_of(root, workers=workers, faults=LENIENT), views, batch_size=6, seed=3, finish_on=finish_on
    )
    return [stream.finish(batch) for batch in stream.batches(steps=steps)]


def test_half_of_the_samples_have_depth(rooms: Path) -> None:
    for batch in batches(rooms, 10):
        even = batch.id % 2 == 0
        assert torch.equal(batch.views["present"], torch.stack([even >= 0, even >= 0, even], 1))
        assert torch.equal(batch.views["depth"].flatten(1).any(1), even)
        assert batch.views["depth"].isfinite().all()


def test_a_sample_looks_the_same_whoever_reads_it_and_anew_in_every_pass(rooms: Path) -> None:
    here, there = batches(rooms, 10), batches(rooms, 10, workers=2)
    seen: dict[tuple[int, int], torch.Tensor] = {}
    for a, b in zip(here, there, strict=True):
        for name in (*SHOWN, "present"):
            assert torch.equal(a.views[name], b.views[name])
        seen |= {(int(i), int(p)): x for i, p, x in zip(a.id, a.pass_, a.views["L"], strict=True)}
    assert len(seen) == 60
    assert not any(torch.equal(seen[id_, 0], seen[id_, 1]) for id_ in range(30))
    for a, b in zip(here, batches(rooms, 3, finish_on="device"), strict=False):
        assert all(torch.equal(a.views[name], b.views[name]) for name in (*SHOWN, "present"))


def test_depth_of_another_shape_is_a_fault_with_both_sizes(make_set: Make) -> None:
    content = {number: with_depth(number) for number in range(12)}
    content[4]["depth.png"] = encode.depth_png(np.ones((6, 6)))
    found = batches(make_set([12], instead=content), 2)
    [fault] = [fault for batch in found for fault in batch.faults]
    assert (fault.key, fault.field) == ("k00004", "depth")
    assert "6x6" in fault.reason and "16x12" in fault.reason  # noqa: PT018
    assert all(len(batch) == 6 and 4 not in batch.id.tolist() for batch in found)
