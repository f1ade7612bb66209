"""Any-hit ranks against torchmetrics and loops, and chance against every order there is."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.retrieval import RetrievalHitRate

from mmssl.evaluate.language.ranking import Chance, Truth, first_hits


@st.composite
def captioned(draw):
    """(samples, of, same): one to four captions a sample, some of them the same."""
    counts = draw(st.lists(st.integers(1, 4), min_size=2, max_size=9))
    of = [row for row, count in enumerate(counts) for _ in range(count)]
    texts = draw(st.lists(st.integers(0, 2 * len(counts)), min_size=len(of), max_size=len(of)))
    return len(counts), torch.tensor(of), torch.tensor(texts).unique(return_inverse=True)[1]


@given(captioned(), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_any_hit_ranks_are_those_of_torchmetrics(data, seed):
    samples, of, same = data
    truth = Truth(of, same, samples)
    generator = torch.Generator().manual_seed(seed)
    said = {text: set(same[of == row].tolist()) for row, text in enumerate(range(samples))}
    for right, asked in (
        (truth.texts_of(torch.arange(samples)), samples),
        (truth.samples_of(torch.arange(len(of))), len(of)),
    ):
        similarity = torch.randn(right.shape, generator=generator)
        rank = first_hits(similarity, right)
        rows = torch.arange(asked)[:, None].expand_as(right).flatten()
        for k in (1, 3):
            metric = RetrievalHitRate(top_k=k)
            hits = metric(similarity.flatten(), right.flatten(), indexes=rows)
            assert float((rank <= k).double().mean()) == pytest.approx(float(hits))
    for row in range(samples):
        assert set(truth.texts_of(torch.tensor([row]))[0].nonzero()[:, 0].tolist()) == said[row]
    for caption in range(len(of)):
        found = truth.samples_of(torch.tensor([caption]))[0].tolist()
        assert found == [int(same[caption]) in said[row] for row in range(samples)]


def test_rows_in_any_order_and_the_first_caption_of_each_text():
    truth = Truth(torch.tensor([0, 0, 1, 2, 2]), torch.tensor([2, 0, 1, 0, 2]), 3)
    assert truth.texts == 3
    assert truth.caption.tolist() == [1, 2, 0]
    every = truth.texts_of(torch.arange(3))
    assert torch.equal(truth.texts_of(torch.tensor([2, 0])), every[[2, 0]])
    samples = truth.samples_of(torch.arange(5))
    assert torch.equal(truth.samples_of(torch.tensor([4, 4, 2])), samples[[4, 4, 2]])
    assert samples.tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 0], [1, 0, 1], [1, 0, 1]]


def test_ties_and_what_is_no_number_are_against_us():
    right = torch.tensor([[True, True, False, False]])
    assert first_hits(torch.ones(1, 4), right).tolist() == [3]
    assert first_hits(torch.full((1, 4), float("nan")), right).tolist() == [3]
    assert first_hits(torch.tensor([[0.1, 0.9, 0.5, float("nan")]]), right).tolist() == [2]
    assert first_hits(torch.tensor([[0.1, 0.9, 0.9 + 1e-8, 0.5]]).double(), right).tolist() == [2]
    assert first_hits(torch.tensor([[0.1, 0.9, 0.5, 0.2]]), right).tolist() == [1]


@pytest.mark.parametrize("right", [[1], [2], [3], [6], [1, 2], [1, 4, 4], [2, 2, 3, 1]])
def test_chance_is_that_of_every_order(right):
    orders = list(permutations(range(6)))
    ranks = [1 + min(order.index(answer) for answer in range(r)) for r in right for order in orders]
    chance = Chance(torch.tensor(right), 6)
    expected = [np.mean(np.array(ranks) <= k) for k in (1, 2, 3, 6, 9)]
    assert chance.hits((1, 2, 3, 6, 9)) == pytest.approx(expected)
    assert chance.mean == pytest.approx(np.mean(ranks))
    assert chance.median == np.median(ranks)


def test_chance_of_flickr_with_five_captions_each():
    """491 pictures and 2455 captions: about 2 % both ways."""
    to_text = Chance(torch.full((491,), 5), 2455).hits((1, 5, 10))
    assert to_text == pytest.approx([1 - math.comb(2450, k) / math.comb(2455, k) for k in (1, 5, 10)])
    assert Chance(torch.ones(2455, dtype=torch.int64), 491).hits((10,)) == pytest.approx([10 / 491])
    assert 100 * to_text[2] == pytest.approx(2.02, abs=0.01)
    assert Chance(torch.ones(3, dtype=torch.int64), 491).median == 246
