"""Reading: order, shards, decoding, views, batches."""

from mmssl.stream.config import FaultLimits, Source, StreamConfig
from mmssl.stream.loader import Stream, scan
from mmssl.stream.quarantine import Quarantine

__all__ = ["FaultLimits", "Quarantine", "Source", "Stream", "StreamConfig", "scan"]
