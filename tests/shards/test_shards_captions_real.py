"""Flickr8k and the sentences of GRID from MMSSL_REAL_DATA, through their recipes and the view of captions."""

import csv
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from mmssl.models.text.tokenizer import WordPieces
from mmssl.shards.build import build_shards
from mmssl.shards.local import LocalShards
from mmssl.shards.recipe import load_recipe
from mmssl.stream.config import Source, StreamConfig
from mmssl.stream.loader import scan
from mmssl.stream.views.caption import CaptionView

ROOT = Path(os.environ.get("MMSSL_REAL_DATA", ""))
HOUSE = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("MMSSL_REAL_DATA" not in os.environ, reason="MMSSL_REAL_DATA is not set"),
]


def test_flickr8k(tmp_path: Path) -> None:
    manifest = build_shards(load_recipe(HOUSE / "shards" / "flickr8k_128.yaml"), tmp_path)
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 3231, "val": 491}
    assert manifest.built["skipped"] == {}
    facts = manifest.built["captions"]
    assert facts["captions"] == 5 * (3231 + 491)
    owners = defaultdict(set)
    for split in ("train", "dev"):
        with open(ROOT / "captions" / f"flickr8k_{split}_captions.csv", newline="") as file:
            for row in csv.DictReader(file):
                owners[" ".join(row["caption"].lower().split())].add(row["image"])
    owners.pop("", None)
    alike = [images for images in owners.values() if len(images) > 1]
    assert facts["shared"] == len(set().union(*alike))
    assert facts["most_shared"]["samples"] == max(map(len, alike))

    tokenizer = WordPieces.train(owners, 2000)
    context = 32
    lengths, unknown = [], []
    view = {"text": CaptionView(tokenizer, context, choose="all")}
    config = StreamConfig(sources=(Source(shards=str(tmp_path), split="val"),), workers=0)
    for batch in scan(config, view, batch_size=64):
        text = batch.text
        assert (text["count"] == 5).all()
        lengths.append((text["tokens"] != tokenizer.pad).sum(2).flatten())
        unknown.append(text["unknown"].flatten())
        assert (text["cut"].float().mean() < 0.05).item()
    assert len(np.concatenate(lengths)) == 5 * 491
    assert np.concatenate(lengths).max() <= context
    assert np.concatenate(unknown).mean() < 0.01


def test_sentences_of_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, HOUSE / "benchmarks" / "real_tables.py", tmp_path / "tables"]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("REAL_TABLES", str(tmp_path / "tables"))
    table = tmp_path / "tables" / "grid_val.jsonl"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:3]))
    (tmp_path / "tables" / "grid_train.jsonl").write_text(lines[3])
    recipe = load_recipe(HOUSE / "shards" / "grid_sentences.yaml")
    manifest = build_shards(recipe, tmp_path / "set")
    shards = LocalShards(tmp_path / "set")
    for id_ in range(3):
        sample = shards.sample("val", id_)
        (sentence,) = json.loads(sample.members["caption.json"])
        label = json.loads(sample.members["label.json"])
        words = {name: manifest.classes[name][number] for name, number in label.items()}
        assert sentence.split() == [
            words[name] for name in ("command", "colour", "preposition", "letter", "digit", "adverb")
        ]
        # GRID names a clip by the first letters of its words; a digit is its number.
        initials = "".join(word[0] for word in sentence.split())
        assert sample.key[:4] == initials[:4]
        assert sample.key[5] == initials[5]
