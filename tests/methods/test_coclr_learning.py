"""What CoCLR mines with an encoder of flow: videos of the same motion, far more often than chance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmssl.methods import DataInfo, build_method
from mmssl.methods.multiview.coclr import CoCLR
from mmssl.models.clip import ClipEncoder
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import ShardRecipe
from mmssl.shards.sources.miniworld_clips import MiniworldClips
from mmssl.stream import Source, Stream, StreamConfig, scan

pytestmark = pytest.mark.usefixtures("one_thread")

CLIPS = 128
WORLD = {"distractors": 0, "radius": (0.38, 0.46), "defocus": 0.032, "haze": 0.65, "size": 64}
NET = {
    "kind": "video_net", "name": "r2d3d", "frames": 6, "stride": 0.2, "image_size": 32,
    "stem": "small_stride2", "channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1],
}  # fmt: skip
FLOW = {**NET, "sees": "flow"}
AUGMENTATION = {"scale": [0.6, 1.0], "flip": 0.0, "blur": 0.0}


def coclr(**settings: Any) -> CoCLR:
    torch.manual_seed(0)
    data = DataInfo(CLIPS, frozenset({"video", "flow"}))
    method = build_method({"name": "coclr", "augmentation": AUGMENTATION} | settings, data)
    assert isinstance(method, CoCLR)
    return method


def shared_motion(clips: StreamConfig, sibling: ClipEncoder) -> tuple[float, float]:
    """Share of mined positives that show the anchor's motion, once every clip is in the queue; and chance."""
    method = coclr(
        encoder={**NET, "frames": 2},
        sibling={"encoder": FLOW},
        mine=5,
        queue=CLIPS,
        dim=8,
        batch_norm="local",
    )
    assert method.sibling is not None
    method.sibling.load_state_dict(sibling.state_dict())
    motion = torch.full((CLIPS,), -1)
    with torch.no_grad():
        for batch in scan(clips, method.views, batch_size=32, seed=0):
            motion[batch.id] = batch.label["motion"]
            method(batch)
            method.after_step(0.0)
    same = []
    for batch in scan(clips, method.views, batch_size=32, seed=1):
        mined = method.mined(method.look_at_siblings(batch), method.same_video(batch))
        alike = motion[method.queue.ids] == batch.label["motion"][:, None]
        same += alike[mined].tolist()
    others = [(np.sum(motion.numpy() == label) - 1) / (CLIPS - 1) for label in motion.numpy()]
    return float(np.mean(same)), float(np.mean(others))


@pytest.mark.slow
def test_siblings_that_see_flow_find_videos_of_the_same_motion(tmp_path: Path) -> None:
    source = MiniworldClips(clips={"train": CLIPS}, fields=("video", "flow", "label"), world=WORLD)  # type: ignore[arg-type]
    build_shards(ShardRecipe(name="clips", source=source), tmp_path)
    clips = StreamConfig(sources=(Source(shards=str(tmp_path), split="train"),), workers=0)
    method = coclr(encoder=FLOW, queue=64, dim=32, momentum=0.95, temperature=0.1)
    untrained, chance = shared_motion(clips, method.encoder)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    for batch in Stream(clips, method.views, batch_size=16, seed=0).batches(steps=70):
        loss = method(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(0.0)
    trained, _ = shared_motion(clips, method.encoder)
    assert chance < 0.15
    assert trained > 4 * chance, f"{trained:.3f} trained, {untrained:.3f} untrained, chance {chance:.3f}"
    assert trained > untrained + 0.08
