"""Make one batch: read its samples, replace or leave out what cannot be read, apply the views."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mmssl.errors import MmsslError
from mmssl.stream.batch import Batch
from mmssl.stream.mixture import Mixture
from mmssl.stream.quarantine import Attempts, list_faults
from mmssl.stream.sample import Fault, Sample, Unreadable
from mmssl.stream.sources import Sources
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws

Made = tuple[Batch | None, Attempts, str]
"""The batch (None if no sample of it could be read), what happened, and why the run must stop (or empty)."""


class BatchMaker(Dataset[Made]):
    """Item p is this rank's part of the global batch that starts at position p.

    Args:
        sources: where samples come from.
        views: batch entry to view.
        seed: of the views' random numbers.
        size: samples of this rank's part.
        skip: positions from the start of the global batch to this rank's part.
        order: position to id; None goes through the ids once, in order, and leaves out what cannot be read.
        finish: apply ``View.finish`` here too.
        patience: unreadable samples in a row after which the run must stop.
    """

    def __init__(
        self,
        sources: Sources,
        views: Mapping[str, View],
        seed: int,
        *,
        size: int,
        skip: int = 0,
        order: Mixture | None,
        finish: bool,
        patience: int,
    ) -> None:
        self.sources = sources
        self.views = dict(views)
        self.seed = seed
        self.size = size
        self.skip = skip
        self.order = order
        self.finish = finish
        self.patience = patience

    def __getitem__(self, position: int) -> Made:
        attempts = Attempts()
        try:
            return self._make(position + self.skip, attempts), attempts, ""
        except MmsslError as error:
            # As a value: the loader would wrap an exception in the worker's traceback.
            return None, attempts, str(error)

    def _make(self, start: int, attempts: Attempts) -> Batch | None:
        if self.order is None:
            ids = np.arange(start, min(start + self.size, self.sources.samples))
            passes = np.zeros_like(ids)
        else:
            ids, passes = self.order.at(start, start + self.size)
        # Read one sample whole, then the next: its bytes can be freed as soon as it is decoded.
        unread = {name: Draws(self.seed, name, ids[:0], passes[:0]) for name in self.views}
        rows = []
        for id_, pass_ in zip(ids.tolist(), passes.tolist(), strict=True):
            row = self._read_or_replace(id_, pass_, unread, attempts)
            if row is not None:
                rows.append((row, pass_))
        if not rows:
            return None
        return self._collate([row for row, _ in rows], np.array([pass_ for _, pass_ in rows]), attempts)

    def _read_or_replace(
        self, id_: int, pass_: int, unread: Mapping[str, Draws], attempts: Attempts
    ) -> "_Row | None":
        faults: list[Fault] = []
        wanted = id_
        while True:
            try:
                attempts.total += 1
                return self._read(id_, pass_, unread)
            except Unreadable as error:
                faults.append(Fault(*self.sources.where(id_), error.field, error.reason))
                attempts.faults.append((attempts.total - 1, faults[-1]))
            if self.order is None:
                return None
            if len(faults) >= self.patience:
                raise MmsslError(
                    "\n".join([f"stopped: {len(faults)} unreadable samples in a row:", *list_faults(faults)])
                )
            id_ = self.order.replacement(wanted, pass_, len(faults))

    def _read(self, id_: int, pass_: int, unread: Mapping[str, Draws]) -> "_Row":
        sample = self.sources.sample(id_, pass_)
        items = {}
        for name, view in self.views.items():
            if type(view).read is View.read:  # needs no random numbers; do not pay for a generator
                items[name] = view.read(sample, unread[name])
            else:
                items[name] = view.read(sample, Draws(self.seed, name, np.array([id_]), np.array([pass_])))
        return _Row(sample, items, self.sources.labels(sample))

    def _collate(self, rows: Sequence["_Row"], passes: np.ndarray, attempts: Attempts) -> Batch:
        ids = np.array([row.id for row in rows])
        batch = Batch(
            id=torch.from_numpy(ids),
            pass_=torch.from_numpy(passes),
            key=[row.key for row in rows],
            label={
                name: torch.tensor([row.labels[name] for row in rows], dtype=torch.int64)
                for name in self.sources.classes
            },
            _rows=(ids, passes),  # stays on the CPU, for the draws of ``View.finish``
            _faults=[fault for _, fault in attempts.faults],
        )
        for name, view in self.views.items():
            draws = Draws(self.seed, name, ids, passes)
            made: Any = view.prepare([row.items[name] for row in rows], draws)
            batch[name] = view.finish(made, draws) if self.finish else made
        return batch


class _Row:
    """What is kept of a sample once it is read: not its bytes."""

    def __init__(self, sample: Sample, items: dict[str, Any], labels: dict[str, int]) -> None:
        self.id = sample.id
        self.key = sample.key
        self.items = items
        self.labels = labels
