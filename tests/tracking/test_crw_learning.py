"""What walks teach: to find patches of videos never seen again, and to carry the mask of an object along."""

from pathlib import Path

import numpy as np
import pytest
import torch
from order_videos import write_videos
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.methods import DataInfo, Method, build_method
from mmssl.methods.tracking.crw import CRW
from mmssl.miniworld import Clip, MiniworldConfig, clip
from mmssl.models.feature_map import FeatureMap
from mmssl.stream import Source, Stream, StreamConfig
from mmssl.stream.views.photometric import normalise

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN, VAL, STEPS, FRAMES = 120, 40, 45, 9
WORLD = MiniworldConfig(size=64)
NET = {
    "image_size": 64, "stem": "small_stride2",
    "kwargs": {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 64]},
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crw") / "world"
    return write_videos(root, lambda index: clip("train", index, WORLD).frames, {"train": TRAIN, "val": VAL})


def held_out(method: Method, world: Path) -> list[float]:
    """Cycle accuracy on the val split in %, of 1, 2 and 3 frames ahead."""
    subject = Subject(method.encoders(), world, method=method)
    scores = evaluate(subject, [parse_evaluation({"name": "pretext", "batch_size": 20}, "test")])
    return [score.value for score in scores]


@torch.no_grad()
def carried(method: CRW, clips: list[Clip]) -> float:
    """Mean IoU, in the last of 9 frames, of the object's mask carried along from the first one.

    Each cell takes the mask of its 5 nearest cells in the first and the last 3 frames, among those at most a
    quarter of the frame away.
    """
    features = FeatureMap(method.encoder.eval(), 3)
    ious = []
    for one in clips:
        frames = torch.from_numpy(one.frames[:FRAMES]).permute(0, 3, 1, 2)
        q = normalize(features(normalise(frames, method.encoder.mean, method.encoder.std)), dim=1)
        side = q.shape[-1]
        truth = torch.from_numpy(one.segmentation[:FRAMES] == 1).float()[:, None]
        truth = avg_pool2d(truth, 64 // side).flatten(1)
        place = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
        near = torch.cdist(place, place) <= side / 4
        masks: list[Tensor] = [truth[0]]
        cells = q.flatten(2).mT
        for t in range(1, FRAMES):
            context = [0, *range(max(1, t - 3), t)]
            affinity = [(cells[t] @ cells[u].T / 0.05).masked_fill(~near, -torch.inf) for u in context]
            best, which = torch.cat(affinity, dim=1).topk(5, dim=1)
            masks.append((best.softmax(dim=1) * torch.cat([masks[u] for u in context])[which]).sum(dim=1))
        found, there = masks[-1] > 0.5, truth[-1] > 0.5
        ious.append(float((found & there).sum() / (found | there).sum().clamp_min(1)))
    return float(np.mean(ious))


@pytest.mark.slow
def test_walks_come_back_and_masks_are_carried_farther_in_videos_never_seen(world: Path) -> None:
    torch.manual_seed(0)
    config = {"name": "crw", "patch": 16, "step": 8, "encoder": NET}
    method = build_method(config, DataInfo(TRAIN, frozenset({"video"})))
    assert isinstance(method, CRW)
    clips = [clip("val", index, WORLD) for index in range(24)]
    before, masks_before = held_out(method, world), carried(method, clips)

    stream = Stream(
        StreamConfig(sources=(Source(shards=str(world)),), workers=0, block=8, window=64),
        method.views, batch_size=6, seed=0,
    )  # fmt: skip
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS, pct_start=0.1)
    method.train()
    first = None
    for batch in stream.batches(steps=STEPS):
        loss = method(batch)
        first = first or {name: 100 * float(value) for name, value in loss.parts.items()}
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        schedule.step()
    after, masks_after = held_out(method, world), carried(method, clips)
    print(
        f"cycle {before} -> {after}; batch statistics {first}; masks {masks_before:.3f} -> {masks_after:.3f}"
    )

    # the untrained network is judged by the statistics of a batch as well, which suit it better
    assert first is not None
    untrained = [max(score, first[f"cycle_{k}"]) for k, score in enumerate(before, 1)]
    assert all(a >= u + 12 for a, u in zip(after, untrained, strict=True)), (untrained, after)
    assert masks_after >= masks_before + 0.02, (masks_before, masks_after)
