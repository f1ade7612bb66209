"""A memory bank: a unit vector for every sample of the shard set, by its stable id (Wu et al., CVPR 2018)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmssl import distributed
from mmssl.errors import MmsslError

_BLOCK = 1 << 16
"""Rows that are summed at once."""


class MemoryBank(nn.Module):
    """Rows (N, d) float32, random unit vectors until their sample has been seen.

    A row moves to the new embedding as v ← m·v + (1 − m)·z and is normalised again. The updates of all ranks
    are applied in the order of the global batch; where a sample stands in it twice, its last one counts.

    Replicated, every rank holds every row. ``sharded``, rank r of W holds the rows r, r + W, r + 2W, … in
    memory of its device, and looks up and updates those of others by messages: ``forward`` and ``update`` are
    then calls that all ranks make together. Results are the same, bit by bit.

    The state dict always holds the *whole* bank as ``rows``, so a checkpoint does not know how many ranks
    wrote it. For a sharded one ``state_dict()`` is a call that all ranks make together the first time after
    an update, and gathers the rows into host memory; repeated before the next update it needs no message.
    That is how the engine saves: all ranks compare their states first, then rank 0 writes its own.
    """

    rows: Tensor

    def __init__(self, samples: int, dim: int, momentum: float = 0.5, *, sharded: bool = False) -> None:
        super().__init__()
        self.samples = samples
        self.dim = dim
        self.momentum = momentum
        self.sharded = sharded
        rows = normalize(torch.randn(samples, dim), dim=1)
        self.register_buffer("rows", self._own(rows), persistent=not self._scattered)
        self._whole: Tensor | None = None

    @property
    def _scattered(self) -> bool:
        return self.sharded and distributed.world_size() > 1

    def _own(self, rows: Tensor) -> Tensor:
        """Those of all rows (N, d) that live here."""
        return rows[distributed.rank() :: distributed.world_size()].clone() if self._scattered else rows

    def forward(self, ids: Tensor) -> Tensor:
        """The rows (n, d) of samples ``ids`` (n,) int64; n may differ between ranks.

        Raises:
            MmsslError: an id has no row.
        """
        self._check(ids)
        if not self._scattered:
            return self.rows[ids]
        route = _Route(ids)
        answers = self.rows[route.to_owner(ids) // distributed.world_size()]
        return route.back(answers)

    @torch.no_grad()
    def update(self, ids: Tensor, z: Tensor, present: Tensor) -> None:
        """Move the rows of the global batch; called by all ranks together, with equally many samples each.

        Args:
            ids: (B,) int64 of this rank's samples.
            z: (B, d) their new embeddings, unit vectors.
            present: (B,) bool; the rows of other samples stay as they are.

        Raises:
            MmsslError: an id has no row.
        """
        if self._scattered:
            self._check(ids)
            ids, z = ids[present], z[present].to(self.rows)
            route = _Route(ids)
            ids, z = route.to_owner(ids) // distributed.world_size(), route.to_owner(z)
        else:
            ids, z, present = (distributed.gather(x, gradient=False) for x in (ids, z, present))
            self._check(ids)
            ids, z = ids[present], z[present].to(self.rows)
        if len(ids):
            row, last = last_of_each(ids)
            moved = self.momentum * self.rows[row] + (1 - self.momentum) * z[last]
            self.rows.index_copy_(0, row, normalize(moved, dim=1))
        self._whole = None

    def _check(self, ids: Tensor) -> None:
        low, high = (int(x) for x in torch.aminmax(ids)) if len(ids) else (0, 0)
        if low < 0 or high >= self.samples:
            raise MmsslError(
                f"memory bank: sample id {low if low < 0 else high} has no row; the bank has {self.samples} "
                f"(ids 0 .. {self.samples - 1}), the shard set at least {high + 1} samples; expected as many "
                "rows as the shard set that is trained on has samples"
            )

    def checksum(self) -> Tensor:
        """() int64 that depends on every bit of the whole bank and its place, not on who holds it."""
        world = distributed.world_size() if self._scattered else 1
        first = distributed.rank() if self._scattered else 0
        total = torch.zeros((), dtype=torch.int64, device=self.rows.device)
        column = _mixed(torch.arange(self.dim, device=self.rows.device))
        for start in range(0, len(self.rows), _BLOCK):
            bits = self.rows[start : start + _BLOCK].view(torch.int32) * column
            place = (torch.arange(len(bits), device=bits.device) + start) * world + first
            total += (bits.sum(dim=1) * _mixed(place)).sum()  # wraps around, the same way in any order
        if self._scattered:
            dist.all_reduce(total)
        return total

    def check_ranks_agree(self, name: str) -> None:
        """Compare the copies of all ranks by their checksums.

        Raises:
            MmsslError: on every rank, naming the ranks whose bank is not rank 0's.
        """
        if distributed.world_size() == 1 or self._scattered:
            return
        sums = distributed.gather(self.checksum()[None], gradient=False).tolist()
        drifted = [str(rank) for rank, value in enumerate(sums) if value != sums[0]]
        if drifted:
            raise MmsslError(
                f"memory bank {name!r}: rank {', '.join(drifted)} of {len(sums)} drifted from rank 0; "
                "expected the same rows on all ranks"
            )

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._scattered:
            if self._whole is None:
                self._whole = self._gathered()
            destination[f"{prefix}rows"] = self._whole

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        key = f"{prefix}rows"
        if not self._scattered or key not in state_dict:
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        rows, errors = state_dict[key], args[-1]
        if tuple(rows.shape) == (self.samples, self.dim):
            self.rows.copy_(self._own(rows))
            self._whole = None
        else:
            errors.append(f"{key}: found {tuple(rows.shape)}, expected {(self.samples, self.dim)}")

    def _gathered(self) -> Tensor:
        """All rows (N, d) in host memory."""
        world = distributed.world_size()
        most = -(-self.samples // world)
        mine = self.rows.new_zeros(most, self.dim, device="cpu")
        mine[: len(self.rows)] = self.rows.cpu()
        parts = distributed.gather(mine, gradient=False).view(world, most, self.dim)
        return parts.transpose(0, 1).reshape(-1, self.dim)[: self.samples].contiguous()


def _mixed(n: Tensor) -> Tensor:
    """Odd 64-bit multipliers that are strangers to each other: under small ones sign bits could cancel."""
    x = (n + 1) * 0x1E3779B97F4A7C15
    x = (x ^ (x >> 31)) * 0x3F58476D1CE4E5B9
    return (x ^ (x >> 29)) | 1


def last_of_each(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The different ids (m,), ascending, and where in ``ids`` (n,) each stands last."""
    different, which = ids.unique(return_inverse=True)
    place = torch.arange(len(ids), device=ids.device)
    last = torch.zeros_like(different).scatter_reduce_(0, which, place, "amax")
    return different, last


class _Route:
    """The way of rows to the ranks that own their ids (id modulo W), and of answers back."""

    def __init__(self, ids: Tensor) -> None:
        world = distributed.world_size()
        owner = ids % world
        self.order = owner.argsort(stable=True)  # what goes to one owner keeps its order
        sent = owner.bincount(minlength=world)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        self.sent, self.received = sent.tolist(), received.tolist()

    def to_owner(self, x: Tensor) -> Tensor:
        """(n, ...) in the order of the ids, to what this rank owns of all ranks', in rank order."""
        arrived = x.new_empty(sum(self.received), *x.shape[1:])
        dist.all_to_all_single(arrived, x[self.order].contiguous(), self.received, self.sent)
        return arrived

    def back(self, answers: Tensor) -> Tensor:
        """An answer to each row that ``to_owner`` gave, back to who sent it, in the order of its ids."""
        arrived = answers.new_empty(len(self.order), *answers.shape[1:])
        dist.all_to_all_single(arrived, answers.contiguous(), self.sent, self.received)
        return torch.empty_like(arrived).index_copy_(0, self.order, arrived)
