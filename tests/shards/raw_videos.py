"""Raw videos of every sort, made on the spot; a frame's brightness says its number."""

import io
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

STEP = 6
"""Grey levels between one frame and the next."""


def scene(seed: int, height: int = 72, width: int = 96) -> np.ndarray:
    """(height, width, 3) uint8 smooth coloured noise, each seed with colours of its own."""
    rng = np.random.default_rng(seed)
    darkest = rng.integers(0, 110, 3)
    coarse = rng.integers(darkest, darkest + 140, (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def counting(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """Frames of (width, height) whose grey level is 20 + STEP · number."""
    return [np.full((size[1], size[0], 3), 20 + STEP * number, np.uint8) for number in range(count)]


def write(
    frames: Sequence[np.ndarray],
    fps: float = 30,
    *,
    form: str = "mp4",
    codec: str = "libx264",
    times: Sequence[float] | None = None,
    sound: float = 0,
    **options: str,
) -> bytes:
    """Encode; ``times`` in seconds for uneven frames, ``sound`` adds so many seconds of silence."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        if frames:
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            height, width = frames[0].shape[:2]
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"g": "12", **options}
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("aac" if form == "mp4" else "mp2", rate=16000) if sound else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        if frames:
            container.mux(stream.encode(None))
        if audio is not None:
            for number in range(round(sound * 16000 / 1024)):
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                quiet.rate, quiet.pts = 16000, number * 1024
                container.mux(audio.encode(quiet))
            container.mux(audio.encode(None))
    return buffer.getvalue()


def turned(data: bytes) -> bytes:
    """An MP4 whose track is to be shown turned by 90° clockwise.

    The matrix of the track header (ISO/IEC 14496-12, 8.3.2) maps (x, y) to (a·x + c·y, b·x + d·y);
    a = d = 0, b = 1, c = -1 takes right to down.
    """
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags; times, id, duration; layer … volume
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    assert data[at : at + 36] == identity
    return data[:at] + struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30) + data[at + 36 :]


def index_first(data: bytes) -> bytes:
    """An MP4 with its index before its pictures, as on the web, so that a beginning alone can be opened."""
    with tempfile.TemporaryDirectory() as folder, av.open(io.BytesIO(data)) as source:
        path = Path(folder, "a.mp4")
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
        return path.read_bytes()


def spoilt(data: bytes) -> bytes:
    """An MP4 whose pictures are noise, as those of an encrypted file are."""
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    noise = np.random.default_rng(0).integers(0, 256, end - start, dtype=np.uint8).tobytes()
    return data[:start] + noise + data[end:]


def read(data: bytes) -> np.ndarray:
    """(T, H, W, 3) uint8, every frame, without any code of ours."""
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def numbers(data: bytes) -> list[int]:
    """The numbers that a video's frames say they have."""
    return [round((float(frame.mean()) - 20) / STEP) for frame in read(data)]
