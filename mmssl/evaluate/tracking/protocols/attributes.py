"""Scores on the sequences that share an attribute."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mmssl.evaluate.tracking.protocol import Judged
from mmssl.evaluate.tracking.sequence import Sequence as Tracked


class Combines(Protocol):
    """Every protocol, VOT's among them."""

    def combine(self, judged: Mapping[str, Any], sequences: Sequence[Tracked]) -> Judged: ...


def by_attribute(
    protocol: Combines, judged: Mapping[str, Judged], sequences: Sequence[Tracked]
) -> dict[str, Judged]:
    """Attribute, in alphabetical order, to the score over the sequences that have it.

    Raises:
        MmsslError: one of those sequences was not judged; names it.
    """
    names = sorted({attribute for sequence in sequences for attribute in sequence.attributes})
    return {
        name: protocol.combine(judged, [sequence for sequence in sequences if name in sequence.attributes])
        for name in names
    }
