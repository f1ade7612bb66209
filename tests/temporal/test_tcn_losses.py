"""Triplets and n-pairs against loops in float64, against torch's own losses, and gradient checks."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, triplet_margin_with_distance_loss

from mmssl.losses.info_nce import batch_contrast, info_nce
from mmssl.losses.n_pairs import n_pairs, paired_info_nce
from mmssl.losses.triplet import semi_hard_triplet


def drawn(
    seed: int, n: int, m: int, d: int = 3, density: float = 0.3
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors, candidates, and masks in which some candidates are positive, some negative, some neither."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, dtype=torch.float64, generator=generator)
    c = torch.randn(m, d, dtype=torch.float64, generator=generator)
    role = torch.rand(n, m, generator=generator)
    return a, c, role < density, role > 2 * density


def by_loops(
    a: Tensor, c: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> tuple[float, int, float, float]:
    """Loss, pairs, share of active triplets, share of pairs with a semi-hard negative."""
    losses, active, semi_hard = [], 0, 0
    for i, j in product(range(len(a)), range(len(c))):
        if not positive[i, j]:
            continue
        to_positive = sum((float(x) - float(y)) ** 2 for x, y in zip(a[i], c[j], strict=True))
        others = [
            sum((float(x) - float(y)) ** 2 for x, y in zip(a[i], c[k], strict=True))
            for k in range(len(c))
            if negative[i, k]
        ]
        if not others:
            continue
        farther = [other for other in others if other > to_positive]
        chosen = min(farther) if farther else max(others)
        losses.append(max(0.0, margin + to_positive - chosen))
        active += losses[-1] > 0
        semi_hard += bool(farther)
    n = max(len(losses), 1)
    return sum(losses) / n, len(losses), active / n, semi_hard / n


@given(
    seed=st.integers(0, 1 << 30),
    n=st.integers(1, 7),
    m=st.integers(1, 9),
    margin=st.floats(0.01, 3),
    density=st.floats(0.05, 0.5),
)
@settings(max_examples=150, deadline=None)
def test_triplets_are_those_of_the_definition(
    seed: int, n: int, m: int, margin: float, density: float
) -> None:
    a, c, positive, negative = drawn(seed, n, m, density=density)
    found = semi_hard_triplet(a, c, positive, negative, margin)
    loss, pairs, active, semi_hard = by_loops(a, c, positive, negative, margin)
    assert float(found.loss) == pytest.approx(loss, rel=1e-9, abs=1e-9)
    assert float(found.pairs) == pairs
    assert float(found.active) == pytest.approx(active)
    assert float(found.semi_hard) == pytest.approx(semi_hard)


def test_one_negative_each_is_torchs_triplet_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    a, p, n = (torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(3))
    eye = torch.eye(6, dtype=torch.bool)
    none = torch.zeros_like(eye)
    found = semi_hard_triplet(a, torch.cat([p, n]), torch.cat([eye, none], 1), torch.cat([none, eye], 1), 0.7)
    expected = triplet_margin_with_distance_loss(
        a, p, n, distance_function=lambda x, y: (x - y).square().sum(1), margin=0.7
    )
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-12)


def test_an_anchor_on_top_of_its_positive_takes_the_closest_other() -> None:
    a = torch.tensor([[0.0, 0.0]])
    c = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    positive = torch.tensor([[True, False, False, False]])
    negative = torch.tensor([[False, True, True, True]])
    # the negative at distance 0 is not farther than the positive; the next one, at 1, is
    assert float(semi_hard_triplet(a, c, positive, negative, 1.5).loss) == pytest.approx(0.5)
    only = torch.tensor([[False, True, False, False]])
    found = semi_hard_triplet(a, c, positive, only, 1.5)
    assert (float(found.loss), float(found.semi_hard)) == (1.5, 0.0)


def softmax_by_loops(
    a: Tensor, c: Tensor, positive: Tensor, negative: Tensor, tau: float
) -> tuple[float, int]:
    losses = []
    for i in range(len(a)):
        logits = [float(a[i] @ c[j]) / tau for j in range(len(c))]
        same = [logits[j] for j in range(len(c)) if positive[i, j]]
        other = [logits[j] for j in range(len(c)) if negative[i, j]]
        if same and other:
            total = math.log(sum(math.exp(x) for x in same + other))
            losses.append(sum(total - x for x in same) / len(same))
    return sum(losses) / max(len(losses), 1), len(losses)


@given(seed=st.integers(0, 1 << 30), n=st.integers(1, 6), m=st.integers(1, 8), tau=st.floats(0.1, 2))
@settings(max_examples=100, deadline=None)
def test_masked_softmax_is_that_of_the_definition(seed: int, n: int, m: int, tau: float) -> None:
    a, c, positive, negative = drawn(seed, n, m)
    found = paired_info_nce(a, c, positive, negative, tau)
    loss, anchors = softmax_by_loops(a, c, positive, negative, tau)
    assert float(found.contrast.loss) == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert float(found.anchors) == anchors


def test_n_pairs_is_a_softmax_over_products_and_a_penalty_on_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    a, p = (torch.randn(7, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    eye = torch.eye(7, dtype=torch.bool)
    expected = cross_entropy(a @ p.T, torch.arange(7)) + 0.25 * 0.002 * ((a**2).sum() + (p**2).sum()) / 7
    assert float(n_pairs(a, p, p, eye, ~eye).contrast.loss) == pytest.approx(float(expected), rel=1e-12)


def test_anchors_that_share_a_moment_share_their_target() -> None:
    generator = torch.Generator().manual_seed(1)
    a, p = (torch.randn(5, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    label = torch.tensor([0, 1, 1, 2, 1])
    same = label[:, None] == label
    target = same.double() / same.sum(1, keepdim=True)
    found = n_pairs(a, p, p, same, ~same, penalty=0.0)
    assert float(found.contrast.loss) == pytest.approx(float(cross_entropy(a @ p.T, target)), rel=1e-12)


def test_one_positive_each_is_the_contrastive_familys_info_nce() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k = (normalize(torch.randn(6, 4, dtype=torch.float64, generator=generator), dim=1) for _ in range(2))
    eye = torch.eye(6, dtype=torch.bool)
    found = paired_info_nce(q, k, eye, ~eye, 0.2).contrast
    known = batch_contrast(q, k, 0, 0.2)
    assert float(found.loss) == pytest.approx(float(known.loss) / 0.4, rel=1e-12)
    for name, value in known.parts().items():
        assert float(found.parts()[name]) == pytest.approx(float(value), rel=1e-9), name
    shared = torch.cat([eye, torch.zeros(6, 6, dtype=torch.bool)], dim=1)
    negatives = normalize(torch.randn(6, 4, dtype=torch.float64, generator=generator), dim=1)
    others = torch.cat([torch.zeros_like(eye), torch.ones_like(eye)], dim=1)
    again = paired_info_nce(q, torch.cat([k, negatives]), shared, others, 0.2).contrast
    assert float(again.loss) == pytest.approx(float(info_nce(q, k, negatives, 0.2).loss), rel=1e-12)


@pytest.mark.parametrize("name", ["triplet", "n_pairs", "info_nce"])
def test_gradients(name: str) -> None:
    a, c, positive, negative = drawn(3, 5, 8)
    positive[0] = False  # an anchor without a positive
    negative[1] = False  # and one without a negative

    def loss(a: Tensor, c: Tensor) -> Tensor:
        if name == "triplet":
            return semi_hard_triplet(a, c, positive, negative, 1.0).loss
        if name == "n_pairs":
            return n_pairs(a, c[:5], c, positive, negative, 0.1).contrast.loss
        return paired_info_nce(a, c, positive, negative, 0.5).contrast.loss

    assert torch.autograd.gradcheck(loss, (a.requires_grad_(), c.requires_grad_()))


@pytest.mark.parametrize("positives", [True, False])
def test_nothing_to_compare_is_a_loss_of_zero_with_a_gradient_of_zero(positives: bool) -> None:
    a, c, _, _ = drawn(4, 4, 5)
    a.requires_grad_()
    mask = torch.full((4, 5), positives)
    losses = [
        semi_hard_triplet(a, c, mask, ~mask, 0.2).loss,
        n_pairs(a, c[:4], c, mask, ~mask).contrast.loss,
        paired_info_nce(a, c, mask, ~mask, 0.1).contrast.loss,
    ]
    for loss in losses:
        assert float(loss.detach()) == 0.0
        (gradient,) = torch.autograd.grad(loss, a)
        assert torch.equal(gradient, torch.zeros_like(a))


def test_losses_are_computed_in_float32_under_autocast() -> None:
    a, c, positive, negative = drawn(5, 6, 9)
    expected = [
        semi_hard_triplet(a, c, positive, negative, 0.5).loss,
        paired_info_nce(a, c, positive, negative, 0.1).contrast.loss,
    ]
    with torch.autocast("cpu", torch.bfloat16):
        found = [
            semi_hard_triplet(a.float(), c.float(), positive, negative, 0.5).loss,
            paired_info_nce(a.float(), c.float(), positive, negative, 0.1).contrast.loss,
        ]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert float(one) == pytest.approx(float(other), rel=1e-4)
