"""Does a tracker learn from unlabelled frames? Three seeds, beside random features, KCF and CSRT.

    MMSSL_REAL_DATA=… python benchmarks/tracker_learning.py

Runs ``mmssl run real_tracker``, of which what an earlier run has finished is skipped, then OpenCV's two
trackers on the same sequences. Results go to ``results/tracker_learning.json``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from classical_trackers import TRACKERS, follow
from harness import Figure, figure, record

from mmssl.evaluate.tracking.protocols import PROTOCOLS
from mmssl.evaluate.tracking.readers import read_benchmark
from mmssl.evaluate.tracking.readers.otb import OtbConfig

ROOT = Path(__file__).parents[1]
PIPELINE = "real_tracker"
EVALUATED = ("Football1", "Skiing", "DragonBaby", "Crossing", "Couple", "Diving", "Freeman1")
SEEDS = {"UDT": ("udt", "udt_1", "udt_2"), "LUDT": ("ludt", "ludt_1", "ludt_2")}
"""Stages that differ in their seed only."""
EVALUATION, METRIC, BAR = "tracking/otb/otb", "success AUC", ">= 48"


def learned(run: Path) -> Iterator[Figure]:
    """The pipeline's scores: each stage's, and the mean over seeds, trained and untrained."""
    rows = json.loads((run / "scores.json").read_text())["scores"]
    for row in rows:
        if row["headline"]:
            beside = "" if row["untrained"] is None else f"untrained {row['untrained']:.1f}; "
            name = f"{row['stage']}: {row['evaluation']}, {row['metric']}"
            yield figure(name, row["value"], row["unit"], beside + row["protocol"])
    of: dict[str, dict[str, Any]] = {
        row["stage"]: row for row in rows if (row["evaluation"], row["metric"]) == (EVALUATION, METRIC)
    }
    columns = [(name, stages, "value", BAR) for name, stages in SEEDS.items()]
    for name, stages, key, bar in (*columns, ("random features", SEEDS["UDT"], "untrained", "")):
        values = [of[stage][key] for stage in stages]
        words = f"{METRIC}, mean and standard deviation over {len(values)} seeds of data and weights"
        yield figure(f"{name}: mean of seeds", statistics.mean(values), "%", words, bar)
        yield figure(f"{name}: standard deviation of seeds", statistics.stdev(values), "points", words)


def classical(root: str) -> Iterator[Figure]:
    """OpenCV's trackers under the same protocol."""
    sequences = read_benchmark(OtbConfig(kind="otb", root=root, sequences=EVALUATED))
    protocol = PROTOCOLS["otb"]
    for name, create in TRACKERS.items():
        found = {sequence.name: follow(create(), sequence) for sequence in sequences}
        judged = {sequence.name: protocol.judge(found[sequence.name][0], sequence) for sequence in sequences}
        total = protocol.combine(judged, sequences)
        frames = sum(map(len, sequences))
        seconds = sum(float(times.sum()) for _, times in found.values())
        for metric, value in total.values.items():
            yield figure(f"OpenCV {name}: {metric}", value, "%", protocol.about)
        yield figure(f"OpenCV {name}: speed", frames / seconds, "frames/s", "decoding not counted")


def costs(run: Path) -> Iterator[Figure]:
    """Minutes of each training."""
    for stage in chain.from_iterable(SEEDS.values()):
        about = json.loads((run / stage / "stage.json").read_text())
        yield figure(
            f"{stage}: training", about["seconds"] / 60, "minutes", "wall time of the stage", "<= 40"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    arguments = parser.parse_args()
    if not (data := os.environ.get("MMSSL_REAL_DATA")):
        sys.exit("MMSSL_REAL_DATA is not set: the folder with tracking/ and vos/")
    mmssl = Path(sys.executable).with_name("mmssl")
    subprocess.run([str(mmssl), "run", PIPELINE, "--runs", str(arguments.runs)], cwd=ROOT, check=True)
    run = arguments.runs / PIPELINE
    record(
        "tracker_learning",
        [*learned(run), *costs(run), *classical(f"{data}/tracking")],
        ["opencv-contrib-python-headless"],
    )


if __name__ == "__main__":
    main()
