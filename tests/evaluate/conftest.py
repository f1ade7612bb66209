"""A subject whose features are given, so that evaluations are tested without an encoder or a stream."""

import pytest
import torch
from PIL import Image

from mmssl.evaluate import Features


class GivenSubject:
    """Four blobs: shape is the blob, texture is unrelated to it."""

    gallery, queries, seed, device = "train", "val", 0, torch.device("cpu")

    def __init__(self, train, val, folder=None):
        self._splits = {"train": train, "val": val}
        self.folder = folder
        self.classes = {"shape": ["disc", "square", "star", "ring"]}

    def features(self, split, encoder="image"):
        return self._splits[split]

    def about(self, *splits, encoder="image"):
        return "given features"

    def thumbnails(self, split, ids, size):
        return [Image.new("RGB", (size, size), (id_ % 256, 0, 0)) for id_ in ids]


def make_features(samples, seed, missing=0, spread=0.4):
    generator = torch.Generator().manual_seed(seed)
    shape = torch.arange(samples) % 4
    centres = 3 * torch.eye(4, 12)
    x = centres[shape] + spread * torch.randn(samples, 12, generator=generator)
    shape[:missing] = -1
    texture = torch.randint(0, 2, (samples,), generator=generator)
    ids = torch.arange(samples)
    return Features(x, {"shape": shape, "texture": texture}, ids, [f"key{i}" for i in range(samples)])


@pytest.fixture
def blobs(tmp_path):
    def make(missing=0, spread=0.4, train=300, val=80):
        return GivenSubject(
            make_features(train, 0, missing, spread), make_features(val, 1, 0, spread), tmp_path
        )

    return make
