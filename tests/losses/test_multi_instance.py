"""MIL-NCE against its definition in float64, InfoNCE as its simplest case, and its gradient."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmssl.losses.info_nce import info_nce
from mmssl.losses.multi_instance import multi_instance_nce


def cases(seed: int = 0, b: int = 5, n: int = 17, d: int = 8) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    q, k, c = (
        normalize(torch.randn(rows, d, generator=generator, dtype=torch.float64), dim=1) for rows in (b, b, n)
    )
    return q, k, c, torch.rand(b, n, generator=generator) < 0.3


def test_it_is_its_definition() -> None:
    q, k, c, positive = cases()
    found = multi_instance_nce(q, k, c, positive, 0.1)
    losses, probabilities, firsts = [], [], []
    for i in range(len(q)):
        own = math.exp(float(q[i] @ k[i]) / 0.1)
        scores = [math.exp(float(q[i] @ x) / 0.1) for x in c]
        bag = own + sum(s for s, p in zip(scores, positive[i], strict=True) if p)
        every = own + sum(scores)
        losses.append(-math.log(bag / every))
        probabilities.append(bag / every)
        best = max(scores)
        firsts.append(own >= best or bool(positive[i, scores.index(best)]))
    assert float(found.loss) == pytest.approx(sum(losses) / 5, rel=1e-12)
    assert float(found.positive_probability) == pytest.approx(sum(probabilities) / 5, rel=1e-12)
    assert float(found.top1) == pytest.approx(sum(firsts) / 5)
    assert float(found.negatives) == pytest.approx(float((~positive).sum(1).double().mean()))


def test_with_the_own_key_alone_it_is_info_nce() -> None:
    q, k, c, _ = cases(1)
    found = multi_instance_nce(q, k, c, torch.zeros(5, 17, dtype=torch.bool), 0.07)
    for name, value in info_nce(q, k, c, 0.07)._asdict().items():
        torch.testing.assert_close(getattr(found, name), value, msg=name, check_dtype=False)


def test_gradient() -> None:
    q, k, c, positive = cases(2, b=3, n=5, d=4)
    q.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: multi_instance_nce(x, k, c, positive, 0.5).loss, (q,))


def test_it_stays_finite_where_everything_is_positive_or_nothing_is_like_it() -> None:
    q, k, c, _ = cases(3)
    every = multi_instance_nce(q, k, c, torch.ones(5, 17, dtype=torch.bool), 0.07)
    assert float(every.loss) == pytest.approx(0.0, abs=1e-12)
    far = multi_instance_nce(q, -q, q, torch.zeros(5, 5, dtype=torch.bool), 0.001)
    assert all(value.isfinite() for value in far)
    assert float(far.loss) == pytest.approx(2000.0)
