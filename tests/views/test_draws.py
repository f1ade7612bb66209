"""Draws: Philox against its published vectors, the distributions, and independence of everything else."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from view_tools import make_draws

from mmssl.stream.views.draws import Draws, philox, philox_single

# Random123 1.14, tests/kat_vectors, philox4x32 with 10 rounds.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_published_words(counter: str, key: str, expected: str) -> None:
    a, b, c, d = (int(word, 16) for word in counter.split())
    first, second = (int(word, 16) for word in key.split())
    words = np.array([[a], [b], [c], [d]], dtype=np.uint64)
    assert [f"{int(word):08x}" for word in philox(words, (first, second))[:, 0]] == expected.split()
    assert [f"{word:08x}" for word in philox_single((a, b, c, d), (first, second))] == expected.split()


def test_all_blocks_of_a_draw_and_halves_of_an_id_have_their_own_counter() -> None:
    words = make_draws([5, 5 + 2**32, 5 + 2**47]).words("x", 64)
    assert len(np.unique(words)) == 3 * 64


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=20),
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
)
def test_a_sample_draws_the_same_alone_and_in_any_batch(ids: list[int], pass_: int, n: int) -> None:
    together = make_draws(ids, pass_)
    alone = [make_draws([i], pass_) for i in ids]
    for kind in (
        lambda d: d.uniform("a", n),
        lambda d: d.integers("a", n, -3, 9),
        lambda d: d.normal("a", n),
        lambda d: d.permutation("a", n),
    ):
        np.testing.assert_array_equal(kind(together), np.concatenate([kind(d) for d in alone]))
    np.testing.assert_array_equal(together.rows([0]).words("a", n), alone[0].words("a", n))
    np.testing.assert_array_equal(together.rows(slice(0, 1)).words("a", n), alone[0].words("a", n))


def test_more_numbers_of_a_draw_leave_the_first_ones_as_they_were() -> None:
    draws = make_draws(range(10))
    np.testing.assert_array_equal(draws.uniform("crop", 50)[:, :7], draws.uniform("crop", 7))


def test_every_part_of_the_address_changes_the_numbers() -> None:
    ids = np.arange(1000)
    base = make_draws(ids)
    streams = [
        base.uniform("a"),
        base.uniform("b"),
        base.view(0).uniform("a"),
        base.view(1).uniform("a"),
        base.named("geometry").uniform("a"),
        make_draws(ids, passes=1).uniform("a"),
        make_draws(ids, seed=8).uniform("a"),
        make_draws(ids, name="depth").uniform("a"),
        make_draws(ids + 1000).uniform("a"),
    ]
    for one, other in itertools.combinations(streams, 2):
        assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.13  # 4 σ at 1000 samples
        assert (one == other).mean() < 0.01


def test_distributions() -> None:
    draws = make_draws(range(4000), seed=3)
    unit = draws.uniform("u", 5)
    assert unit.dtype == np.float32
    assert unit.min() >= 0
    assert unit.max() < 1
    assert stats.kstest(unit.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(draws.uniform("w", 1, -2, 6).ravel(), "uniform", (-2, 8)).pvalue > 1e-3
    assert stats.kstest(draws.normal("n", 5).ravel(), "norm").pvalue > 1e-3
    counts = np.bincount(draws.integers("i", 5, 10, 17).ravel())
    assert counts[:10].sum() == 0
    assert stats.chisquare(counts[10:]).pvalue > 1e-3
    assert abs(np.corrcoef(unit.T) - np.eye(5)).max() < 0.07
    orders = draws.permutation("p", 4)
    assert (np.sort(orders, axis=1) == np.arange(4)).all()
    seen = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(seen) == 24
    assert stats.chisquare(seen).pvalue > 1e-3


def test_integers_take_bounds_of_each_sample() -> None:
    high = np.array([[1], [2], [1000]])
    drawn = make_draws(range(3)).integers("i", 200, 0, high)
    assert drawn.dtype == np.int64
    assert (drawn < high).all()
    assert drawn[0].max() == 0
    assert set(drawn[1]) == {0, 1}
    assert drawn[2].max() > 900


def test_addresses_that_would_wrap_are_refused() -> None:
    for ids, passes in [([-1], 0), ([2**48], 0), ([0], -1), ([0], 2**32)]:
        with pytest.raises(ValueError):
            make_draws(ids, passes)
    with pytest.raises(ValueError):
        Draws(0, "image", np.zeros(2, dtype=np.int64), np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError):
        make_draws([0]).uniform("x", 0)
    with pytest.raises(ValueError):
        make_draws([0]).integers("x", 1, 3, 3)
