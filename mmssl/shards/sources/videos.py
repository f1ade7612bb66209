"""Probe an encoded video once, when shards are built."""

import io
from typing import Any

import av

from mmssl.modalities import MODALITIES
from mmssl.shards.sources.base import BadInput

EXTENSIONS = frozenset(MODALITIES["video"].extensions)


def video_members(data: bytes, extension: str, *, check: bool) -> tuple[str, bytes, dict[str, Any]]:
    """Column, the bytes as they are, and metadata: fps, frames, duration in seconds, width, height, codec.

    With ``check`` every frame is decoded and counted; else the container's own count is believed.

    Raises:
        BadInput: not a video, no video stream, truncated, or no frames.
    """
    if not data:
        raise BadInput("empty file")
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            if not container.streams.video:
                raise BadInput("no video stream")
            stream = container.streams.video[0]
            frames, end = stream.frames, 0.0
            if check or not frames:
                frames = 0
                for frame in container.decode(stream):
                    frames += 1
                    end = max(end, frame.time or 0.0)
            rate = stream.average_rate or stream.guessed_rate
            if not frames or not rate:
                raise BadInput("no frames" if not frames else "no frame rate")
            fps = float(rate)
            duration = end + 1 / fps if end else frames / fps
            meta = {
                "fps": round(fps, 6),
                "frames": frames,
                "duration": round(duration, 6),
                "width": stream.codec_context.width,
                "height": stream.codec_context.height,
                "codec": stream.codec_context.name,
            }
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise BadInput(f"not a readable video ({error})") from error
    return f"video.{extension}", data, meta
