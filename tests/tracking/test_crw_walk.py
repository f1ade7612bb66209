"""Random walks over the nodes of a clip: probabilities, edge dropout, loss and gradients."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.losses.random_walk import cycle_loss, drop_edges, returned, round_trips, transition

TAU = 0.05


def nodes(b: int = 2, t: int = 4, n: int = 3, d: int = 5, seed: int = 0) -> Tensor:
    """(B, T, N, d) float64 unit vectors."""
    q = torch.randn(b, t, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(q, dim=-1)


def steps_by_hand(a: np.ndarray, b: np.ndarray, temperature: float) -> np.ndarray:
    """One step's probabilities, number by number."""
    p = np.empty((len(a), len(b)))
    for i, j in np.ndindex(p.shape):
        p[i, j] = math.exp(sum(x * y for x, y in zip(a[i], b[j], strict=True)) / temperature)
    return p / np.array([[sum(row)] for row in p])


def walks_by_hand(q: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """(N, N): the sum over every path 0 → 1 → … → k → … → 1 → 0 of the product of its steps."""
    frames = [*range(k + 1), *range(k - 1, -1, -1)]
    steps = [steps_by_hand(q[s], q[t], temperature) for s, t in itertools.pairwise(frames)]
    n = q.shape[1]
    p = np.zeros((n, n))
    for path in itertools.product(range(n), repeat=len(frames)):
        p[path[0], path[-1]] += math.prod(
            step[i, j] for step, (i, j) in zip(steps, itertools.pairwise(path), strict=True)
        )
    return p


def test_probabilities_are_those_of_all_paths_added_up() -> None:
    q = nodes()
    walks = list(round_trips(q, 0.3))
    assert len(walks) == 3
    for k, p in enumerate(walks, 1):
        for sample, found in zip(q.numpy(), p, strict=True):
            np.testing.assert_allclose(found, walks_by_hand(sample, k, 0.3), rtol=1e-12)


def test_a_walk_of_k_frames_sees_these_frames_and_no_later_one() -> None:
    q = nodes()
    walks = list(round_trips(q, TAU))
    for frame in range(1, 4):
        other = q.clone()
        other[:, frame] = nodes(seed=1)[:, frame]
        same = [torch.equal(a, b) for a, b in zip(walks, round_trips(other, TAU), strict=True)]
        assert same == [k < frame for k in range(1, 4)]


def test_forward_and_backward_steps_are_normalised_each_on_its_own() -> None:
    a, b = nodes(n=3)[:, 0], nodes(n=4, seed=1)[:, 0]
    there, back = transition(a, b, TAU), transition(b, a, TAU)
    assert there.shape == (2, 3, 4)
    assert back.shape == (2, 4, 3)
    for p in (there, back):
        torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]))
    assert not torch.allclose(there.mT / there.mT.sum(-1, keepdim=True), back)


def test_nodes_that_can_be_told_apart_cost_nothing_wherever_they_go() -> None:
    generator = torch.Generator().manual_seed(3)
    frames = [torch.eye(9, dtype=torch.float64)[torch.randperm(9, generator=generator)] for _ in range(4)]
    for p in round_trips(torch.stack(frames)[None], TAU):
        assert cycle_loss(p) < 1e-6
        assert returned(p).all()


def test_nodes_that_all_look_alike_cost_log_n_and_know_nothing() -> None:
    q = nodes(n=1).expand(-1, -1, 7, -1)
    for p in round_trips(q, TAU):
        assert float(cycle_loss(p)) == pytest.approx(math.log(7))
        assert not returned(p).any()


def test_random_nodes_in_many_dimensions_cost_about_log_n() -> None:
    p = list(round_trips(nodes(n=49, d=2000, b=1), 1.0))[-1]
    assert float(cycle_loss(p)) == pytest.approx(math.log(49), rel=0.01)


def test_the_loss_is_the_mean_negative_log_of_coming_back() -> None:
    p = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]], dtype=torch.float64)
    assert float(cycle_loss(p)) == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)
    assert returned(p).tolist() == [[0.0, 0.0]]  # one is tied with another node


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.0, 0.99), seed=st.integers(0, 2**31), n=st.integers(1, 6))
def test_with_dropped_edges_rows_still_sum_to_one_and_gradients_are_finite(
    share: float, seed: int, n: int
) -> None:
    torch.manual_seed(seed)
    q = nodes(n=n, seed=seed).float().requires_grad_()
    losses = []
    for p in round_trips(q, TAU, share):
        assert (p >= 0).all()
        torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]))
        losses.append(cycle_loss(p))
    torch.stack(losses).mean().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_the_share_of_dropped_edges_is_as_asked_and_logits_are_left_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 40, 40)
    before = logits.clone()
    after = drop_edges(logits, 0.1)
    dropped = after.isinf()
    assert torch.equal(logits, before)
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.005)
    assert torch.equal(after[~dropped], logits[~dropped])
    assert not torch.equal(dropped, drop_edges(logits, 0.1).isinf())  # drawn anew each time


def test_a_node_never_loses_all_of_its_edges() -> None:
    torch.manual_seed(0)
    kept = drop_edges(torch.zeros(2000, 2), 0.9).isfinite().sum(dim=1)
    assert (kept > 0).all()
    # by chance 0.81 of the rows would lose both: these keep both, as do the 0.01 that lose none
    assert float((kept == 2).float().mean()) == pytest.approx(0.82, abs=0.04)


def test_the_gradient_is_that_of_finite_differences() -> None:
    raw = torch.randn(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor) -> Tensor:
        q = torch.nn.functional.normalize(x, dim=-1)
        return torch.stack([cycle_loss(p) for p in round_trips(q, 0.2)]).mean()

    assert torch.autograd.gradcheck(loss, (raw,))


def test_a_walk_that_cannot_come_back_costs_46_and_has_a_finite_gradient() -> None:
    lost, seen = [1.0, 0.0], [0.0, 1.0]
    q = torch.tensor([[[lost, seen], [seen, seen]]]).requires_grad_()  # (1, 2 frames, 2 nodes, 2)
    (p,) = round_trips(q, 0.01)
    assert 0 < p[0, 0, 0] < 1e-43  # e^−100: ε is what it is measured by
    loss = cycle_loss(p)
    assert loss.item() == pytest.approx(-math.log(1e-20) / 2)
    loss.backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_half_precision_nodes_walk_in_float32_even_under_autocast() -> None:
    q = nodes().bfloat16()
    plain = list(round_trips(q.float(), TAU))
    with torch.autocast("cpu", torch.bfloat16):
        half = list(round_trips(q, TAU))
    for a, b in zip(plain, half, strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)
