"""Shard sets of captions alone, and miniworld's captions without its pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmssl.miniworld.vocabulary import MOTIONS, SHAPES, TEXTURES, captions
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard

Texts = Sequence[str] | bytes
"""The captions of a sample; or the bytes of its member, whatever they are."""


def write_captions(root: Path, splits: Mapping[str, Sequence[Texts]]) -> Path:
    """One shard a split."""
    known = {}
    for name, samples in splits.items():
        rows = [
            RawSample(
                f"k{number:04d}",
                {"caption.json": texts if isinstance(texts, bytes) else json.dumps(list(texts)).encode()},
            )
            for number, texts in enumerate(samples)
        ]
        file, index = f"{name}/000000.tar", f"{name}/000000.index"
        written = write_shard(root / file, rows)
        written.index.at(0).save(root / index)
        shard = Shard(
            file=file,
            index=index,
            samples=len(rows),
            first_id=0,
            bytes=written.index.tar_bytes,
            sha256=written.sha256,
        )
        known[name] = Split(samples=len(rows), shards=(shard,))
    Manifest(name=root.name, splits=known, fields={"caption": 1.0}, classes={}).save(root)
    return root


def miniworld(seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """The captions of every world there can be, in random order: nine in ten, and the others."""
    worlds = [captions(s, t, m) for s in SHAPES for t in TEXTURES for m in MOTIONS]
    shuffled = [worlds[i] for i in np.random.default_rng(seed).permutation(len(worlds))]
    cut = len(shuffled) * 9 // 10
    return shuffled[:cut], shuffled[cut:]
