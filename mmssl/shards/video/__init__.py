"""Raw videos to the clips that shards hold: one decode re-encodes, measures motion and finds cuts."""

from mmssl.shards.video.options import Encoding, Segments, VideoOptions
from mmssl.shards.video.raw import RawVideo, Shown
from mmssl.shards.video.transcode import Clip, convert, shown, transcode

__all__ = [
    "Clip",
    "Encoding",
    "RawVideo",
    "Segments",
    "Shown",
    "VideoOptions",
    "convert",
    "shown",
    "transcode",
]
