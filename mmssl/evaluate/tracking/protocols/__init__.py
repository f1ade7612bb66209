"""The scoring rules of tracking benchmarks, each under its own name: a number without one says nothing."""

from mmssl.evaluate.tracking.protocol import Protocol
from mmssl.evaluate.tracking.protocols.attributes import by_attribute
from mmssl.evaluate.tracking.protocols.got10k import Got10k, Got10kLasot, Got10kOtb
from mmssl.evaluate.tracking.protocols.one_pass import OnePass
from mmssl.evaluate.tracking.protocols.otb import Otb
from mmssl.evaluate.tracking.protocols.pysot import Lasot, Pysot
from mmssl.evaluate.tracking.protocols.regions import corners
from mmssl.evaluate.tracking.protocols.trackingnet import TrackingNet
from mmssl.evaluate.tracking.protocols.vot_anchor import AnchorJudged, VotAnchor
from mmssl.evaluate.tracking.protocols.vot_reset import ResetJudged, VotReset

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (Otb(), Pysot(), Lasot(), Got10kOtb(), Got10kLasot(), TrackingNet(), Got10k())
}
"""Protocols of one pass by name; VOT's are ``VotReset(year)`` and ``VotAnchor()``."""

BETTER_LOWER = frozenset({"failures", "failures per 100 frames"})
"""Metrics, of all protocols, that are better lower; they are no percentages."""

__all__ = [
    "BETTER_LOWER",
    "PROTOCOLS",
    "AnchorJudged",
    "OnePass",
    "Protocol",
    "ResetJudged",
    "VotAnchor",
    "VotReset",
    "by_attribute",
    "corners",
]
