"""A run folder as the pipeline leaves it: two trained stages, their evaluations, a build, an export."""

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from mmssl.evaluate.figures import Lines, write_lines


def png(width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def stage(folder, kind, started, **more):
    folder.mkdir(parents=True)
    about = {
        "kind": kind, "status": "done", 
        "started": f"2026-01-01T00:{started:02}:00", "finished": "2026-01-01T01:00:00",
        "seconds": 61.0 * started, "fingerprint": f"{started:016x}", "inputs": {},
        "config": {"seed": 0, "note": "</script>"},
        "provenance": {"command": "mmssl run demo simclr.train.passes=4", "versions": {"torch": "2.15.0"}},
    }  # fmt: skip
    (folder / "stage.json").write_text(json.dumps(about | more))
    return folder


def train(folder, started, level):
    stage(folder, "train", started)
    lines = [
        {
            "step": step, "samples": step * 64, "pass": step / 20, "loss": level + 4 * math.exp(-step / 40),
            "lr": 0.1 * (1 + math.cos(step / 200 * math.pi)) / 2,
            "images_per_s": 800 + step % 7, "data_wait": 0.02, "grad_norm": 1.5,
            "parts": {"top1": 1 - math.exp(-step / 50)}, "health": {"rankme": 10 + step / 4, "std": 0.8},
        }
        for step in range(10, 201, 10)
    ]  # fmt: skip
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 210, "lo')
    (folder / "pictures").mkdir()
    (folder / "pictures" / "reconstructions.png").write_bytes(png(96, 48, started))


def evaluation(folder, started, of, gain):
    stage(folder, "evaluate", started, inputs={of: "0" * 16})
    names = ("knn/shape", "knn/texture", "linear/shape")
    scores = [
        {
            "stage": of, "evaluation": name, "metric": metric, "value": 50 + gain * (3 - i), "unit": "%",
            "untrained": 50.0,
            "protocol": f"protocol of {name} <b>", "chance": 12.5, "ceiling": 100.0,
        }
        for i, name in enumerate(names) for metric in ("accuracy", "accuracy k=200")
    ]  # fmt: skip
    scores += [
        {
            "stage": of, "evaluation": "alignment/cameras", "metric": metric, "value": 30 - gain, "unit": "%",
            "untrained": 28.0, "protocol": "nearest neighbours", "chance": 33.3, "better": "lower",
            "interval": [20.04, 35.0],
        }
        for metric in ("alignment error", "video to video_right")
    ]  # fmt: skip
    scores.append(scores[0] | {"evaluation": "health/rankme", "metric": "rank", "headline": False})
    (folder / "scores.json").write_text(json.dumps({"scores": scores}))
    steps = Lines(
        "Accuracy k steps ahead", "k", "accuracy, %", [1, 2, 3, 4], {of: [60, 40, None, 22]}, [10.0] * 4,
        "16 candidates <b>", [("knn/shape", "accuracy")] * 3 + [("knn/shape", "of another")],
    )  # fmt: skip
    write_lines(folder, "pretext_steps", steps)
    rng = np.random.default_rng(started)
    shape, texture = rng.integers(0, 4, 120), rng.integers(0, 3, 120)
    points = {
        "x": (6 * np.cos(shape * 1.57) + rng.normal(size=120)).tolist(),
        "y": (6 * np.sin(shape * 1.57) + rng.normal(size=120)).tolist(),
        "labels": {"shape": shape.tolist(), "texture": texture.tolist()},
        "classes": {"shape": ["disc", "square", "star", "ring"]},
        "keys": [f"clip-{i:04}" for i in range(120)],
        "sprite": {"file": "map.jpg", "tile": 8, "columns": 40},
        "protocol": "t-SNE of 120 of val (400)",
    }
    (folder / "map.json").write_text(json.dumps(points))
    Image.fromarray(rng.integers(0, 255, (24, 320, 3), dtype=np.uint8)).save(folder / "map.jpg")


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "demo"
    stage(folder / "shards", "build", 1)
    shard = {
        "file": "a/0.tar",
        "index": "a/0.index",
        "samples": 400,
        "first_id": 0,
        "bytes": 3_200_000,
        "sha256": "0",
    }
    (folder / "shards" / "manifest.json").write_text(
        json.dumps(
            {
                "format": "mmssl-shards",
                "version": 1,
                "name": "miniworld",
                "splits": {"val": {"samples": 400, "shards": [shard]}},
            }
        )
    )
    train(folder / "simclr", 2, 1.0)
    train(folder / "mae", 3, 0.4)
    (folder / "mae" / "quarantine.jsonl").write_text(
        json.dumps({"shard": "a/0.tar", "key": "k", "field": "image", "reason": "truncated"}) + "\n"
    )
    evaluation(folder / "simclr_scores", 4, "simclr", 8)
    evaluation(folder / "mae_scores", 5, "mae", -2)
    stage(folder / "export", "export", 6, status="failed", seconds=None)
    return folder
