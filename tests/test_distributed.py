"""Collectives on real processes: values in rank order, and gradients that DDP's average makes exact."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmssl.distributed import any_rank, gather, mean


def global_loss(z: Tensor) -> Tensor:
    """Couples all rows, as a contrastive loss does."""
    return torch.logsumexp(z @ z.T, dim=1).mean() - 2 * z.diagonal().sum()


def on_every_rank(rank: int, world: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(world * 3, 4, dtype=torch.float64)
    weight = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    local = x[rank * 3 : (rank + 1) * 3] @ weight

    gathered = gather(local)
    torch.testing.assert_close(gathered, x @ weight)
    global_loss(gathered).backward()
    assert weight.grad is not None
    averaged = mean(weight.grad)
    (expected,) = torch.autograd.grad(global_loss(x @ weight), weight)
    torch.testing.assert_close(averaged, expected)

    assert not gather(local, gradient=False).requires_grad
    assert any_rank(rank == world - 1)
    assert not any_rank(False)


@pytest.mark.parametrize("world", [2, 4])
def test_gathered_gradients_equal_the_full_batch_ones(world: int, ranks: Callable[..., None]) -> None:
    ranks(on_every_rank, world)


def test_one_process_needs_no_group() -> None:
    x = torch.randn(2, 2, requires_grad=True)
    assert gather(x) is x
    assert not gather(x, gradient=False).requires_grad
    assert any_rank(True)
