"""The stream: an endless, exact sequence of batches whose whole state is the number of samples consumed."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import torch

from mmssl.errors import MmsslError
from mmssl.stream import workers
from mmssl.stream.batch import Batch
from mmssl.stream.batches import BatchMaker
from mmssl.stream.config import Source, StreamConfig
from mmssl.stream.mixture import Mixture
from mmssl.stream.order import Order
from mmssl.stream.quarantine import Quarantine
from mmssl.stream.sources import Sources
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws

FinishOn = Literal["worker", "device"]

_SEED_STEP = 0x9E3779B97F4A7C15
"""Keeps the shuffles of a mixture's sources apart (2^64 over the golden ratio)."""


class Stream:
    """Batches for one rank; see ``docs/contracts.md`` (Order, Faults).

    Args:
        config: sources, workers, limits.
        views: batch entry to view.
        batch_size: samples of a global batch, over all ranks.
        seed: of order and views.
        rank, world: this process's slice of every global batch.
        finish_on: "worker" applies ``View.finish`` in the workers; with "device" the caller moves the batch
            to its device and calls ``finish``.

    Raises:
        MmsslError: before anything is read: batch size and ranks do not fit, a shard set, split or field is
            missing, a tar has another size than the manifest says.
    """

    def __init__(
        self,
        config: StreamConfig,
        views: Mapping[str, View],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        finish_on: FinishOn = "worker",
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise MmsslError(f"batch_size: {batch_size}; expected a multiple of the number of ranks, {world}")
        self.config = config
        self.batch_size = batch_size
        self.quarantine = Quarantine(config.faults)
        sources = _open(config, config.sources, views)
        orders = [
            Order(reader.samples, seed + number * _SEED_STEP, config.block, config.window)
            for number, reader in enumerate(sources.readers)
        ]
        self._sources = sources
        self.finish_on = finish_on
        self._maker = BatchMaker(
            sources,
            views,
            seed,
            size=batch_size // world,
            skip=rank * (batch_size // world),
            order=Mixture(orders, [source.weight for source in config.sources]),
            finish=finish_on == "worker",
            patience=config.faults.max_in_a_row,
        )

    @property
    def samples(self) -> int:
        """Distinct ids."""
        return self._sources.samples

    @property
    def samples_per_pass(self) -> int:
        """Positions that make one pass; for a mixture: as many as it has distinct samples."""
        return self._sources.samples

    @property
    def classes(self) -> dict[str, list[str]]:
        """Label name to class names, over all sources."""
        return self._sources.classes

    @property
    def fields(self) -> frozenset[str]:
        """Fields that every sample has."""
        return self._sources.fields

    def batches(self, consumed: int = 0, steps: int | None = None) -> Iterator[Batch]:
        """This rank's part of the global batches after ``consumed`` samples; endless without ``steps``.

        Raises:
            MmsslError: too many samples cannot be read, with a list of them.
        """
        starts: Iterable[int] = itertools.count(consumed, self.batch_size)
        if steps is not None:
            starts = range(consumed, consumed + steps * self.batch_size, self.batch_size)
        pin = self.finish_on == "device" and torch.cuda.is_available()
        for batch in workers.run(self._maker, starts, self.config.workers, self.quarantine, pin):
            if batch is not None:  # in training every batch is full
                yield batch

    def finish(self, batch: Batch) -> Batch:
        """Apply ``View.finish`` where the batch is now, unless the workers have done so."""
        if self.finish_on == "worker":
            return batch
        ids, passes = batch["_rows"]
        views = self._maker.views.items()
        finished = {
            name: view.finish(batch[name], Draws(self._maker.seed, name, ids, passes)) for name, view in views
        }
        return Batch({**batch, **finished})


def scan(
    config: StreamConfig,
    views: Mapping[str, View],
    *,
    split: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    quarantine: Quarantine | None = None,
) -> Iterator[Batch]:
    """Every sample once, in id order; finished in the workers. What cannot be read is left out.

    Args:
        config: sources, workers, limits; weights, block and window play no part.
        views: batch entry to view.
        split: read this split of every source instead of the one in its configuration.
        batch_size: samples of a batch; smaller where samples were left out, and at the end.
        seed: of the views' random numbers, if they draw any.
        quarantine: counts what was left out; also in ``batch.faults``.

    Raises:
        MmsslError: at once, for what ``Stream`` raises it; later, if too many samples cannot be read.
    """
    sources = config.sources
    if split is not None:
        sources = tuple(source.model_copy(update={"split": split}) for source in sources)
    opened = _open(config, sources, views)
    maker = BatchMaker(
        opened, views, seed, size=batch_size, order=None, finish=True, patience=config.faults.max_in_a_row
    )
    counts = quarantine or Quarantine(config.faults)
    return _readable(workers.run(maker, range(0, opened.samples, batch_size), config.workers, counts, False))


def _readable(batches: Iterator[Batch | None]) -> Iterator[Batch]:
    return (batch for batch in batches if batch is not None)


def _open(config: StreamConfig, sources: Iterable[Source], views: Mapping[str, View]) -> Sources:
    fields = sorted({field for view in views.values() for field in view.fields})
    optional = {field for view in views.values() for field in view.optional}
    return Sources(config, tuple(sources), fields, optional)
