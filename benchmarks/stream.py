"""Reading on one core, warm: tars alone, JPEGs to 224 px crops, and JPEGs to two SimCLR views.

``python benchmarks/stream.py [--repeats N]`` prints the figures and writes ``results/stream.json``. Except
for the two views, it is processor time that is compared, in turns: neighbours on the machine matter little.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
import webdataset
from harness import Figure, figure, interleaved, record
from skimage import data
from torch import Tensor
from two_views import measure as two_views

from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard
from mmssl.stream import Source, Stream, StreamConfig
from mmssl.stream.reader import ShardReader
from mmssl.stream.views.base import View
from mmssl.stream.views.crops import crop_resize, draw_crops
from mmssl.stream.views.draws import Draws

RAW_SAMPLES, RAW_BYTES = 4000, 20_000
PICTURES, BATCH, CROP = 512, 64, 224


def build(root: Path, images: Iterable[bytes]) -> Path:
    """A shard set of one tar with ``image.jpg`` and ``label.json``; returns the tar."""
    members = ({"image.jpg": image, "label.json": b'{"class": 1}'} for image in images)
    written = write_shard(root / "0.tar", (RawSample(f"{i:06d}", item) for i, item in enumerate(members)))
    written.index.save(root / "0.index")
    samples, tar_bytes = len(written.index), written.index.tar_bytes
    shard = Shard(
        file="0.tar",
        index="0.index",
        samples=samples,
        first_id=0,
        bytes=tar_bytes,
        sha256=written.sha256,
    )
    split = Split(samples=samples, shards=(shard,))
    fields = {"image": 1.0, "label": 1.0}
    Manifest(name="benchmark", splits={"train": split}, fields=fields, classes={"class": ["a", "b"]}).save(
        root
    )
    return root / "0.tar"


def raw(root: Path, repeats: int) -> list[Figure]:
    """Bytes out of the tar, undecoded, so noise will do for images."""
    rng = np.random.default_rng(0)
    tar = build(root, (rng.bytes(RAW_BYTES) for _ in range(RAW_SAMPLES)))
    unchecked, checked = ShardReader(root, "train", verify=False), ShardReader(root, "train")
    shuffled = rng.permutation(RAW_SAMPLES).tolist()

    def read_file() -> None:
        with open(tar, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass

    def read_samples(reader: ShardReader, ids: Sequence[int]) -> None:
        for id_ in ids:
            reader.sample(id_)

    def read_webdataset() -> None:
        for _ in webdataset.WebDataset(str(tar), shardshuffle=False):
            pass

    in_order = range(RAW_SAMPLES)
    seconds = interleaved(
        {
            "file": read_file,
            "in order": lambda: read_samples(unchecked, in_order),
            "in order, checksums": lambda: read_samples(checked, in_order),
            "shuffled": lambda: read_samples(unchecked, shuffled),
            "shuffled, checksums": lambda: read_samples(checked, shuffled),
            "webdataset": read_webdataset,
        },
        repeats,
        clock=time.process_time,
    )
    protocol = (
        f"{RAW_SAMPLES} samples of a JPEG of {RAW_BYTES // 1000} KB and a label, one tar, page cache warm, "
        f"one core; processor time, medians of {repeats} interleaved repeats; read() in pieces of 1 MiB; "
        "all bytes of the tar count; webdataset undecoded; members unchecked unless checksums are named"
    )
    figures = []
    for name in ("in order", "shuffled", "in order, checksums", "shuffled, checksums"):
        barred = name == "in order"
        ratio = seconds["file"] / seconds[name]
        bar = ">= 0.6" if barred else ""
        figures.append(figure(f"indexed reading ({name}) over read(), bytes/s", ratio, "×", protocol, bar))
        ratio, bar = seconds["webdataset"] / seconds[name], ">= 8" if barred else ""
        figures.append(
            figure(f"indexed reading ({name}) over webdataset, samples/s", ratio, "×", protocol, bar)
        )
    return figures


def pictures() -> list[bytes]:
    """Cut-outs of photographs, 500 x 375 as in ImageNet, as JPEGs of quality 90 with 4:2:0 colour."""
    rng = np.random.default_rng(1)
    photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    encoded = []
    for i in range(PICTURES):
        photograph = photographs[i % len(photographs)]
        height, width = (int(side * rng.uniform(0.6, 1)) for side in photograph.shape[:2])
        top = rng.integers(0, photograph.shape[0] - height + 1)
        left = rng.integers(0, photograph.shape[1] - width + 1)
        piece = cv2.resize(
            photograph[top : top + height, left : left + width], (500, 375), interpolation=cv2.INTER_AREA
        )
        encoded.append(simplejpeg.encode_jpeg(piece, quality=90, colorsubsampling="420"))
    return encoded


class Crop(View):
    """A random resized crop, (B, 3, 224, 224) uint8, and nothing else."""

    def prepare(self, items: Sequence[Tensor], draws: Draws) -> Tensor:
        sizes = np.array([image.shape[1:] for image in items])
        boxes = draw_crops(draws, sizes)[:, None]
        return crop_resize(items, boxes, CROP, np.zeros((len(items), 1), bool))[:, 0]

    def finish(self, x: Any, draws: Draws) -> Tensor:
        return x


def crops(root: Path, repeats: int) -> list[Figure]:
    """The whole stream (shuffled, with checksums, labels, batches) against its inner loop alone."""
    encoded = pictures()
    build(root, encoded)
    config = StreamConfig(sources=(Source(shards=str(root)),), workers=0)
    stream = Stream(config, {"image": Crop()}, batch_size=BATCH, seed=0)
    ids = np.arange(PICTURES)
    boxes = draw_crops(Draws(0, "image", ids, np.zeros_like(ids)), np.array([[375, 500]] * PICTURES))
    unflipped = np.zeros((1, 1), bool)

    def through_the_stream() -> list[Tensor]:
        return [batch.image for batch in stream.batches(0, PICTURES // BATCH)]

    def bare() -> list[Tensor]:
        cut = []
        for image, box in zip(encoded, boxes, strict=True):
            pixels = torch.from_numpy(simplejpeg.decode_jpeg(image)).permute(2, 0, 1)
            cut.append(crop_resize([pixels], box[None, None], CROP, unflipped)[0, 0])
        return cut

    expected = bare()
    for batch in stream.batches(0, 1):
        assert all(torch.equal(x, expected[i]) for x, i in zip(batch.image, batch.id.tolist(), strict=True))
    seconds = interleaved({"stream": through_the_stream, "bare": bare}, repeats, clock=time.process_time)
    protocol = (
        f"{PICTURES} JPEGs of 500 x 375 (photographs, {sum(map(len, encoded)) // PICTURES // 1000} KB each) "
        f"to random resized crops of {CROP}, uint8, the same boxes; through the stream: shuffled, checksums, "
        f"labels, batches of {BATCH}, in the calling process; bare: simplejpeg and the same crop in a loop "
        f"over bytes in memory; one core, processor time, medians of {repeats} interleaved repeats"
    )
    rates = [figure(f"crops, {name}", PICTURES / s, "images/s", protocol) for name, s in seconds.items()]
    ratio = seconds["bare"] / seconds["stream"]
    return [*rates, figure("crops, stream over bare loop", ratio, "×", protocol, ">= 0.85")]


def measure(repeats: int) -> list[Figure]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    figures: list[Figure] = []
    parts: list[Callable[[Path, int], list[Figure]]] = [raw, crops]
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            figures += part(Path(folder), repeats)
    return figures + two_views(repeats)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    record("stream", measure(parser.parse_args().repeats), packages=("lightly", "pillow"))
