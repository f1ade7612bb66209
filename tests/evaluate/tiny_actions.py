"""A shard set of small videos: classes by colour, and by whether the picture brightens or darkens."""

import json

import numpy as np

from mmssl.evaluate import untrained
from mmssl.models.clip.frame_net import FrameNetConfig
from mmssl.models.clip.frames import FramesConfig
from mmssl.models.encoder import EncoderConfig
from mmssl.shards import encode
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard

FRAMES, HEIGHT, WIDTH = 8, 32, 48
LEVELS = np.linspace(40, 200, FRAMES)
CLASSES = {"colour": ["red", "green", "blue"], "change": ["brighten", "darken"]}
ENCODER = FramesConfig(
    net=FrameNetConfig(
        encoder=EncoderConfig(
            name="resnet18",
            stem="small_stride4",
            image_size=32,
            kwargs={"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 32]},
        )
    ),
    frames=3,
    stride=0.2,
    fuse="concat",
)


def video(number):
    """Colour by number % 3, brighter or darker by number % 2; the right third is black."""
    levels = LEVELS if number % 2 == 0 else LEVELS[::-1]
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames[:, :, : -WIDTH // 3] = 20
    frames[:, :, : -WIDTH // 3, number % 3] = levels[:, None, None]
    return encode.h264(frames, 10, crf=10)


def sample(number, damaged):
    data = video(number)
    official = {"1": "test" if number % 4 == 0 else "train", "2": "test" if number % 4 == 1 else "train"}
    return RawSample(
        f"clip{number:03}",
        {
            "video.mp4": data[:300] if damaged else data,
            "label.json": json.dumps({"colour": number % 3, "change": number % 2}).encode(),
            "meta.json": json.dumps({"recording": f"r{number // 6}", "official": official}).encode(),
        },
    )


def build(root, sizes, damaged=()):
    """Splits by name with so many videos; numbers go on from split to split."""
    splits, first = {}, 0
    for name, size in sizes.items():
        tar, index = f"{name}/000000.tar", f"{name}/000000.index"
        samples = [sample(first + row, first + row in damaged) for row in range(size)]
        written = write_shard(root / tar, samples)
        written.index.at(0).save(root / index)
        shard = Shard(
            file=tar, index=index, samples=size, first_id=0,
            bytes=(root / tar).stat().st_size, sha256=written.sha256,
        )  # fmt: skip
        splits[name] = Split(samples=size, shards=(shard,))
        first += size
    fields = {"video": 1.0, "label": 1.0, "meta": 1.0}
    Manifest(name="changes", splits=splits, fields=fields, classes=CLASSES).save(root)
    return root


def encoders(seed=0, **changes):
    return untrained({"clip": ENCODER.model_copy(update=changes)}, seed)
