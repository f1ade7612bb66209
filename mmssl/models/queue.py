"""A first-in, first-out queue of keys: MoCo's dictionary (section 3.2), as buffers of the state dict."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Queue(nn.Module):
    """``keys`` (K, d) float32 unit vectors; random until they have been overwritten once.

    Every rank pushes the keys of all ranks in rank order, so the queue is the same everywhere without any
    message of its own. The next slot follows from ``pushed``, a tensor, so nothing is lost on resume.
    """

    keys: Tensor
    born: Tensor
    pushed: Tensor
    step: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("born", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return int(self.keys.shape[0])

    @torch.no_grad()
    def push(self, keys: Tensor) -> Tensor:
        """Overwrite the oldest slots with ``keys`` (n, d); of more than K, the last K remain.

        K need not be a multiple of n: the write wraps around.

        Returns:
            (min(n, K),) int64: the slots that were written, in the order of the keys.
        """
        size = len(self)
        self.step += 1
        self.pushed += max(0, len(keys) - size)
        keys = keys[-size:].to(self.keys.dtype)
        slots = (self.pushed + torch.arange(len(keys), device=keys.device)) % size
        self.keys.index_copy_(0, slots, keys)
        self.born.index_copy_(0, slots, self.step.expand(len(keys)))
        self.pushed += len(keys)
        return slots

    def age(self) -> Tensor:
        """Mean number of pushes since a slot was written; a slot still random counts from the start."""
        return (self.step - self.born).float().mean()


class OwnedQueue(Queue):
    """A queue that knows whose key each is: ``ids`` (K,) int64, -1 = random, nobody's."""

    ids: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(size, dim)
        self.register_buffer("ids", torch.full((size,), -1, dtype=torch.int64))

    @torch.no_grad()
    def push_of(self, keys: Tensor, ids: Tensor) -> None:
        """``push`` the keys (n, d) of samples ``ids`` (n,)."""
        slots = self.push(keys)
        self.ids.index_copy_(0, slots, ids[-len(self) :])
