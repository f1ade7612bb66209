"""What a method sees: named tensors of equal first dimension."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl.stream.sample import Fault


class Batch(dict[str, Any]):
    """``batch.image`` is ``batch["image"]``: one entry per view, named by the method that asked for it.

    Always present: ``id`` (B,) int64 stable sample ids, ``pass_`` (B,) int64, ``key`` list of B str, and
    ``label``: dict of label name to (B,) int64 class indices (-1 = no such label).
    ``faults`` lists the samples that could not be read while this batch was made.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"batch has no {name!r}; it has {', '.join(self)}") from error

    @property
    def faults(self) -> list[Fault]:
        return self.get("_faults", [])

    def __len__(self) -> int:
        return int(self["id"].shape[0])

    def to(self, device: torch.device | str) -> "Batch":
        """Move every tensor to ``device``."""
        return Batch({name: _move(value, device) for name, value in self.items()})

    def chunks(self, count: int) -> list["Batch"]:
        """Cut into ``count`` equal micro-batches, in order; faults stay with the first.

        Raises:
            ValueError: the number of samples does not divide by ``count``.
        """
        if len(self) % count:
            raise ValueError(f"{len(self)} samples do not divide into {count} micro-batches")
        rows = len(self) // count
        chunks = [self.rows(slice(number * rows, (number + 1) * rows)) for number in range(count)]
        chunks[0]["_faults"] = self.faults
        return chunks

    def rows(self, part: slice) -> "Batch":
        """Some of the samples; without the faults, which belong to none of them."""
        return Batch({name: _cut(value, part) for name, value in self.items() if name != "_faults"})

    @staticmethod
    def join(batches: "Sequence[Batch]") -> "Batch":
        """One batch of all the samples, with all the faults; every batch must have the same entries."""
        names = [name for name in batches[0] if name != "_faults"]
        joined = Batch({name: _join([batch[name] for batch in batches]) for name in names})
        joined["_faults"] = [fault for batch in batches for fault in batch.faults]
        return joined


def _join(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    if isinstance(first, dict):
        return {name: _join([value[name] for value in values]) for name in first}
    if isinstance(first, tuple):
        return tuple(_join(list(parts)) for parts in zip(*values, strict=True))
    return [item for value in values for item in value]


def _cut(value: Any, part: slice) -> Any:
    if isinstance(value, dict):
        return {name: _cut(item, part) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_cut(item, part) for item in value)
    return value[part]


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: _move(item, device) for name, item in value.items()}
    return value
