"""A view turns the samples of a batch into the tensor a method asked for.

The work is split where the hardware wants it split: ``read`` and ``prepare`` run in a loader worker (sizes
still differ between samples, tensors are still uint8), ``finish`` runs on the whole batch, in the worker on a
CPU machine and on the accelerator otherwise, with the same code and the same random numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmssl.stream.sample import Sample
from mmssl.stream.views.draws import Draws


class View(ABC):
    """Base of every view. Randomness comes from ``draws`` alone, never from a global generator."""

    fields: tuple[str, ...] = ("image",)
    """The sample fields that must be present; checked against the shard set before training starts."""
    optional: tuple[str, ...] = ()
    """Fields that are used where a sample has them."""

    def read(self, sample: Sample, draws: Draws) -> Any:
        """Decode what is needed of one sample (for video: choose the frames). ``draws`` has one row.

        Raises:
            Unreadable: the sample will be replaced, counted and named.
        """
        return sample[self.fields[0]]

    @abstractmethod
    def prepare(self, items: Sequence[Any], draws: Draws) -> Tensor | dict[str, Tensor]:
        """Crop and resize what ``read`` returned for B samples; usually (B, V, 3, h, w) uint8."""

    @abstractmethod
    def finish(self, x: Any, draws: Draws) -> Tensor | dict[str, Tensor]:
        """Photometric part and normalisation, on any device; float32."""
