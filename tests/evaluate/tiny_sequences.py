"""Sequences with planted features, and a shard set of small videos with two cameras and phases."""

import json
from types import SimpleNamespace

import numpy as np
import torch

from mmssl.evaluate.timelines import Phase, Sequenced, Timelines, Track
from mmssl.shards import encode
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard

FPS = 10


def track(x, step=0.1):
    x = torch.as_tensor(x, dtype=torch.float32)
    times = torch.arange(len(x), dtype=torch.float64) * step
    return Track(x, times, len(x) * step)


def circle(n, turn=0.5, flip=False, dim=8, seed=None):
    """Points of an arc, distinct and in order under the cosine; with noise if there is a seed."""
    angle = np.linspace(0, np.pi * turn, n)
    angle = angle[::-1] if flip else angle
    x = np.zeros((n, dim))
    x[:, 0], x[:, 1] = np.cos(angle), np.sin(angle)
    if seed is not None:
        x += np.random.default_rng(seed).normal(0, 0.05, x.shape)
    return x


def sequence(id_, tracks, labels=None, phases=()):
    if not isinstance(tracks, dict):
        tracks = {"video": tracks}
    found = tuple(Phase(start, end, name) for start, end, name in phases)
    return Sequenced(id_, f"clip{id_}", labels or {}, tracks, found)


def given(monkeypatch, module, **splits):
    """``timelines`` of ``module`` gives these sequences by split; returns the subject to pass."""
    made = {split: Timelines(tuple(found), f"{len(found)} given videos") for split, found in splits.items()}
    monkeypatch.setattr(f"mmssl.evaluate.{module}.timelines", lambda subject, split, **_: made[split])


def subject(folder=None, fields=("video",)):
    manifest = SimpleNamespace(fields=dict.fromkeys(fields, 1.0))
    return SimpleNamespace(
        gallery="train", queries="val", seed=0, folder=folder, classes={"action": ["pour", "stir"]},
        manifest=manifest,
    )  # fmt: skip


def by_metric(scores):
    return {(score.evaluation, score.metric): score for score in scores}


def moving(frames, seed, size=32):
    """(frames, size, size, 3) uint8: a bright block that wanders from left to right over a dim ground."""
    rng = np.random.default_rng(seed)
    video = np.full((frames, size, size, 3), 40, dtype=np.uint8) + rng.integers(0, 20, 3, dtype=np.uint8)
    for at in range(frames):
        left = round(at / max(frames - 1, 1) * (size - 10))
        video[at, 10:20, left : left + 10] = 220
    return video


def video_shards(root, lengths, right=None, stored=None):
    """``lengths``: split to frames of each of its videos; ``right`` gives the second camera's lengths.

    Every video has two phases, which meta.json lists out of order, or the ``stored`` ones."""
    splits = {}
    for split, frames in lengths.items():
        samples = []
        for row, n in enumerate(frames):
            members = {"video.mp4": encode.h264(moving(n, row), FPS, crf=10)}
            if right is not None:
                members["video_right.mp4"] = encode.h264(moving(right[split][row], row), FPS, crf=10)
            half = n / FPS / 2
            phases = [
                {"start": half, "end": 2 * half, "name": "end"},
                {"start": 0, "end": half, "name": "begin"},
            ]
            members["meta.json"] = json.dumps({"fps": FPS, "phases": stored or phases}).encode()
            members["label.json"] = json.dumps({"action": row % 2}).encode()
            samples.append(RawSample(f"{split}{row:03}", members))
        written = write_shard(root / f"{split}.tar", samples)
        written.index.at(0).save(root / f"{split}.index")
        shard = Shard(
            file=f"{split}.tar", index=f"{split}.index", samples=len(frames), first_id=0,
            bytes=(root / f"{split}.tar").stat().st_size, sha256=written.sha256,
        )  # fmt: skip
        splits[split] = Split(samples=len(frames), shards=(shard,))
    fields = {"video": 1.0, "meta": 1.0, "label": 1.0} | ({"video_right": 1.0} if right else {})
    Manifest(name="moving", splits=splits, fields=fields, classes={"action": ["pour", "stir"]}).save(root)
    return root
