"""What a pipeline learns, how long it takes and how much memory: its bars, from a run of the command line.

    python benchmarks/pipelines.py quickstart
    CIFAR10=cifar10_train10k_val2k.zip python benchmarks/pipelines.py cifar10
    MMSSL_REAL_DATA=... python benchmarks/pipelines.py clip

and so for the others in ``GAINS``.
The pipeline is run with ``mmssl run``. Stages that an earlier run in the same folder has finished are not run
again: their times are those of that run. ``--seeds 3`` runs it three times, trainings and evaluations with
seeds 0, 1 and 2, the last two in RUNS/seed-1 and RUNS/seed-2; figures are then means, each value in the
protocol. Results go to ``results/PIPELINE.json``.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import Figure, figure, record

from mmssl.pipeline.recipe import EvaluateStage, TrainStage, load_pipeline

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


def seeded(pipeline: str, seed: int) -> list[str]:
    """What to change of the recipe for a seed; 0 is the recipe's own."""
    stages = load_pipeline(pipeline).stages if seed else {}
    keys = {name: "train.seed" for name, stage in stages.items() if isinstance(stage, TrainStage)}
    keys |= {name: "seed" for name, stage in stages.items() if isinstance(stage, EvaluateStage)}
    return [f"{name}.{key}={seed}" for name, key in keys.items()]


def over_seeds(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """The scores of one run, or the means over several; those that not all runs have stay out."""
    same = defaultdict(list)
    for run in runs:
        for score in json.loads((run / "scores.json").read_text())["scores"]:
            same[score["stage"], score["evaluation"], score["metric"]].append(score)
    if len(runs) == 1:
        return [scores[0] for scores in same.values()]
    means = []
    for scores in same.values():
        if len(scores) < len(runs):
            continue
        values = [score["value"] for score in scores]
        untrained = [score["untrained"] for score in scores if score["untrained"] is not None]
        words = f"mean of {len(runs)} seeds, standard deviation {statistics.stdev(values):.2f}: "
        words += ", ".join(f"{value:.1f}" for value in values)
        means.append(
            scores[0]
            | {
                "value": statistics.mean(values),
                "untrained": statistics.mean(untrained) if untrained else None,
                "protocol": f"{words}; {scores[0]['protocol']}",
            }
        )
    return means


def finished(runs: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What is known of the stages that are done; of several runs that which took longest."""
    stages: dict[str, dict[str, Any]] = {}
    for path in (path for run in runs for path in sorted(run.glob("*/stage.json"))):
        name, about = path.parent.name, json.loads(path.read_text())
        if ".old-" in name or about["status"] != "done":
            continue
        if name not in stages or stages[name]["seconds"] < about["seconds"]:
            stages[name] = about
    return stages


def costs(pipeline: str, runs: Sequence[Path]) -> Iterator[Figure]:
    """Minutes and memory of the stages."""
    what, limit = MINUTES.get(pipeline, ("", 0.0))
    stages = finished(runs)
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
    parser.add_argument("--seeds", type=int, default=1, help="how many times to run it")
    parser.add_argument("--as-is", action="store_true", help="run nothing; record the stages that are done")
    arguments = parser.parse_args()
    pipeline, mmssl = arguments.pipeline, Path(sys.executable).with_name("mmssl")
    folders = [arguments.runs / (f"seed-{seed}" if seed else "") for seed in range(arguments.seeds)]
    for seed, folder in enumerate(folders):
        command = [str(mmssl), "run", pipeline, "--runs", str(folder), *seeded(pipeline, seed)]
        if not arguments.as_is:
            subprocess.run(command, cwd=ROOT, check=True)
    runs = [folder / pipeline for folder in folders]
    record(pipeline, [*gains(pipeline, over_seeds(runs)), *costs(pipeline, runs)])


if __name__ == "__main__":
    main()
