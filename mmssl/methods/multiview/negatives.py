"""Where the negatives of a contrast between views come from: memory banks, the batch, or queues."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmssl.distributed import gather
from mmssl.models.memory_bank import MemoryBank
from mmssl.models.queue import OwnedQueue
from mmssl.stream.views.draws import Draws


class Candidates(NamedTuple):
    """What anchors are compared with in one view j; any other view may bring the anchors."""

    own: Tensor
    """(B, d) the positive of each of this rank's samples."""
    others: Tensor
    """(m, d) shared by all anchors."""
    same: Tensor
    """(B, m) bool: which of them are the anchor's own sample."""
    absent: Tensor
    """(m,) bool: which of them mean nothing, for their sample lacks the view."""


class Negatives(nn.Module, ABC):
    """Pools by the name of the view."""

    @abstractmethod
    def candidates(self, name: str, z: Tensor, ids: Tensor, present: Tensor) -> Candidates:
        """In view ``name``, for samples ``ids`` (B,) with embeddings ``z`` (B, d), some of them absent."""

    def remember(self, z: Mapping[str, Tensor], ids: Tensor, present: Tensor) -> None:
        """Take up a finished step's embeddings of this rank; ``present`` (B, V) in the order of the views."""

    def check_ranks_agree(self) -> None:
        """Raises: MmsslError where a rank's pool is not rank 0's."""


class BankNegatives(Negatives):
    """K draws by id, with replacement, from the memory bank of the view; the positive is the own row.

    One draw a step and bank serves all anchors of the global batch, in every pair that the view is part of,
    and it is the same on all ranks. Each anchor's negatives are K uniform draws as in the paper, so the
    expected loss and gradient are the paper's; only the noise of the draw is common to a batch instead of
    independent between its anchors, as it is with MoCo's queue. B × K different rows would be 0.5 GB to
    gather in each view (B = 64, K = 16384, d = 128); K shared ones are 8 MB and a matrix product.

    The draw is a function of step and view alone, counted (Philox), so a resumed run repeats it.
    """

    step: Tensor

    def __init__(
        self, names: Sequence[str], samples: int, dim: int, count: int, momentum: float, sharded: bool
    ) -> None:
        super().__init__()
        self.count = count
        self.samples = samples
        self.banks = nn.ModuleDict(
            {name: MemoryBank(samples, dim, momentum, sharded=sharded) for name in names}
        )
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def drawn(self, name: str) -> Tensor:
        """(K,) int64 ids, uniform in 0 .. N - 1."""
        draws = Draws(0, f"bank/{name}", np.zeros(1, np.int64), np.array([int(self.step)]))
        return torch.from_numpy(draws.integers("noise", self.count, 0, self.samples)[0])

    def candidates(self, name: str, z: Tensor, ids: Tensor, present: Tensor) -> Candidates:
        drawn = self.drawn(name).to(ids.device)
        rows = self.banks[name](torch.cat([ids, drawn]))
        absent = torch.zeros_like(drawn, dtype=torch.bool)
        return Candidates(rows[: len(ids)], rows[len(ids) :], ids[:, None] == drawn, absent)

    def remember(self, z: Mapping[str, Tensor], ids: Tensor, present: Tensor) -> None:
        for number, (name, bank) in enumerate(self.banks.items()):
            bank.update(ids, z[name], present[:, number])  # type: ignore[operator]
        self.step += 1

    def check_ranks_agree(self) -> None:
        for name, bank in self.banks.items():
            bank.check_ranks_agree(name)  # type: ignore[operator]


class BatchNegatives(Negatives):
    """The global batch itself, with gradient: every sample's fresh embedding is a negative of all others."""

    def candidates(self, name: str, z: Tensor, ids: Tensor, present: Tensor) -> Candidates:
        same = ids[:, None] == gather(ids, gradient=False)
        return Candidates(z, gather(z), same, ~gather(present, gradient=False))


class QueueNegatives(Negatives):
    """The last K embeddings of the view, of all ranks; the positive is the fresh one, with gradient.

    There is no slowly moving encoder as in MoCo: entries age by K / (global batch) steps. Slots not yet
    filled hold random vectors, nobody's.
    """

    def __init__(self, names: Sequence[str], dim: int, count: int) -> None:
        super().__init__()
        self.queues = nn.ModuleDict({name: OwnedQueue(count, dim) for name in names})

    def candidates(self, name: str, z: Tensor, ids: Tensor, present: Tensor) -> Candidates:
        queue: OwnedQueue = self.queues[name]  # type: ignore[assignment]
        absent = torch.zeros_like(queue.ids, dtype=torch.bool)
        return Candidates(z, queue.keys, ids[:, None] == queue.ids, absent)

    def remember(self, z: Mapping[str, Tensor], ids: Tensor, present: Tensor) -> None:
        ids, present = gather(ids, gradient=False), gather(present, gradient=False)
        for number, (name, queue) in enumerate(self.queues.items()):
            keep = present[:, number]
            queue.push_of(gather(z[name], gradient=False)[keep], ids[keep])  # type: ignore[operator]
