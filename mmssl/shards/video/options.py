"""How videos are stored: the options that every source of videos shares."""

from typing import Literal

from pydantic import Field, model_validator

from mmssl.config import Config
from mmssl.shards.flow import FlowOptions


class Encoding(Config):
    """What becomes of a video's frames on their way into a shard."""

    mode: Literal["h264", "jpeg", "copy"] = "h264"
    """``h264``: short GOPs without B-frames, several times faster to decode at random moments than what
    cameras and the web give; ``jpeg``: every frame a JPEG in Matroska, five times larger; ``copy``: the bytes
    as they are."""
    fps: float = Field(default=15, gt=0, le=1000)
    """Frames per second to store, chosen by presentation time; a slower video keeps its own rate."""
    short_side: int = Field(default=256, ge=16)
    """Pixels of the shorter side; smaller videos are not enlarged."""
    gop: int = Field(default=8, ge=1)
    """A keyframe every so many frames (h264)."""
    crf: int = Field(default=23, ge=0, le=51)
    """Constant rate factor: lower is better and larger (h264)."""
    quality: int = Field(default=90, ge=1, le=100)
    """Of each JPEG (jpeg)."""
    max_side: int = Field(default=4096, ge=16)
    """A video with a longer side, in pixels, is refused before it is decoded: one frame of 8k is 100 MB."""


class Segments(Config):
    """Cut long videos: segment k covers [k·(seconds − overlap), k·(seconds − overlap) + seconds)."""

    seconds: float = Field(gt=0)
    """Length of a segment; the last one of a video may be shorter."""
    overlap: float = Field(default=0, ge=0)
    """Seconds that a segment shares with the one before it."""

    @model_validator(mode="after")
    def _moves_on(self) -> "Segments":
        if self.overlap >= self.seconds:
            raise ValueError(f"overlap {self.overlap:g} s, expected less than seconds {self.seconds:g}")
        return self


class VideoOptions(Config):
    """Mixed into the sources of videos."""

    encoding: Encoding = Encoding()
    """How frames are stored."""
    segments: Segments | None = None
    """Cut every video into samples KEY-000, KEY-001 …; null = one sample for a video."""
    flow: FlowOptions | None = None
    """Store optical flow between the stored frames as well; null = none."""

    @model_validator(mode="after")
    def _copies_are_whole(self) -> "VideoOptions":
        if self.segments is not None and self.encoding.mode == "copy":
            raise ValueError("segments need encoding.mode h264 or jpeg; copied bytes cannot be cut")
        return self
