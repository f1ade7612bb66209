"""Shard sets as benchmarks: a rendered world, and small sets with what real ones may hold."""

import json

import numpy as np
import pytest
from order_videos import RATE, brightening

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers import read_benchmark
from mmssl.evaluate.tracking.readers.shard_set import ShardSetConfig
from mmssl.shards import encode
from mmssl.shards.build import build_shards
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.recipe import ShardRecipe
from mmssl.shards.writer import RawSample, write_shard

FRAMES = 40


@pytest.fixture
def shards(tmp_path):
    """``shards(boxes)``: a set with a sample for each list of frames of boxes."""

    def make(*boxes, fields=("video", "boxes")):
        video = encode.h264(brightening(FRAMES), RATE, crf=4)
        samples = [
            RawSample(f"clip{index}", {"video.mp4": video, "boxes.json": json.dumps(one).encode()})
            for index, one in enumerate(boxes)
        ]
        written = write_shard(tmp_path / "0.tar", samples)
        written.index.at(0).save(tmp_path / "0.index")
        size = written.index.tar_bytes
        shard = Shard(
            file="0.tar", index="0.index", samples=len(samples), first_id=0, bytes=size, sha256=written.sha256
        )
        splits = {"val": Split(samples=len(samples), shards=(shard,))}
        Manifest(name="clips", splits=splits, fields=dict.fromkeys(fields, 1.0)).save(tmp_path)
        return ShardSetConfig(root=str(tmp_path))

    return make


def moving(first=0, frames=FRAMES):
    """A box that is there from frame ``first`` on, at x = its frame."""
    return [None if t < first else [t, 5, 10, 8] for t in range(frames)]


def test_a_sequence_an_object(shards):
    lost = moving()
    lost[7] = None
    several = [list(row) for row in zip(moving(), [None] * FRAMES, moving(first=35), strict=True)]
    config = shards([[box] for box in lost], several)
    found = read_benchmark(config)
    assert [one.name for one in found] == ["clip0", "clip1.1", "clip1.3"]
    assert [len(one) for one in found] == [40, 40, 5]
    assert np.flatnonzero(found[0].absent).tolist() == [7]
    np.testing.assert_array_equal(found[2].truth[:, 0], np.arange(35, 40))
    assert found[0].size == (32, 32)
    chosen = read_benchmark(config.model_copy(update={"sequences": ("clip1",)}))
    assert [one.name for one in chosen] == ["clip1.1", "clip1.3"]


def test_frames_are_those_of_the_video_in_any_order(shards):
    (one,) = read_benchmark(shards([[box] for box in moving(first=3)]))
    for number in (0, 36, 5, 31, 32, 6):
        grey = float(one.frames[number].float().mean())
        assert grey == pytest.approx(5 * (number + 3) + 20, abs=3)
    with pytest.raises(IndexError, match="frame 37; there are 37"):
        one.frames[37]


def test_boxes_that_do_not_fit_their_video(shards):
    with pytest.raises(MmsslError, match="clip0: boxes: 39 frames, but the video has 40"):
        read_benchmark(shards([[box] for box in moving(frames=39)]))


def test_sets_without_boxes(shards):
    config = shards([[box] for box in moving()], fields=("video",))
    with pytest.raises(MmsslError, match="fields: expected boxes, found video"):
        read_benchmark(config)
    with pytest.raises(MmsslError, match="no split 'test'"):
        read_benchmark(config.model_copy(update={"split": "test"}))
    with pytest.raises(MmsslError, match=r"manifest\.json: no such file"):
        read_benchmark(ShardSetConfig(root=config.root + "/nowhere"))


def test_miniworld(tmp_path):
    source = {
        "kind": "miniworld_clips",
        "clips": {"val": 3},
        "fields": ["video", "boxes"],
        "world": {"size": 64},
    }
    build_shards(ShardRecipe.model_validate({"name": "world", "source": source}), tmp_path)
    found = read_benchmark(ShardSetConfig(root=str(tmp_path)))
    assert found
    for one in found:
        assert one.size == (64, 64)
        assert one.frames[len(one) - 1].shape == (3, 64, 64)
        assert (one.truth[0, 2:] > 0).all()
