"""What a pipeline learns, how long it takes and how much memory: its bars, from a run of the command line.

    python benchmarks/pipelines.py quickstart
    CIFAR10=cifar10_train10k_val2k.zip python benchmarks/pipelines.py cifar10
    MMSSL_REAL_DATA=... python benchmarks/pipelines.py clip

and so for the others in ``GAINS``.
The pipeline is run with ``mmssl run``. Stages that an earlier run in the same folder has finished are not run
again: their times are those of that run. Results go to ``results/PIPELINE.json``.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import Figure, figure, record

ROOT = Path(__file__).parents[1]

GAINS: dict[str, dict[tuple[str, ...], dict[str, float]]] = {
    "quickstart": {
        ("knn/shape", "knn/texture"): {"simclr": 10, "moco_v2": 10, "mae": 10},
    },
    "cifar10": {
        ("knn/class",): {"simclr": 22, "moco_v2": 15},
        ("linear/class",): {"mae": 8},
    },
    "tiny_imagenet": {},
    "miniworld_time": {},
    "real_time": {},
    "real_actions": {},
    "real_words": {},
    "real_starts": {},
    "real_features": {},
    "miniworld_views": {},
    "miniworld_words": {},
    "lab": {},
    "rgbd": {},
    "clip": {},
}
"""Pipeline → evaluations, of which the best counts → stage → points it must gain over the untrained one."""

VALUES: dict[str, dict[tuple[str, str, str], str]] = {
    "miniworld_time": {
        ("cpc", "linear/pairs", "accuracy"): ">= 85",
        ("vcop", "linear/pairs", "accuracy"): ">= 85",
        ("simclr", "linear/pairs", "accuracy"): "<= 60",
        ("order", "pretext/verification", "mean"): ">= 85",
        ("cpc", "pretext/accuracy_other_sequences_1", "mean"): f">= {5 * 100 / 33:.2f}",
        ("tcn", "alignment/cameras", "alignment error"): "<= 6",
    },
    "miniworld_views": {
        ("rgb_depth", "cross_modal/rgb_to_depth", "R@1"): ">= 50",
        ("rgb_depth", "cross_modal/depth_to_rgb", "R@1"): ">= 50",
        ("rgb_flow", "motion_both/motion", "accuracy"): ">= 85",
    },
    "miniworld_words": {
        ("clip", "zero_shot/shape", "accuracy"): ">= 80",
        ("clip", "zero_shot/texture", "accuracy"): ">= 80",
        ("video_clip", "zero_shot/motion", "accuracy"): ">= 80",
    },
    "clip": {
        ("clip", "text_retrieval/text_to_image", "R@10"): ">= 10",
        ("clip", "text_retrieval/image_to_text", "R@10"): ">= 10",
    },
}
"""Pipeline → (stage, evaluation, metric) → the bar on its value."""

MINUTES = {
    "quickstart": ("the whole run", 15.0),
    "cifar10": ("each training", 20.0),
    "miniworld_time": ("each training", 10.0),
    "miniworld_views": ("each training", 12.0),
    "clip": ("each training", 45.0),
}
"""Bars on time, in minutes on two cores, set-up excluded."""

BEYOND_IMAGES = ("clip", "cpc", "order", "tcn", "udt", "views", "cmc", "words")
"""How the names begin of the quickstart's stages that are about more than still images."""


def gains(pipeline: str, scores: list[dict[str, Any]]) -> Iterator[Figure]:
    """Every headline score, and the barred gains over the untrained encoders."""
    bars_on_values = VALUES.get(pipeline, {})
    for score in scores:
        bar = bars_on_values.get((score["stage"], score["evaluation"], score["metric"]), "")
        if bar or score["headline"] or score["metric"] == "accuracy":
            known = [("untrained", score["untrained"]), ("chance", score["chance"])]
            beside = ", ".join(f"{name} {value:.1f}" for name, value in known if value is not None)
            name = f"{score['stage']}: {score['evaluation']}"
            name += "" if score["metric"] == "accuracy" else f", {score['metric']}"
            yield figure(name, score["value"], score["unit"], f"{beside}; {score['protocol']}", bar)
    for evaluations, bars in GAINS[pipeline].items():
        for stage, points in bars.items():
            found = {
                score["evaluation"]: score["value"] - score["untrained"]
                for score in scores
                if score["stage"] == stage
                and score["evaluation"] in evaluations
                and score["metric"] == "accuracy"
            }
            if not found:
                continue  # not done yet, with --as-is
            best = max(found, key=lambda name: found[name])
            name = f"{stage}: {best} over untrained"
            yield figure(name, found[best], "points", f"best of {', '.join(evaluations)}", f">= {points:g}")


def costs(pipeline: str, run: Path) -> Iterator[Figure]:
    """Minutes and memory of the stages."""
    what, limit = MINUTES.get(pipeline, ("", 0.0))
    stages = {path.parent.name: json.loads(path.read_text()) for path in sorted(run.glob("*/stage.json"))}
    stages = {
        name: about for name, about in stages.items() if ".old-" not in name and about["status"] == "done"
    }
    for name, about in stages.items():
        if about["kind"] == "train":
            bar = f"<= {limit:g}" if what == "each training" else ""
            yield figure(f"{name}: training", about["seconds"] / 60, "minutes", "wall time of the stage", bar)
    total = sum(about["seconds"] for about in stages.values()) / 60
    bar = f"<= {limit:g}" if what == "the whole run" else ""
    yield figure("all stages", total, "minutes", "sum of the stages' wall times, set-up excluded", bar)
    if pipeline == "quickstart":
        still = [its["seconds"] for name, its in stages.items() if not name.startswith(BEYOND_IMAGES)]
        words = "sum of the wall times of the stages about still images alone, set-up excluded"
        yield figure("still images: all stages", sum(still) / 60, "minutes", words, "<= 8")
    peak = max(about["provenance"]["peak_memory_gb"] for about in stages.values())
    bar = "<= 4" if pipeline == "quickstart" else ""
    yield figure("peak memory", peak, "GB", "largest resident process of any stage, 10^9 bytes", bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pipeline", choices=sorted(GAINS))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--as-is", action="store_true", help="run nothing; record the stages that are done")
    arguments = parser.parse_args()
    mmssl = Path(sys.executable).with_name("mmssl")
    command = [str(mmssl), "run", arguments.pipeline, "--runs", str(arguments.runs)]
    if not arguments.as_is:
        subprocess.run(command, cwd=ROOT, check=True)
    run = arguments.runs / arguments.pipeline
    scores = json.loads((run / "scores.json").read_text())["scores"]
    record(arguments.pipeline, [*gains(arguments.pipeline, scores), *costs(arguments.pipeline, run)])


if __name__ == "__main__":
    main()
