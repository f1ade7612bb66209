"""Momentum copies against their closed form, the queue against a deque, positions against a loop."""

import math
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmssl.models.momentum import follow, momentum_at, momentum_copy
from mmssl.models.positions import sincos_positions
from mmssl.models.queue import Queue


def test_ema_of_a_constant_source_has_a_closed_form() -> None:
    fast = nn.Linear(3, 2).double()
    slow = momentum_copy(fast)
    start = slow.weight.clone()
    with torch.no_grad():
        fast.weight.add_(1.0)
    for _ in range(10):
        follow(slow, fast, 0.9)
    torch.testing.assert_close(slow.weight, fast.weight + (start - fast.weight) * 0.9**10)
    assert not any(p.requires_grad for p in slow.parameters())
    assert all(p.requires_grad for p in fast.parameters())


def test_buffers_stay_the_copys_own() -> None:
    fast = nn.BatchNorm1d(2)
    slow = momentum_copy(fast)
    fast(torch.randn(8, 2) + 3)
    follow(slow, fast, 0.0)
    assert torch.equal(slow.running_mean, torch.zeros(2))  # type: ignore[arg-type]


def test_momentum_schedules() -> None:
    assert momentum_at(0.7, 0.99, "constant") == 0.99
    assert [momentum_at(p, 0.99, "cosine") for p in (0.0, 0.5, 1.0)] == pytest.approx([0.99, 0.995, 1.0])


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 12), pushes=st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_the_queue_is_a_deque(size: int, pushes: list[int]) -> None:
    queue = Queue(size, 1)
    oracle: deque[tuple[float, int]] = deque(((float(k), 0) for k in queue.keys[:, 0]), maxlen=size)
    count = 0.0
    for step, n in enumerate(pushes, start=1):
        rows = [count + i for i in range(n)]
        count += n
        queue.push(torch.tensor(rows)[:, None])
        oracle.extend((row, step) for row in rows)
    assert sorted(queue.keys[:, 0].tolist()) == sorted(key for key, _ in oracle)
    # read from the next slot on, the ring is in the order of the deque
    pointer = int(queue.pushed) % size
    assert queue.keys.roll(-pointer, 0)[:, 0].tolist() == [key for key, _ in oracle]
    assert float(queue.age()) == pytest.approx(sum(len(pushes) - born for _, born in oracle) / size)


def test_a_queue_restored_goes_on_where_it_was() -> None:
    one, two = Queue(7, 3), Queue(7, 3)
    one.push(torch.randn(5, 3))
    two.load_state_dict(one.state_dict())
    more = torch.randn(5, 3)
    one.push(more)
    two.push(more)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))


def test_positions_against_the_formula() -> None:
    found = sincos_positions(2, 3, 8)
    for row in range(2):
        for column in range(3):
            expected = []
            for value in (column, row):
                for wave in (math.sin, math.cos):
                    expected += [wave(value / 10000 ** (2 * i / 4)) for i in range(2)]
            torch.testing.assert_close(found[row * 3 + column], torch.tensor(expected))
