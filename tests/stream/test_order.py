"""The order is a permutation each pass, different each pass, nearly sequential, and needs no memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.stream.mixture import Mixture, period_counts
from mmssl.stream.order import Order

sizes = st.integers(1, 300)


@given(sizes, st.integers(-5, 2**70), st.integers(1, 40), st.integers(1, 400), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_each_pass_is_a_permutation(samples: int, seed: int, block: int, window: int, pass_: int) -> None:
    ids = Order(samples, seed, block, window).ids(pass_, 0, samples)
    assert sorted(ids.tolist()) == list(range(samples))


@given(sizes, st.integers(1, 40), st.integers(1, 400), st.data())
@settings(max_examples=100, deadline=None)
def test_any_range_is_that_part_of_the_whole(
    samples: int, block: int, window: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, samples))
    stop = data.draw(st.integers(start, samples))
    whole = Order(samples, 3, block, window).ids(2, 0, samples)
    assert np.array_equal(Order(samples, 3, block, window).ids(2, start, stop), whole[start:stop])


def test_passes_and_seeds_differ() -> None:
    seeds = (0, 1, 2**64 - 2, 2**64 - 1)
    orders = [Order(500, seed, 16, 64).ids(pass_, 0, 500) for seed in seeds for pass_ in (0, 1, 2)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert np.mean(a == b) < 0.05


def test_the_sequence_of_a_seed_never_changes() -> None:
    # A checkpoint of today must continue with the same samples under every later version.
    ids = Order(10, 7, 2, 6).ids(1, 0, 10).tolist()
    key = np.random.Generator(np.random.Philox(key=[7, 1], counter=[0, 0, 0, 0])).bit_generator.random_raw(5)
    blocks = np.argsort(key, kind="stable")
    shift = int(np.random.Philox(key=[7, 1], counter=[0, 0, 0, 1]).random_raw(1)[0] % np.uint64(10))
    expected = []
    for window in range(2):
        inside = [2 * b + i for b in blocks[3 * window : 3 * window + 3] for i in (0, 1)]
        keys = np.random.Philox(key=[7, 1], counter=[0, window, 0, 2]).random_raw(len(inside))
        expected += [(inside[i] + shift) % 10 for i in np.argsort(keys, kind="stable")]
    assert ids == expected


def test_reads_stay_near_each_other() -> None:
    """A stretch as long as a window touches no more than two windows' blocks (the shift cuts each)."""
    samples, block, window = 20_000, 50, 1000
    ids = Order(samples, 0, block, window).ids(0, 0, samples)
    touched = [len(np.unique(ids[at : at + window] // block)) for at in range(0, samples, window)]
    assert max(touched) <= 2 * window // block + 2
    shuffled = np.random.default_rng(0).permutation(samples)
    assert len(np.unique(shuffled[:window] // block)) > 5 * max(touched)


def test_a_window_as_large_as_the_split_shuffles_it_uniformly() -> None:
    """Chi-square of the place of id 0 in 3000 passes: 21.7 is the 1 % limit of 9 degrees of freedom."""
    order = Order(10, 0, 3, 10)
    places = [order.ids(pass_, 0, 10).tolist().index(0) for pass_ in range(3000)]
    counts = np.bincount(places, minlength=10)
    assert ((counts - 300) ** 2 / 300).sum() < 21.7


def test_replacements_are_others() -> None:
    order = Order(20, 0, 4, 8)
    drawn = [order.replacement(0, 5, attempt) for attempt in range(1, 200)]
    assert 5 not in drawn
    assert set(drawn) == set(range(20)) - {5}
    assert drawn == [order.replacement(0, 5, attempt) for attempt in range(1, 200)]
    assert Order(1, 0, 4, 8).replacement(0, 0, 1) == 0


def test_out_of_range_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="not within a pass"):
        Order(10, 0, 2, 4).ids(0, 5, 11)


def test_mixture_counts_are_exact_and_every_source_keeps_its_own_passes() -> None:
    orders = [Order(10, 0, 4, 8), Order(7, 1, 4, 8), Order(100, 2, 4, 8)]
    mixture = Mixture(orders, [0.5, 0.25, 0.25])
    assert mixture.period == 4
    assert mixture.counts.tolist() == [2, 1, 1]
    ids, passes = mixture.at(0, 400)
    for source, (first, size, count) in enumerate([(0, 10, 200), (10, 7, 100), (17, 100, 100)]):
        here = (ids >= first) & (ids < first + size)
        assert here.sum() == count
        in_order = [
            (i + first, p) for p in range(count // size + 1) for i in orders[source].ids(p, 0, size).tolist()
        ]
        assert list(zip(ids[here].tolist(), passes[here].tolist(), strict=True)) == in_order[:count]


@given(st.integers(0, 5000), st.integers(0, 300), st.lists(st.floats(0.01, 50), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_mixture_ranges_agree_with_single_positions(start: int, length: int, weights: list[float]) -> None:
    mixture = Mixture([Order(5 + i, i, 2, 4) for i in range(len(weights))], weights)
    ids, passes = mixture.at(start, start + length)
    for offset in range(0, length, 17):
        one = mixture.at(start + offset, start + offset + 1)
        assert (one[0][0], one[1][0]) == (ids[offset], passes[offset])


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=6))
def test_period_counts_are_near_the_weights(weights: list[float]) -> None:
    counts = period_counts(weights)
    share = np.array(weights) / np.sum(weights)
    assert counts.min() >= 1
    assert np.abs(counts / counts.sum() - share).max() <= 0.001 * len(weights) + 1e-9


def test_round_weights_give_short_periods() -> None:
    assert period_counts([3.0, 1.0]).tolist() == [3, 1]
    assert period_counts([0.7, 0.2, 0.1]).tolist() == [7, 2, 1]
