"""Optical flow: what it costs to build and to read, and how far off the estimators are.

``python benchmarks/flow_costs.py [--repeats N]`` prints the figures; ``benchmarks/views.py`` records them.
Variants run in turns; what is read runs on one core. With ``MMSSL_REAL_DATA`` set, the video is made of
a tracking sequence there, otherwise of a scene of miniworld, and the three pairs of Middlebury that have a
public truth take part (Baker et al., IJCV 2011).
"""

import argparse
import gzip
import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from harness import Figure, figure, interleaved
from numpy.typing import NDArray
from rich.console import Console

from mmssl.miniworld import MiniworldConfig, clip
from mmssl.shards import encode
from mmssl.shards.flow import FlowOptions, estimate_flow
from mmssl.shards.flow.estimators import Dis
from mmssl.shards.flow.track import FlowTrack
from mmssl.shards.video import Encoding, RawVideo, VideoOptions, convert
from mmssl.stream.decode import EncodedFlow, decode
from mmssl.stream.flow import open_flow

FRAMES, RATE, HEIGHT, WIDTH = 45, 15, 256, 340
STACK = 5
"""Fields that a view reads of a video: ten channels."""
CHOICES = (("dis", "ultrafast"), ("dis", "fast"), ("dis", "medium"), ("farneback", None))
Frames = list[NDArray[np.uint8]]


def one_core() -> None:
    """Torch and OpenCV on one thread, all of it on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def frames() -> tuple[Frames, str]:
    """FRAMES frames (HEIGHT, WIDTH, 3) of one video, and where they come from."""
    root = os.environ.get("MMSSL_REAL_DATA")
    if root is None:
        found, content = [*clip("train", 0, MiniworldConfig(frames=FRAMES)).frames], "a miniworld scene"
    else:
        folder = sorted(Path(root, "tracking").glob("*/img"))[0]
        files = sorted(folder.iterdir())[:FRAMES]
        found = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]
        content = f"tracking sequence {folder.parent.name}"
    return [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for frame in found], content


def building(repeats: int) -> list[Figure]:
    """A whole build of a video with flow against the bare estimator on one core: the rest is hidden behind it
    on a second core, or adds to its processor time."""
    pictures, content = frames()
    raw = RawVideo(encode.h264(pictures, RATE), max_side=4096)
    encoding = Encoding(fps=RATE, short_side=HEIGHT)
    luma = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pictures]
    dis = Dis("medium")
    variants: dict[str, Callable[[], object]] = {
        "bare DIS": lambda: [dis.between(a, b) for a, b in pairwise(luma)],
        "build with flow": lambda: convert(raw, VideoOptions(encoding=encoding, flow=FlowOptions())),
        "build without flow": lambda: convert(raw, VideoOptions(encoding=encoding)),
    }
    wall = interleaved(variants, repeats)
    work = interleaved(variants, repeats, clock=time.process_time)
    protocol = (
        f"{len(pictures)} frames of {WIDTH} x {HEIGHT}, {content}, H.264 at {RATE} fps with a keyframe every "
        "8; build: decoded, measured, encoded again as H.264, flow by DIS medium as JPEG of quality 95; bare "
        f"DIS: the same pairs as grey frames in memory, on one core; medians of {repeats} interleaved repeats"
    )
    on = f"{protocol}; elapsed time of one process that may use {len(os.sched_getaffinity(0))} cores"
    pairs = len(pictures) - 1
    added = work["build with flow"] - work["build without flow"]
    ratio = wall["bare DIS"] / wall["build with flow"]
    return [
        *(figure(name, pairs / taken, "pairs/s", on) for name, taken in wall.items()),
        figure("build with flow over bare DIS", ratio, "×", on, ">= 0.85"),
        figure(
            "bare DIS over what flow adds to a build", work["bare DIS"] / added, "×",
            f"{protocol}; processor time", ">= 0.85",
        ),
    ]  # fmt: skip


def reading(repeats: int) -> list[Figure]:
    """Fields by themselves and out of Matroska, as float pixels, against bare decoding to grey levels."""
    pictures, content = frames()
    track = FlowTrack(FlowOptions())
    for picture in pictures:
        track.put(picture)
    members, _ = track.members(0, [at / RATE for at in range(len(pictures))], [])
    stored = EncodedFlow(members["flow.mkv"])
    fields = [bytes(packet) for packet in open_flow(stored).packets]
    numbers = np.arange(len(fields))

    def bare() -> None:
        for data in fields:
            simplejpeg.decode_jpeg(data, colorspace="GRAY")

    def single() -> None:
        for data in fields:
            decode("flow", "jpg", data)

    def video() -> None:
        with open_flow(stored) as flow:
            for start in range(0, len(numbers), STACK):
                flow.read(numbers[start : start + STACK])

    variants = {"bare JPEG decoding": bare, "flow, one by one": single, "flow of a video": video}
    seconds = interleaved(variants, repeats, clock=time.process_time)
    protocol = (
        f"{len(fields)} fields of DIS medium, {WIDTH} x {HEIGHT}, {content}, JPEG of quality 95, "
        f"{sum(map(len, fields)) / len(fields) / 1000:.1f} KB each; flow: float32 pixels, and of a video "
        f"through Matroska, {STACK} fields to a read; bare: grey levels; one core, processor time, medians "
        f"of {repeats} interleaved repeats"
    )
    bare_seconds = seconds["bare JPEG decoding"]
    return [
        *(figure(name, len(fields) / taken, "fields/s", protocol) for name, taken in seconds.items()),
        *(
            figure(f"{name}, over bare decoding", bare_seconds / seconds[name], "×", protocol, ">= 0.8")
            for name in ("flow, one by one", "flow of a video")
        ),
    ]


def middlebury(root: Path) -> Iterator[tuple[str, list[NDArray[np.uint8]], NDArray[np.float32]]]:
    """(name, two frames (H, W, 3) RGB, true flow (H, W, 2) with NaN where it is unknown) of each pair."""
    for folder in sorted(Path(root, "flow", "middlebury").iterdir()):
        names = [str(folder / f"frame{number}.png") for number in (10, 11)]
        pair = [cv2.cvtColor(cv2.imread(name), cv2.COLOR_BGR2RGB) for name in names]
        data = gzip.decompress((folder / "flow10.flo.gz").read_bytes())
        # .flo: the float 202021.25 as a tag, width, height, and u, v of each pixel; above 1e9 = unknown.
        width, height = np.frombuffer(data, "<i4", 2, 4)
        truth = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).copy()
        truth[(np.abs(truth) > 1e9).any(axis=2)] = np.nan
        yield folder.name, pair, truth


def end_point_error(flow: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean length of the difference in pixels, where the truth is known."""
    return float(np.nanmean(np.linalg.norm(flow - truth, axis=2)))


def errors() -> list[Figure]:
    """End-point error of every estimator that needs no weights, and of how its fields are stored."""
    root = os.environ.get("MMSSL_REAL_DATA")
    figures = []
    worlds = [clip("val", index, MiniworldConfig(size=128)) for index in range(8)]
    for estimator, preset in CHOICES:
        flow = estimate_flow(FlowOptions.model_validate({"estimator": estimator, "preset": preset}))
        name = f"{estimator} {preset}" if preset else estimator
        for pair_name, pair, truth in middlebury(Path(root)) if root else ():
            protocol = "mean end-point error over known pixels; frames 10 and 11 of Middlebury, 8-bit colour"
            error = end_point_error(flow(*pair), truth)
            figures.append(figure(f"EPE of {name}, {pair_name}", error, "px", protocol))
        protocol = (
            "mean end-point error over all pixels; 8 clips of miniworld, 128 px, frames 0 to 1, 5 to 6 …"
        )
        found = [
            end_point_error(flow(world.frames[at], world.frames[at + 1]), world.flow[at])
            for world in worlds
            for at in range(0, len(world.flow), 5)
        ]
        figures.append(figure(f"EPE of {name}, miniworld", float(np.mean(found)), "px", protocol))
    return [*figures, *storage()]


def storage() -> list[Figure]:
    """What storing costs a field of DIS in pixels and bytes."""
    pictures, content = frames()
    dis = estimate_flow(FlowOptions())
    fields = [dis(pictures[at], pictures[at + 1]) for at in range(0, len(pictures) - 1, 4)]
    protocol = f"mean of {len(fields)} fields of DIS medium, {WIDTH} x {HEIGHT}, {content}"
    figures = []
    for name, encoded, kind in (("JPEG", encode.flow_jpeg, "jpg"), ("KITTI PNG", encode.flow_png, "png")):
        data = [encoded(field) for field in fields]
        back = [decode("flow", kind, each).permute(1, 2, 0).numpy() for each in data]
        error = np.mean([end_point_error(a, b) for a, b in zip(back, fields, strict=True)])
        size = np.mean([len(each) for each in data]) / 1000
        figures.append(figure(f"EPE of storing as {name}", float(error), "px", protocol))
        figures.append(figure(f"field as {name}", float(size), "KB", protocol))
    return figures


def measure(repeats: int) -> list[Figure]:
    """All figures; the process stays on one core afterwards."""
    torch.set_num_threads(1)
    built = building(repeats)
    one_core()
    return [*built, *reading(3 * repeats), *errors()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    for item in measure(parser.parse_args().repeats):
        Console().print(f"{item.figure}: {item.value:g} {item.unit} {item.bar} {item.holds}", highlight=False)
