"""Clips on one core: the whole stream against bare decoders, and against video as cameras leave it.

``python benchmarks/clips.py [--repeats N]`` prints the figures and writes ``results/clips.json``. Everything
runs on one core, in turns, and processor time is compared. With ``MMSSL_REAL_DATA`` set, the videos are
made of the tracking sequences there, otherwise of miniworld's scenes. torchcodec takes part where it works.
"""

import argparse
import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import decord
import numpy as np
import torch
from harness import Figure, figure, interleaved, record
from numpy.typing import NDArray

from mmssl.miniworld import MiniworldConfig, clip
from mmssl.shards import encode
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard
from mmssl.stream import Source, Stream, StreamConfig
from mmssl.stream.clips.base import Timeline
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.decode import EncodedVideo
from mmssl.stream.video import open_video, torchcodec
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.draws import Draws

VIDEOS, SECONDS, HEIGHT, WIDTH = 16, 10, 256, 340
FRAMES, RATE, SIZE, BATCH = 16, 15, 112, 8
SAMPLER = Blocks(blocks=1, frames=FRAMES, stride=1 / RATE)
Frames = NDArray[np.int64]


class Crops(ClipView):
    """Clips with one random crop each, uint8, and nothing else."""

    def finish(self, x: Any, draws: Draws) -> Any:
        return x


def pictures() -> tuple[list[list[np.ndarray]], str]:
    """For each video its frames (H, W, 3) in RGB, and where they come from."""
    root = os.environ.get("MMSSL_REAL_DATA")
    if root is None:
        clips = [clip("train", i, MiniworldConfig(frames=100)).frames for i in range(VIDEOS)]
        return [[*frames] for frames in clips], "miniworld scenes"
    sequences = []
    for folder in itertools.islice(itertools.cycle(sorted(Path(root, "tracking").glob("*/img"))), VIDEOS):
        files = sorted(folder.iterdir())[: 2 * SECONDS * RATE]
        sequences.append([cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files])
    return sequences, "tracking sequences"


def film(frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Ten seconds at 30 frames a second: to and fro over the frames, at the size of a video for training."""
    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    for i in itertools.islice(itertools.cycle(order), 2 * SECONDS * RATE):
        yield cv2.resize(frames[i], (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def found(frames: list[np.ndarray]) -> bytes:
    """H.264 as cameras and the web give it: a keyframe every 250 frames, B-frames, x264's defaults."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream: Any = output.add_stream("libx264", rate=Fraction(2 * RATE), options={"g": "250"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for pixels in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()


def build(root: Path, videos: list[bytes]) -> Stream:
    samples = (RawSample(f"{i:03d}", {"video.mp4": video}) for i, video in enumerate(videos))
    root.mkdir()
    written = write_shard(root / "0.tar", samples)
    written.index.save(root / "0.index")
    count, size = len(written.index), written.index.tar_bytes
    shard = Shard(file="0.tar", index="0.index", samples=count, first_id=0, bytes=size, sha256=written.sha256)
    split = Split(samples=count, shards=(shard,))
    Manifest(name="clips", splits={"train": split}, fields={"video": 1.0}, classes={}).save(root)
    view = Crops(SAMPLER, SIZE, (0.5,) * 3, (0.5,) * 3, ClipAugmentation())
    config = StreamConfig(sources=(Source(shards=str(root)),), workers=0)
    return Stream(config, {"clip": view}, batch_size=BATCH, seed=0)


def with_pyav(data: bytes, frames: Frames) -> Any:
    """Seek, decode, convert, as PyAV's documentation does it; the frame rate is known to be constant."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        tick = round(1 / (stream.average_rate * stream.time_base))
        container.seek(int(frames[0]) * tick, stream=stream)
        wanted = set((frames * tick).tolist())
        shown = []
        for frame in container.decode(stream):
            if frame.pts in wanted:
                shown.append(frame.to_ndarray(format="rgb24"))
                if len(shown) == len(wanted):
                    break
        return np.stack(shown)


def with_decord(data: bytes, frames: Frames) -> Any:
    return decord.VideoReader(io.BytesIO(data), num_threads=1).get_batch(frames)


def with_torchcodec(data: bytes, frames: Frames) -> Any:
    from torchcodec.decoders import VideoDecoder

    return VideoDecoder(data, num_ffmpeg_threads=1).get_frames_at(frames.tolist()).data


def with_ours(data: bytes, frames: Frames) -> Any:
    with open_video(EncodedVideo(data, "mp4")) as video:
        return video.read(frames)


def chosen(videos: list[bytes]) -> list[Frames]:
    """The frames that the stream reads of each video in its first pass."""
    numbers = []
    for id_, data in enumerate(videos):
        with open_video(EncodedVideo(data, "mp4")) as video:
            draws = Draws(0, "clip", np.array([id_]), np.array([0]))
            timeline = Timeline(video.times, video.duration)
            numbers.append(timeline.frames_at(SAMPLER.moments(timeline, draws)))
    return numbers


def measure(repeats: int) -> list[Figure]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    sequences, content = pictures()
    films = [list(film(frames)) for frames in sequences]
    stored = [encode.h264(frames[::2], RATE) for frames in films]
    raw = [found(frames) for frames in films]
    bare: dict[str, Callable[[bytes, Frames], Any]] = {"PyAV": with_pyav, "decord": with_decord}
    reason = torchcodec.available()
    if reason is None:
        bare["torchcodec"] = with_torchcodec
    numbers = chosen(stored)
    with tempfile.TemporaryDirectory() as folder:
        streams = {
            "stored": build(Path(folder, "stored"), stored),
            "found": build(Path(folder, "found"), raw),
        }

        def through(name: str) -> Callable[[], object]:
            return lambda: [batch.clip for batch in streams[name].batches(0, VIDEOS // BATCH)]

        def decode(how: Callable[[bytes, Frames], Any]) -> Callable[[], object]:
            return lambda: [how(data, frames) for data, frames in zip(stored, numbers, strict=True)]

        variants = {
            "stream": through("stored"),
            **{f"bare {name}": decode(how) for name, how in bare.items()},
            "bare reader of mmssl": decode(with_ours),
            "stream, source as found": through("found"),
        }
        seconds = interleaved(variants, repeats, clock=time.process_time)
    protocol = (
        f"{VIDEOS} videos of {SECONDS} s, {WIDTH} x {HEIGHT}, {content}; clips of {FRAMES} frames at {RATE} "
        f"fps from random moments; stored: H.264 at {RATE} fps with a keyframe every 8 frames, as shards are "
        f"built, {sum(map(len, stored)) // VIDEOS // 1000} KB each; as found: {2 * RATE} fps, a keyframe "
        f"every 250, {sum(map(len, raw)) // VIDEOS // 1000} KB; stream: shuffled, checksums, one random crop "
        f"a clip to {SIZE} px, batches of {BATCH}, in the calling process; bare: whole RGB frames of the "
        f"same clips from the same bytes in memory, nothing else; one core, processor time, medians of "
        f"{repeats} interleaved repeats; torchcodec: {reason or 'takes part'}"
    )
    rates = [figure(f"clips, {name}", VIDEOS / taken, "clips/s", protocol) for name, taken in seconds.items()]
    fastest = min((name for name in seconds if name.startswith("bare")), key=lambda name: seconds[name])
    over_bare = seconds[fastest] / seconds["stream"]
    over_found = seconds["stream, source as found"] / seconds["stream"]
    return [
        *rates,
        figure(f"stream over the fastest, {fastest}", over_bare, "×", protocol, ">= 0.85"),
        figure("stored over the source as found", over_found, "×", protocol, ">= 4"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    record("clips", measure(parser.parse_args().repeats), packages=("av", "decord", "torchcodec"))
