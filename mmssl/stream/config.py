"""What a stream reads, and how."""

from pydantic import Field

from mmssl.config import Config
from mmssl.stream.decode import Decoder


class Source(Config):
    """One split of one shard set."""

    shards: str
    """Folder or fsspec URL that holds ``manifest.json``."""
    split: str = "train"
    weight: float = Field(default=1.0, gt=0)
    """Share of the samples drawn from this source, relative to the other sources' weights."""


class FaultLimits(Config):
    """When unreadable samples stop the run instead of being replaced."""

    max_in_a_row: int = Field(default=32, ge=1)
    """This many unreadable samples one after the other stop the run."""
    max_share: float = Field(default=0.05, ge=0, le=1)
    """So does a larger share of unreadable samples than this …"""
    after: int = Field(default=1000, ge=1)
    """… judged from this many samples on."""


class StreamConfig(Config):
    """Sources, order, workers, and what to do about samples that cannot be read."""

    sources: tuple[Source, ...] = Field(min_length=1)
    workers: int = Field(default=2, ge=0)
    """Processes that read, decode and augment; 0 does it in the training process."""
    block: int = Field(default=256, ge=1)
    """Neighbouring samples that stay together on their way into the same shuffle window."""
    window: int = Field(default=16384, ge=1)
    """Samples that are shuffled among each other; a split not larger than this is shuffled as a whole."""
    decoder: Decoder = "auto"
    """What decodes videos. "auto" takes the fastest that is correct, codec by codec, on the machine at hand;
    decoders agree on frames and times, and on colours within a few grey levels."""
    verify: bool = True
    """Check every member that is read against the checksum in the index."""
    cache: str | None = None
    """Folder for local copies of remote shards; by default ``mmssl`` in the user's cache folder."""
    faults: FaultLimits = FaultLimits()
