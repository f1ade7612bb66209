"""What a scoring protocol is: boxes against truth, one sequence at a time, then all of them together.

The same word means different things in different toolkits: a number is nothing without its protocol's name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmssl.evaluate.tracking.sequence import Sequence as Tracked
from mmssl.tracking.boxes import Boxes


@dataclass(frozen=True)
class Curve:
    """A share of frames at every threshold."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    """(n,) in 0..1."""
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Judged:
    """What a protocol says of one sequence, or of all."""

    values: dict[str, float]
    """Metric to value, shares in per cent; the protocol's headline first. NaN = undefined here."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """``success``, ``precision`` …"""
    counts: dict[str, int] = field(default_factory=dict)
    """``frames`` that count, ``absent``, ``invalid`` …: what the denominator is made of."""


class Protocol(ABC):
    """Boxes that a tracker gave on every frame of a sequence (one pass), against its truth."""

    name: str
    """``otb``, ``pysot``, ``got10k`` …: one word, part of every score's name."""
    about: str
    """One line: thresholds, first frame, invalid truth, how sequences are averaged."""

    @abstractmethod
    def judge(self, boxes: Boxes, sequence: Tracked) -> Judged:
        """Of one sequence; ``boxes`` (T, 4), counted from 0, the first is the one the tracker was given.

        Raises:
            MmsslError: there are not T boxes; names the sequence.
        """

    @abstractmethod
    def combine(self, judged: Mapping[str, Judged], sequences: Sequence[Tracked]) -> Judged:
        """Of all sequences: mean of means or pooled, as the benchmark does."""

    def ceiling(self, sequences: Sequence[Tracked]) -> Judged:
        """What the truth itself scores: no tracker can do better under this protocol."""
        judged = {sequence.name: self.judge(sequence.truth, sequence) for sequence in sequences}
        return self.combine(judged, sequences)
