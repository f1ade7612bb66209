"""A pipeline of every kind of stage that is small enough to run in seconds, on pictures made here."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = """
name: tiny
stages:
  images:
    kind: build
    recipe: {folder}/shards.yaml
    workers: 1
  simclr:
    kind: train
    data: {{sources: [{{shards: images}}], workers: 0}}
    method:
      name: simclr
      projector: [16, 8]
      encoder: {{name: test_resnet, image_size: 16}}
    train: {{steps: 3, batch_size: 8, precision: fp32, optimizer: {{base_lr: 0.1}}, log_every: 1}}
  scores:
    kind: evaluate
    encoders: simclr
    shards: images
    workers: 0
    evaluations: {{knn: {{k: [3]}}, health: {{}}}}
  again:
    kind: train
    data: {{sources: [{{shards: images}}], workers: 0}}
    method:
      name: simclr
      projector: [16, 8]
      encoder: {{name: test_resnet, image_size: 16, weights: simclr}}
    train: {{steps: 1, batch_size: 8, precision: fp32}}
  for_timm: {{kind: export, encoders: simclr}}
  report: {{kind: report}}
"""

SHARDS = """
name: pictures
source:
  kind: image_folder
  root: {folder}/raw
  splits: {{train: {{folder: train}}, val: {{folder: val}}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of two classes, a shard recipe and ``tiny.yaml``."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for label, name in enumerate(("dark", "light")):
            place = tmp_path / "raw" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (20, 20, 3)) + 150 * label
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.jpg")
    (tmp_path / "shards.yaml").write_text(SHARDS.format(folder=tmp_path))
    (tmp_path / "tiny.yaml").write_text(TINY.format(folder=tmp_path))
    return tmp_path
