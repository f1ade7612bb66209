"""Phases and alignment of talking mouths: word boundaries of real clips, as the shards carry them."""

import csv
import json
import os
from pathlib import Path

import pytest
from tiny_sequences import by_metric

from mmssl.evaluate import Subject, evaluate, parse_evaluation, untrained
from mmssl.models.encoder import EncoderConfig
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard

ROOT = Path(os.environ.get("MMSSL_REAL_DATA", "")) / "actions" / "grid_s1"
IMAGE = EncoderConfig(
    name="resnet18",
    stem="small_stride4",
    image_size=32,
    kwargs={"layers": [1, 1, 1, 1], "channels": [16, 16, 32, 32]},
)
FPS = 25

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("MMSSL_REAL_DATA" not in os.environ, reason="MMSSL_REAL_DATA: no folder of real data"),
    pytest.mark.skipif(not (ROOT / "labels.csv").is_file(), reason=f"{ROOT}: no such data"),
]


def sample(row):
    words = [word.split(":") for word in row["word_frames"].split()]
    phases = [
        {"start": int(span.split("-")[0]) / FPS, "end": int(span.split("-")[1]) / FPS, "name": name}
        for span, name in words
    ]
    meta = json.dumps({"fps": FPS, "phases": phases}).encode()
    video = (ROOT / "mouth" / row["file"]).read_bytes()
    return RawSample(Path(row["file"]).stem, {"video.mp4": video, "meta.json": meta})


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("grid")
    with open(ROOT / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))[::40]
    splits = {}
    for split, part in (("train", rows[:10]), ("val", rows[10:16])):
        written = write_shard(root / f"{split}.tar", [sample(row) for row in part])
        written.index.at(0).save(root / f"{split}.index")
        shard = Shard(
            file=f"{split}.tar", index=f"{split}.index", samples=len(part), first_id=0,
            bytes=(root / f"{split}.tar").stat().st_size, sha256=written.sha256,
        )  # fmt: skip
        splits[split] = Split(samples=len(part), shards=(shard,))
    Manifest(name="grid", splits=splits, fields={"video": 1.0, "meta": 1.0}, classes={}).save(root)
    return root


def test_eight_phases_of_every_sentence(shards, tmp_path):
    """Silence, six words, silence; three seconds, of which the last frame belongs to no phase."""
    subject = Subject(untrained({"image": IMAGE}), shards, folder=tmp_path)
    configs = [
        parse_evaluation({"name": "phases", "by": "number", "step": 0.08, "shares": [1.0]}, "test"),
        parse_evaluation({"name": "alignment", "process": "all", "step": 0.08}, "test"),
    ]
    scores = by_metric(evaluate(subject, configs))
    phase = scores["phases/classification", "balanced accuracy, 100 % of labels"]
    assert phase.chance == pytest.approx(100 / 8)
    assert 0 < phase.interval[0] <= phase.value <= phase.interval[1] < 100
    assert f"{6 * 37} moments of known phase" in phase.protocol
    assert scores["phases/progression", "R²"].value < 1
    aligned = scores["alignment/phase", "phase error"]
    assert (
        "mean over 30 ordered pairs of videos with equally many phases (0 pairs without)" in aligned.protocol
    )
    assert 0 < aligned.value < 60
    assert 33 < aligned.chance < 45  # both silences are long, so a guess errs more than 1/3
    assert -1 <= scores["alignment/order", "Kendall's τ"].value <= 1
