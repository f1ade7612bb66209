"""Real videos, from phones, web cameras and old data sets: decoders agree on frames and times."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from mmssl.stream.decode import EncodedVideo
from mmssl.stream.video import open_video
from mmssl.stream.video.decord import CODECS

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("MMSSL_REAL_DATA" not in os.environ, reason="MMSSL_REAL_DATA is not set"),
]
MOST_BYTES, TOGETHER = 20_000_000, 12


def files() -> list[Path]:
    """A few of each folder with videos: formats differ between folders, not within them."""
    root = Path(os.environ.get("MMSSL_REAL_DATA", "."))
    found: dict[Path, list[Path]] = {}
    for path in sorted(p for kind in ("mp4", "avi", "mpg", "webm") for p in root.rglob(f"*.{kind}")):
        if path.stat().st_size < MOST_BYTES:
            found.setdefault(path.parent.parent, []).append(path)
    return [path for paths in found.values() for path in paths[:: -(-len(paths) // 2)]][:TOGETHER]


def test_readers_agree_with_decoding_from_the_start():
    paths = files()
    assert paths, "no videos in MMSSL_REAL_DATA"
    rng = np.random.default_rng(0)
    for path in paths:
        data = path.read_bytes()
        with open_video(EncodedVideo(data, path.suffix[1:]), "pyav") as video:
            count, codec = min(len(video), 60), video._container.codec
            chosen = np.sort(rng.choice(count, min(count, 3), replace=False))
            frames = video.read(chosen)
            times = video.times
        with av.open(str(path)) as container:
            shown = [frame for frame, _ in zip(container.decode(video=0), range(count), strict=False)]
        for row, number in enumerate(chosen):
            expected = shown[number].to_ndarray(format="rgb24")
            assert (shown[number].time - shown[0].time) == pytest.approx(times[number], abs=1e-4), path.name
            assert np.abs(expected.astype(int) - frames[row].permute(1, 2, 0).numpy()).mean() < 1, path.name
        if codec in CODECS and path.suffix == ".mp4":
            with open_video(EncodedVideo(data, "mp4"), "decord") as video:
                difference = (video.read(chosen).int() - frames.int()).abs().float().mean()
            assert difference < 2, path.name
