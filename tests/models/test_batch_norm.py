"""Global BatchNorm on several processes equals BatchNorm on the whole batch in one."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mmssl.distributed import mean
from mmssl.errors import MmsslError
from mmssl.models.batch_norm import GlobalBatchNorm, globalise


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    return net.append(nn.BatchNorm1d(5, affine=False)).double()


def compare_with_the_full_batch(rank: int, world: int) -> None:
    whole, net = network(), network()
    globalise(net)
    x = torch.randn(3 * world, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.randn(3 * world, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    own = slice(3 * rank, 3 * rank + 3)
    out, expected = net(x[own]), whole(x)
    torch.testing.assert_close(out, expected[own], rtol=1e-5, atol=1e-5)
    (out * target[own]).sum(1).mean().backward()
    (expected * target).sum(1).mean().backward()
    for mine, reference in zip(net.parameters(), whole.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mean(mine.grad), reference.grad, rtol=1e-4, atol=1e-5)
    for name, buffer in whole.named_buffers():
        torch.testing.assert_close(net.get_buffer(name), buffer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("world", [2, 4])
def test_statistics_and_gradients_of_the_global_batch(world: int, ranks: Callable[..., None]) -> None:
    ranks(compare_with_the_full_batch, world)


def test_one_process_is_plain_batch_norm() -> None:
    plain, net = network(), network()
    globalise(net)
    assert isinstance(net[1], GlobalBatchNorm)
    x = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(net(x), plain(x))
    assert net.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
    assert torch.equal(net.eval()(x), plain.eval()(x))


def test_a_fused_norm_is_refused() -> None:
    class Fused(nn.BatchNorm2d):
        pass

    with pytest.raises(MmsslError, match="Fused cannot be synchronised"):
        globalise(nn.Sequential(Fused(3)))
