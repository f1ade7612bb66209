"""A shard set of stills with depth and camera poses, and one of videos with their flow; tiny encoders."""

import json

import numpy as np
from tiny_actions import video

from mmssl.evaluate import untrained
from mmssl.models.encoder import EncoderConfig
from mmssl.shards import encode
from mmssl.shards.flow.matroska import flow_mkv
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard

SIDE = 20
WITHOUT_DEPTH = (3, 4)
"""Rows of val without the field depth."""
WITHOUT_POSE = 5
"""Row of val whose tracker was lost."""


def net(sees="rgb", size=16, **more):
    kwargs = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 16]}
    return EncoderConfig(
        name="resnet18", stem="small_stride2", image_size=size, sees=sees, kwargs=kwargs, **more
    )


def encoders(*sights, seed=0):
    return untrained({sees: net(sees) for sees in sights}, seed)


def pose(number):
    """A camera that walks along x and turns about y."""
    angle = np.deg2rad(9.0 * number)
    c, s = np.cos(angle), np.sin(angle)
    return [[c, 0, s, 0.1 * number], [0, 1, 0, 0], [-s, 0, c, 0.02 * number], [0, 0, 0, 1]]


def still(split, number):
    rng = np.random.default_rng(number + (1000 if split == "val" else 0))
    colour = np.zeros(3) + 60
    colour[number % 3] = 200
    image = (colour + rng.normal(0, 20, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
    metres = np.full((SIDE, SIDE), 1.0 + 0.2 * (number % 4), np.float32) + rng.uniform(0, 0.1, (SIDE, SIDE))
    lost = split == "val" and number == WITHOUT_POSE
    meta = {
        "sequence": f"s{number % 2}", "room": f"r{number % 2}", "timestamp": 0.5 * number,
        "pose": np.full((4, 4), -np.inf).tolist() if lost else pose(number),
    }  # fmt: skip
    members = {
        "image.png": encode.png(image),
        "label.json": json.dumps({"colour": number % 3, "far": number % 4}).encode(),
        "meta.json": json.dumps(meta).encode(),
    }
    if not (split == "val" and number in WITHOUT_DEPTH):
        members["depth.png"] = encode.depth_png(metres)
    return RawSample(f"{split}{number:03}", members)


def build_set(root, samples, fields, classes):
    """``samples``: split to its raw samples."""
    splits = {}
    for split, raw in samples.items():
        tar, index = f"{split}/000000.tar", f"{split}/000000.index"
        written = write_shard(root / tar, raw)
        written.index.at(0).save(root / index)
        shard = Shard(
            file=tar, index=index, samples=len(raw), first_id=0,
            bytes=(root / tar).stat().st_size, sha256=written.sha256,
        )  # fmt: skip
        splits[split] = Split(samples=len(raw), shards=(shard,))
    Manifest(name="rooms", splits=splits, fields=fields, classes=classes).save(root)
    return root


def build_rooms(root, train=24, val=14):
    samples = {
        split: [still(split, number) for number in range(count)]
        for split, count in (("train", train), ("val", val))
    }
    share = 1 - len(WITHOUT_DEPTH) / (train + val)
    fields = {"image": 1.0, "depth": share, "label": 1.0, "meta": 1.0}
    return build_set(root, samples, fields, {"colour": ["red", "green", "blue"], "far": list("0123")})


def clip(number):
    """A video whose colour is number % 3 (see ``tiny_actions``), and a flow to the right or the left."""
    right = np.zeros((16, 24, 2))
    right[..., 0] = 2.0 if number % 2 else -2.0
    flow = flow_mkv([encode.flow_png(right)] * 7, [i / 10 for i in range(7)], (24, 16))
    label = json.dumps({"colour": number % 3, "side": number % 2}).encode()
    return RawSample(f"clip{number:03}", {"video.mp4": video(number), "flow.mkv": flow, "label.json": label})


def build_clips(root, train=12, val=6):
    samples = {"train": [clip(n) for n in range(train)], "val": [clip(n) for n in range(train, train + val)]}
    classes = {"colour": ["red", "green", "blue"], "side": ["left", "right"]}
    return build_set(root, samples, {"video": 1.0, "flow": 1.0, "label": 1.0}, classes)
