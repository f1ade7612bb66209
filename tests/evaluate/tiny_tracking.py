"""Small sequences to track in: a textured square that wanders over a textured ground."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmssl.evaluate.tracking.raw import Followed
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.models import dcfnet
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.models.feature_map import FeatureMap
from mmssl.tracking.frames import Frames

HEIGHT, WIDTH, SIDE = 72, 96, 16


class Given(Frames):
    """Frames that are there already."""

    def __init__(self, frames, name):
        self.frames, self.name = frames, name

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, number):
        return self.frames[number]


def wander(length, seed):
    """(T, 4) whole-pixel boxes and (T, H, W, 3) uint8 frames."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 90, (HEIGHT // 4, WIDTH // 4, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    square = rng.integers(120, 256, (SIDE // 4, SIDE // 4, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    steps = rng.integers(-2, 3, (length, 2)).cumsum(axis=0) + np.array([WIDTH // 2 - 8, HEIGHT // 2 - 8])
    corners = np.clip(steps, 1, (WIDTH - SIDE - 1, HEIGHT - SIDE - 1))
    frames = ground[None].repeat(length, 0)
    for frame, (x, y) in zip(frames, corners, strict=True):
        frame[y : y + SIDE, x : x + SIDE] = square
    return np.concatenate([corners, np.full((length, 2), SIDE)], axis=1).astype(np.float64), frames


def sequence(length, seed=0, name=None, **known):
    boxes, frames = wander(length, seed)
    name = name or f"walk{seed}"
    return Sequence(
        name, Given(torch.from_numpy(frames).permute(0, 3, 1, 2), name), boxes, size=(WIDTH, HEIGHT), **known
    )


def write_otb(root: Path, lengths):
    """An OTB folder: name to length; returns name to its boxes, counted from 0."""
    truths = {}
    for seed, (name, length) in enumerate(lengths.items()):
        boxes, frames = wander(length, seed)
        (root / name / "img").mkdir(parents=True)
        for number, frame in enumerate(frames, 1):
            Image.fromarray(frame).save(root / name / "img" / f"{number:04d}.jpg", quality=95)
        lines = [",".join(f"{value:g}" for value in box + np.array([1, 1, 0, 0])) for box in boxes]
        (root / name / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
        (root / name / "attrs.txt").write_text("IV, SV\n" if seed % 2 else "SV\n")
        truths[name] = boxes
    return truths


def encoder(seed=0):
    """DCFNet of 4 channels that looks at 32 pixels."""
    torch.manual_seed(seed)
    return build_encoder(EncoderConfig(name="dcfnet", image_size=32, kwargs={"width": 4}, std=dcfnet.PIXELS))


def features(seed=0):
    return FeatureMap(encoder(seed))


def shifted(walks, by):
    """A tracker that is off to the right by so many pixels, after the first frame."""
    runs = {}
    for one in walks:
        boxes = one.truth.copy()
        boxes[1:, 0] += by
        runs[one.name] = Followed({"ope": boxes}, {"ope": np.full(len(one), 0.01)})
    return runs


def walks():
    return [sequence(20 + 5 * seed, seed, attributes=("SV", "IV")[: 1 + seed % 2]) for seed in range(6)]
