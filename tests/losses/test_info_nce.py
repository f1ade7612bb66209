"""Contrastive losses against loops in float64, gradient checks, and several processes against one."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.distributed import gather, mean
from mmssl.losses.info_nce import Contrast, batch_contrast, info_nce, nt_xent


def unit(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1).requires_grad_(
        grad
    )


def test_info_nce_against_a_loop() -> None:
    q, k, negatives, tau = unit(5, 8), unit(5, 8, seed=1), unit(11, 8, seed=2), 0.2
    losses, hits, probabilities, effective = [], [], [], []
    for i in range(5):
        positive = math.exp(float(q[i] @ k[i]) / tau)
        others = [math.exp(float(q[i] @ negatives[j]) / tau) for j in range(11)]
        losses.append(-math.log(positive / (positive + sum(others))))
        hits.append(positive > max(others))
        probabilities.append(positive / (positive + sum(others)))
        effective.append(math.exp(-sum(o / sum(others) * math.log(o / sum(others)) for o in others)))
    found = info_nce(q, k, negatives, tau)
    assert float(found.loss) == pytest.approx(sum(losses) / 5, rel=1e-12)
    assert float(found.top1) == pytest.approx(sum(hits) / 5)
    assert float(found.positive_probability) == pytest.approx(sum(probabilities) / 5)
    assert float(found.effective_negatives) == pytest.approx(sum(effective) / 5)
    assert float(found.positive_similarity) == pytest.approx(float((q * k).sum(1).mean()))
    assert float(found.negative_similarity) == pytest.approx(float((q @ negatives.T).mean()))
    assert float(found.negatives) == 11


def nt_xent_by_loops(z: Tensor, tau: float) -> tuple[float, float]:
    views = z.flatten(0, 1)
    n = len(views)
    losses, others = [], []
    for i in range(n):
        partner = i + 1 if i % 2 == 0 else i - 1
        total = sum(math.exp(float(views[i] @ views[j]) / tau) for j in range(n) if j != i)
        losses.append(-math.log(math.exp(float(views[i] @ views[partner]) / tau) / total))
        others += [float(views[i] @ views[j]) for j in range(n) if j not in (i, partner)]
    return sum(losses) / n, sum(others) / len(others)


def test_nt_xent_against_a_double_loop() -> None:
    z = unit(6, 2, 8)
    found = nt_xent(z, z, 0, 0.5)
    loss, negative = nt_xent_by_loops(z, 0.5)
    assert float(found.loss) == pytest.approx(loss, rel=1e-12)
    assert float(found.negative_similarity) == pytest.approx(negative)
    assert float(found.negatives) == 10


def test_batch_contrast_is_the_papers_with_two_tau() -> None:
    q, k, tau = unit(5, 8), unit(5, 8, seed=1), 0.2
    expected = 0.0
    for i in range(5):
        exps = [math.exp(float(q[i] @ k[j]) / tau) for j in range(5)]
        expected -= math.log(exps[i] / sum(exps)) / 5
    assert float(batch_contrast(q, k, 0, tau).loss) == pytest.approx(2 * tau * expected, rel=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: info_nce(x[0], x[1], unit(3, 4, seed=3), 0.3).loss,
        lambda x: nt_xent(x, x, 0, 0.3).loss,
        lambda x: batch_contrast(x[0], x[1], 0, 0.3).loss,
    ],
    ids=["info_nce", "nt_xent", "batch_contrast"],
)
def test_gradients(loss: Callable[[Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(loss, (unit(2, 2, 4, grad=True),))


def test_float32_under_autocast() -> None:
    q, k, negatives = unit(5, 8).float(), unit(5, 8, seed=1).float(), unit(64, 8, seed=2).float()
    plain = info_nce(q, k, negatives, 0.07).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(q, k, negatives, 0.07).loss, plain)


def test_a_perfect_and_a_collapsed_embedding() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    assert float(batch_contrast(eye, eye, 0, 0.01).top1) == 1.0
    same = unit(1, 1, 8).expand(4, 2, 8).contiguous()
    assert float(nt_xent(same, same, 0, 0.5).loss) == pytest.approx(math.log(7))


def sharded(z: Tensor, rank: int) -> dict[str, Contrast]:
    keys = z[:, 1].detach()
    return {
        "nt_xent": nt_xent(z, gather(z), rank, 0.2),
        "batch_contrast": batch_contrast(z[:, 0], gather(keys, gradient=False), rank, 0.2),
    }


def compare_with_the_full_batch(rank: int, world: int) -> None:
    x = unit(3 * world, 2, 6)
    own = x[3 * rank : 3 * rank + 3]

    def embed(weight: Tensor, images: Tensor) -> Tensor:
        return normalize(images @ weight, dim=-1)

    for name in ("nt_xent", "batch_contrast"):
        weight = unit(6, 6, seed=7, grad=True)
        found = sharded(embed(weight, own), rank)[name]
        found.loss.backward()
        assert weight.grad is not None
        reference = unit(6, 6, seed=7, grad=True)
        z = embed(reference, x)
        whole = (
            nt_xent(z, z, 0, 0.2) if name == "nt_xent" else batch_contrast(z[:, 0], z[:, 1].detach(), 0, 0.2)
        )
        whole.loss.backward()
        torch.testing.assert_close(mean(found.loss), whole.loss.detach())
        torch.testing.assert_close(mean(found.top1), whole.top1)
        torch.testing.assert_close(mean(found.negative_similarity), whole.negative_similarity)
        torch.testing.assert_close(mean(weight.grad), reference.grad)


@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_equal_the_full_batch(world: int, ranks: Callable[..., None]) -> None:
    ranks(compare_with_the_full_batch, world)
