"""Ranks, and the few collectives that methods and the engine need; all of them are no-ops in one process."""

import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    return dist.get_world_size() if is_distributed() else 1


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    return rank() == 0


class _GatherWithGradient(torch.autograd.Function):
    """All-gather whose backward sums every rank's gradient for this rank's slice.

    The objective is the mean of the ranks' losses, whether each computes the whole of it or only the part of
    its own rows. Summing gives every rank the gradient of the sum; DDP's average makes it that of the mean.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        return _all_gather(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def _all_gather(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def gather(x: Tensor, *, gradient: bool = True) -> Tensor:
    """Concatenate ``x`` (B, ...) of every rank in rank order: (world·B, ...); B must be equal on all ranks.

    With ``gradient`` the result is differentiable on every rank, and exact under DDP for a loss that every
    rank computes from the whole gathered tensor.
    """
    if world_size() == 1:
        return x if gradient else x.detach()
    if gradient and x.requires_grad:
        return _GatherWithGradient.apply(x)
    return _all_gather(x.detach())


def mean(x: Tensor) -> Tensor:
    """Average of a detached tensor over ranks."""
    if world_size() == 1:
        return x.detach()
    x = x.detach().clone()
    dist.all_reduce(x)
    return x / world_size()


def any_rank(flag: bool) -> bool:
    """True on every rank if it is true on one."""
    if world_size() == 1:
        return flag
    value = torch.tensor(int(flag))  # on the CPU, so that asking never waits for an accelerator
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def from_main(value: int) -> int:
    """Rank 0's integer, on every rank."""
    if world_size() == 1:
        return value
    shared = torch.tensor(value)
    dist.broadcast(shared, src=0)
    return int(shared.item())


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite each tensor with rank 0's, in place; shapes and order must be equal on all ranks."""
    if world_size() == 1:
        return
    for tensor in tensors:
        shared = tensor.detach().contiguous()
        dist.broadcast(shared, src=0)
        if shared.data_ptr() != tensor.data_ptr():
            tensor.detach().copy_(shared)


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()
