"""OpenCV's KCF and CSRT over sequences of OTB, as result files for `mmssl evaluate tracking --compare`.

    python benchmarks/classical_trackers.py OTB_FOLDER OUT --sequences Crossing,Couple

Writes ``OUT/kcf`` and ``OUT/csrt``. Where a tracker says that it has lost the target, the last box is kept.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from mmssl.evaluate.tracking.readers import read_benchmark
from mmssl.evaluate.tracking.readers.otb import OtbConfig
from mmssl.evaluate.tracking.results import LAYOUTS, write_run
from mmssl.evaluate.tracking.sequence import Sequence

TRACKERS = {"kcf": lambda: cv2.TrackerKCF.create(), "csrt": lambda: cv2.TrackerCSRT.create()}


def follow(tracker: Any, sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """(T, 4) boxes and (T,) seconds, those of decoding not counted; OpenCV takes whole pixels and BGR."""
    boxes, seconds = [sequence.truth[0]], []
    for number in range(len(sequence)):
        frame = np.ascontiguousarray(sequence.frames[number].permute(1, 2, 0).numpy()[..., ::-1])
        began = time.perf_counter()
        if number == 0:
            tracker.init(frame, tuple(int(value) for value in np.rint(boxes[0])))
        else:
            found, box = tracker.update(frame)
            boxes.append(np.asarray(box, dtype=np.float64) if found else boxes[-1])
        seconds.append(time.perf_counter() - began)
    return np.stack(boxes), np.array(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", help="OTB's folder: SEQUENCE/img and SEQUENCE/groundtruth_rect.txt")
    parser.add_argument("out", type=Path)
    parser.add_argument("--sequences", default="", help="comma-separated; all by default")
    arguments = parser.parse_args()
    names = tuple(name for name in arguments.sequences.split(",") if name)
    sequences = read_benchmark(OtbConfig(kind="otb", root=arguments.root, sequences=names))
    for name, create in TRACKERS.items():
        for sequence in track(sequences, name):
            boxes, seconds = follow(create(), sequence)
            write_run(LAYOUTS["otb"], arguments.out / name, sequence.name, boxes, seconds)


if __name__ == "__main__":
    main()
