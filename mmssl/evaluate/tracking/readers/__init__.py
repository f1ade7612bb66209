"""Benchmarks in their official layouts, as sequences. ``kind`` in a recipe selects the layout."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from mmssl.evaluate.tracking.readers.base import BenchmarkConfig
from mmssl.evaluate.tracking.readers.got10k import Got10kConfig, read_got10k
from mmssl.evaluate.tracking.readers.lasot import LasotConfig, read_lasot
from mmssl.evaluate.tracking.readers.nfs import NfsConfig, read_nfs
from mmssl.evaluate.tracking.readers.otb import OtbConfig, read_otb
from mmssl.evaluate.tracking.readers.shard_set import ShardSetConfig, read_shard_set
from mmssl.evaluate.tracking.readers.tc128 import Tc128Config, read_tc128
from mmssl.evaluate.tracking.readers.tlp import TlpConfig, read_tlp
from mmssl.evaluate.tracking.readers.trackingnet import TrackingNetConfig, read_trackingnet
from mmssl.evaluate.tracking.readers.uav123 import Uav123Config, read_uav123
from mmssl.evaluate.tracking.readers.vot import VotConfig, read_vot
from mmssl.evaluate.tracking.sequence import Sequence

AnyBenchmark = Annotated[
    OtbConfig
    | VotConfig
    | Tc128Config
    | Uav123Config
    | LasotConfig
    | Got10kConfig
    | TrackingNetConfig
    | NfsConfig
    | TlpConfig
    | ShardSetConfig,
    Field(discriminator="kind"),
]
"""The settings of any benchmark, as the type of a field."""

_READERS: dict[type[BenchmarkConfig], Callable[[Any], list[Sequence]]] = {
    OtbConfig: read_otb,
    VotConfig: read_vot,
    Tc128Config: read_tc128,
    Uav123Config: read_uav123,
    LasotConfig: read_lasot,
    Got10kConfig: read_got10k,
    TrackingNetConfig: read_trackingnet,
    NfsConfig: read_nfs,
    TlpConfig: read_tlp,
    ShardSetConfig: read_shard_set,
}

__all__ = ["AnyBenchmark", "BenchmarkConfig", "read_benchmark"]


def read_benchmark(config: BenchmarkConfig) -> list[Sequence]:
    """The sequences that the settings ask for, in the benchmark's order; no frame is decoded yet.

    Raises:
        MmsslError: something is missing, cut short or not what the layout says; names the file, the line and
            what was expected.
    """
    return _READERS[type(config)](config)
