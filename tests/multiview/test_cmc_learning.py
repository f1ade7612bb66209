"""CMC on miniworld's stills finds the depth that belongs to an unseen image, and the image of a depth."""

from pathlib import Path

import pytest
import torch
from easy_world import NET, held_out, learn

from mmssl.methods import DataInfo, Method, build_method
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import load_recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

TRAIN, HELD_OUT, STEPS = 300, 128, 150
MARGIN = 6.0
"""Percentage points above the untrained encoders; it was 12 when this was written."""


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and exact depth of several objects, whose places tell the samples apart."""
    settings = [
        f"source.clips.train={TRAIN}",
        f"source.clips.val={HELD_OUT}",
        "source.frames_per_clip=1",
        "source.fields=[image,depth,meta]",
        "source.world.distractors=2",
        "source.world.defocus=0.0",
        "source.world.haze=0.65",
        "source.world.size=32",
    ]
    folder = tmp_path_factory.mktemp("stills")
    build_shards(load_recipe("miniworld_modalities", settings), folder, workers=1)
    return folder


def found(method: Method, stills: Path) -> float:
    """R@1 in percent among 128 unseen samples, both ways; chance is 0.8 %."""
    method.eval()
    with torch.no_grad():
        answers = method.pretext(held_out(method, stills, HELD_OUT))["rgb_depth"]
    method.train()
    return 100 * float(answers.values.mean())


def test_image_and_depth_find_each_other(stills: Path) -> None:
    torch.manual_seed(0)
    config = {
        "name": "cmc",
        "views": {name: {"encoder": {**NET, "sees": name}} for name in ("rgb", "depth")},
        "head": [64],
        "loss": "info_nce",
        "negatives": "batch",
        "temperature": 0.1,
        "augmentation": {"scale": [0.6, 1.0]},
    }
    method = build_method(config, DataInfo(TRAIN, frozenset({"image", "depth"})))
    untrained = found(method, stills)
    learn(method, stills, STEPS, 3e-3)
    trained = found(method, stills)
    assert trained >= untrained + MARGIN, f"R@1 {untrained:.1f} % untrained, {trained:.1f} % trained"
