"""Pictures of four colours, each with a class, a depth and a normal of its own; an encoder of colours."""

import numpy as np
from tiny_propagation import Colours

from mmssl.models.encoder import Encoder, EncoderConfig
from mmssl.shards import encode
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard

NAMES = ["floor", "wall", "lamp", "cat"]
COLOURS = np.array([[20, 30, 200], [220, 40, 20], [30, 210, 60], [240, 240, 230]], np.uint8)
DEPTHS = np.array([1.0, 2.5, 4.0, 9.0], np.float32)
NORMALS = np.array([[0, -1, 0], [0, 0, -1], [0.6, 0, -0.8], [-0.48, 0.6, -0.64]], np.float32)


def colours(stride=1, size=32, **config):
    """The map is the picture itself, or the means of squares of ``stride`` pixels."""
    config = EncoderConfig(name="dcfnet", image_size=size, mean=(0.5,) * 3, std=(0.5,) * 3, **config)
    return Encoder(config, Colours(stride)).eval()


def ids_of(seed, height=32, width=48, classes=4, block=8):
    """(H, W) uint8: blocks of random classes, the first one most often."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.4, *[0.6 / (classes - 1)] * (classes - 1)])
    blocks = rng.choice(classes, (height // block, width // block), p=shares)
    return np.kron(blocks, np.ones((block, block))).astype(np.uint8)


def members_of(ids, seed=0, hole=True):
    """A sample; where nothing is known (the top left 4 × 4 pixels of the centre), colours mean nothing."""
    image, known = COLOURS[ids].copy(), np.ones(ids.shape, bool)
    if hole:
        left = (ids.shape[1] - ids.shape[0]) // 2
        known[:4, left : left + 4] = False
        image[~known] = np.random.default_rng(seed).integers(0, 256, (16, 3))
    return {
        "image.png": encode.png(image),
        "segmentation.png": encode.segmentation_png(np.where(known, ids, 255)),
        "depth.png": encode.depth_png(DEPTHS[ids] * known),
        "normals.png": encode.normals_png(NORMALS[ids] * known[..., None]),
    }


def dense_shards(root, splits, classes=NAMES):
    """``splits``: name to the members of every sample."""
    found, fields = {}, {}
    for name, samples in splits.items():
        raw = [RawSample(f"{number:03}", members) for number, members in enumerate(samples)]
        written = write_shard(root / f"{name}.tar", raw)
        written.index.at(0).save(root / f"{name}.index")
        shard = Shard(
            file=f"{name}.tar", index=f"{name}.index", samples=len(raw), first_id=0,
            bytes=(root / f"{name}.tar").stat().st_size, sha256=written.sha256,
        )  # fmt: skip
        found[name] = Split(samples=len(raw), shards=(shard,))
        for members in samples:
            for member in members:
                field = member.partition(".")[0]
                fields[field] = fields.get(field, 0) + 1
    total = sum(split.samples for split in found.values())
    Manifest(
        name="blocks",
        splits=found,
        fields={field: count / total for field, count in fields.items()},
        classes={"segmentation": classes} if classes else {},
    ).save(root)
    return root
