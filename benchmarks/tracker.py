"""The online tracker and its training against the bare convolutions, and what bf16 costs.

``MMSSL_REAL_DATA=… python benchmarks/tracker.py [--encoder FOLDER]`` prints the figures and writes
``results/tracker.json``. Everything runs on two threads; run it alone on the machine. The folder of real data
holds ``tracking/David`` and ``tracking/Crossing`` as OTB lays them out. How fast the tracker is does not
depend on the encoder's weights; how well bf16 does, does: random ones are the default.
"""

import argparse
import os
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import Figure, figure, interleaved, record
from tracker_training import training_figures

from mmssl.evaluate.tracking.protocols import PROTOCOLS
from mmssl.evaluate.tracking.readers import read_benchmark
from mmssl.evaluate.tracking.readers.otb import OtbConfig
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.models import dcfnet
from mmssl.models.artifact import load_encoder
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.models.feature_map import FeatureMap
from mmssl.tracking.boxes import Boxes
from mmssl.tracking.lockstep import Job, lockstep
from mmssl.tracking.tracker import PRESETS, Tracker, TrackerConfig, Trackers

THREADS, CROPS, SIZE = 2, 4, 125
CONFIG = PRESETS["udt"]
HALF = CONFIG.model_copy(update={"precision": "bf16"})


def features(folder: Path | None) -> FeatureMap:
    if folder is None:
        torch.manual_seed(0)
        config = EncoderConfig(name="dcfnet", image_size=SIZE, std=dcfnet.PIXELS)
        return FeatureMap(build_encoder(config))
    encoder = load_encoder(folder)
    if not isinstance(encoder, Encoder) or not isinstance(encoder.backbone, dcfnet.DCFNet):
        sys.exit(f"{folder}: expected an encoder named dcfnet, which the bars are for")
    return FeatureMap(encoder)


def track(look: FeatureMap, sequence: Sequence, config: TrackerConfig) -> Boxes:
    """The whole loop: every frame decoded and tracked in, one after the other."""
    tracker = Tracker(look, config)
    frames = sequence.frames.walk(range(len(sequence)))
    tracker.init(next(frames), sequence.truth[0])
    return np.stack([sequence.truth[0], *(tracker.update(frame)[0] for frame in frames)])


def updates(look: FeatureMap, sequence: Sequence, config: TrackerConfig) -> Callable[[], object]:
    """One update a call, on decoded frames to and fro, so that the target never jumps."""
    shown = [sequence.frames[number] for number in range(60)]
    tracker = Tracker(look, config)
    tracker.init(shown[0], sequence.truth[0])
    following = cycle([*shown[1:], *shown[-2::-1]])
    return lambda: tracker.update(next(following))


@torch.inference_mode()
def bare(dtype: torch.dtype) -> Callable[[], object]:
    """The two convolutions of four crops, channels last, and the ReLU between them."""
    net = dcfnet.DCFNet().to(dtype=dtype, memory_format=torch.channels_last)
    x = (60 * torch.randn(CROPS, 3, SIZE, SIZE)).to(dtype=dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> object:
        return net.conv2(net.conv1(x).relu_())

    return run


def loops(look: FeatureMap, sequences: list[Sequence], repeats: int) -> list[Figure]:
    """Frames a second of whole loops, decoding included, in turns."""

    def in_lanes() -> None:
        jobs = [Job(one.frames, range(len(one)), one.truth[0]) for one in sequences]
        for _ in lockstep(Trackers(look, CONFIG), jobs, len(jobs)):
            pass

    variants: dict[str, Callable[[], object]] = {}
    frames: dict[str, int] = {}
    for sequence in sequences:
        for words, config in (("", CONFIG), (", bf16 features", HALF)):
            name = f"{sequence.name}{words}"
            variants[name] = lambda sequence=sequence, config=config: track(look, sequence, config)  # type: ignore[misc]
            frames[name] = len(sequence)
    variants["all in lockstep"] = in_lanes
    frames["all in lockstep"] = sum(map(len, sequences))
    seconds = interleaved(variants, repeats)
    protocol = (
        f"every frame of the sequence, JPEG decoding and everything else included, {THREADS} threads, "
        f"settings of UDT, float32 features unless it says otherwise; medians of {repeats} repeats in turns"
    )
    bars = {sequence.name: ">= 50" for sequence in sequences}
    return [
        figure(f"whole loop, {name}", frames[name] / taken, "frames/s", protocol, bars.get(name, ""))
        for name, taken in seconds.items()
    ]


def steps(look: FeatureMap, sequence: Sequence, repeats: int) -> list[Figure]:
    """An update without decoding, over the bare convolutions of its four crops."""
    seconds = interleaved(
        {
            "bare convolutions": bare(torch.float32),
            "update": updates(look, sequence, CONFIG),
            "bare convolutions, bf16": bare(torch.bfloat16),
            "update, bf16 features": updates(look, sequence, HALF),
        },
        repeats,
        warmup=5,
    )
    protocol = (
        f"an update on decoded frames of {sequence.name} (crops, features, transforms, filter, learning) and "
        f"the two convolutions of {CROPS} crops of {SIZE}², channels last; {THREADS} threads; medians of "
        f"{repeats} interleaved repeats"
    )
    shown = [figure(name, 1000 * taken, "ms", protocol) for name, taken in seconds.items()]
    over_bare = seconds["update"] / seconds["bare convolutions"]
    saved = seconds["update"] / seconds["update, bf16 features"]
    return [
        *shown,
        figure("update over the bare convolutions", over_bare, "×", protocol, "<= 2.2"),
        figure("update over the update with bf16 features", saved, "×", protocol),
    ]


def cost(look: FeatureMap, sequences: list[Sequence], weights: str) -> list[Figure]:
    """AUC with single-precision and bf16 features."""
    otb = PROTOCOLS["otb"]
    figures = []
    for words, config in (("float32", CONFIG), ("bf16", HALF)):
        judged = {one.name: otb.judge(track(look, one, config), one) for one in sequences}
        value = otb.combine(judged, sequences).values["success AUC"]
        protocol = f"otb: {otb.about}; {', '.join(judged)}; settings of UDT, {weights}"
        figures.append(figure(f"success AUC, {words} features", value, "%", protocol))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, help="folder of a trained dcfnet")
    parser.add_argument(
        "--repeats", type=int, default=5, help="of whole loops; updates are repeated 40 times as often"
    )
    arguments = parser.parse_args()
    root = os.environ.get("MMSSL_REAL_DATA")
    if root is None:
        sys.exit("MMSSL_REAL_DATA: not set; expected the folder of real data")
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(THREADS)
    config = OtbConfig(kind="otb", root=str(Path(root, "tracking")), sequences=("David", "Crossing"))
    sequences = read_benchmark(config)
    look = features(arguments.encoder)
    weights = (
        "random weights, seed 0" if arguments.encoder is None else f"weights of {arguments.encoder.name}"
    )
    record(
        "tracker",
        [
            *steps(look, sequences[0], 40 * arguments.repeats),
            *loops(look, sequences, arguments.repeats),
            *cost(look, sequences, weights),
            *training_figures(repeats=arguments.repeats),
        ],
    )


if __name__ == "__main__":
    main()
