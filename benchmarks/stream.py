"""Raw indexed reading against plain ``read()`` and webdataset, on one core, warm cache."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import webdataset
from harness import figure, interleaved, record

from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard
from mmssl.stream.reader import ShardReader

SAMPLES = 4000


def build(root: Path) -> Path:
    """One shard of jpg + json samples of about 20 KB (noise: nothing decodes it here); returns the tar."""
    rng = np.random.default_rng(0)
    rows = (
        RawSample(
            f"{i:06d}", {"image.jpg": rng.bytes(20_000), "label.json": json.dumps({"class": 1}).encode()}
        )
        for i in range(SAMPLES)
    )
    written = write_shard(root / "000000.tar", rows)
    written.index.save(root / "000000.index")
    shard = Shard(
        file="000000.tar",
        index="000000.index",
        samples=SAMPLES,
        first_id=0,
        bytes=written.index.tar_bytes,
        sha256=written.sha256,
    )
    split = Split(samples=SAMPLES, shards=(shard,))
    Manifest(name="raw", splits={"train": split}, fields={"image": 1.0, "label": 1.0}).save(root)
    return root / "000000.tar"


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tar = build(Path(folder))
        plain = ShardReader(folder, "train", verify=False)
        checked = ShardReader(folder, "train")

        def read_file() -> None:
            with open(tar, "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass

        def read_webdataset() -> None:
            for _ in webdataset.WebDataset(str(tar), shardshuffle=False):
                pass

        seconds = interleaved(
            {
                "file": read_file,
                "indexed": lambda: [None for i in range(SAMPLES) if plain.sample(i) is None],
                "checked": lambda: [None for i in range(SAMPLES) if checked.sample(i) is None],
                "webdataset": read_webdataset,
            },
            repeats=5,
        )
    protocol = f"{SAMPLES} jpg + json samples of 20 KB, one core, warm cache, medians of 5 interleaved runs"
    file, ours, webdataset_ = seconds["file"], seconds["indexed"], seconds["webdataset"]
    record(
        "stream",
        [
            figure("indexed reading over read(), bytes/s", file / ours, "ratio", protocol, ">= 0.6"),
            figure(
                "indexed reading over webdataset, samples/s", webdataset_ / ours, "ratio", protocol, ">= 8"
            ),
            figure("with checksums over read(), bytes/s", file / seconds["checked"], "ratio", protocol),
        ],
    )


if __name__ == "__main__":
    main()
