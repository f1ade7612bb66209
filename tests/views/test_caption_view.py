"""Captions as tokens: which one is drawn, what is the same, what is cut, and what cannot be read."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from view_tools import make_draws

from mmssl.errors import MmsslError
from mmssl.models.text.tokenizer import BytePairs, Tokenizer, WordPieces
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.views.caption import CaptionView

TEXTS = ["a red dog runs", "two dogs run", "the dog", "a cat sits on a mat", "some cats"]


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    return WordPieces.train(TEXTS, 60)


@pytest.fixture(scope="module")
def byte_pairs() -> BytePairs:
    return BytePairs()


def sample(captions: object, id_: int = 0, pass_: int = 0) -> Sample:
    data = captions if isinstance(captions, bytes) else json.dumps(captions).encode()
    return Sample(id_, f"k{id_}", "train/0.tar", pass_, {"caption": ("json", data)})


def view_of(view: CaptionView, captions: list[list[str]], pass_: int = 0, seed: int = 7) -> dict:
    """What a batch of samples 0, 1, … in one pass becomes."""
    items = [
        view.read(sample(texts, id_), make_draws([id_], pass_, seed, "text"))
        for id_, texts in enumerate(captions)
    ]
    draws = make_draws(range(len(captions)), pass_, seed, "text")
    return view.finish(view.prepare(items, draws), draws)


def test_the_entries_of_one_caption_a_sample(pieces: WordPieces) -> None:
    entry = view_of(CaptionView(pieces, 8), [TEXTS, ["The  DOG"], ["the dog "]])
    assert {name: (tuple(value.shape), value.dtype) for name, value in entry.items()} == {
        "tokens": ((3, 8), torch.int64),
        "which": ((3,), torch.int64),
        "same": ((3,), torch.int64),
        "cut": ((3,), torch.bool),
        "unknown": ((3,), torch.float32),
    }
    assert torch.equal(entry["tokens"], pieces([TEXTS[entry["which"][0]], "the dog", "the dog"], 8))
    assert entry["same"][1] == entry["same"][2], "white space and case make no difference"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**31), st.integers(0, 1000), st.integers(1, 5))
def test_the_draw_is_a_function_of_seed_sample_and_pass(id_: int, pass_: int, seed: int, count: int) -> None:
    view = CaptionView(Letters(), 16)
    texts = TEXTS[:count]
    first, again = (view.read(sample(texts, id_, pass_), make_draws([id_], pass_, seed)) for _ in range(2))
    assert first == again
    assert 0 <= first[0].number < count


def test_every_caption_is_as_likely_whatever_else_the_sample_has() -> None:
    """Over passes of one sample, and over samples of one pass; blank captions are never drawn."""
    view = CaptionView(Letters(), 16)
    texts = ["a", "", "b", "c", "  ", "d", "e"]
    for ids, passes in ((np.full(3000, 5), np.arange(3000)), (np.arange(3000), np.zeros(3000, int))):
        drawn = [
            view.read(sample(texts, i, p), make_draws([i], p))[0].number
            for i, p in zip(ids.tolist(), passes.tolist(), strict=True)
        ]
        counts = np.bincount(drawn, minlength=7)
        assert counts[[1, 4]].sum() == 0
        assert stats.chisquare(counts[[0, 2, 3, 5, 6]]).pvalue > 1e-3


def test_passes_are_independent_of_each_other() -> None:
    view = CaptionView(Letters(), 16)
    drawn = np.array(
        [[view.read(sample(TEXTS, i, p), make_draws([i], p))[0].number for p in (0, 1)] for i in range(2500)]
    )
    table = np.zeros((5, 5))
    np.add.at(table, (drawn[:, 0], drawn[:, 1]), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_the_first_and_all_captions(pieces: WordPieces) -> None:
    first = view_of(CaptionView(pieces, 8, choose="first"), [TEXTS, ["", "the dog"]])
    assert first["which"].tolist() == [0, 1], "the first that says anything"
    every = view_of(CaptionView(pieces, 8, choose="all"), [TEXTS, ["", "the dog"]])
    assert every["tokens"].shape == (2, 5, 8)
    assert every["count"].tolist() == [5, 1]
    assert every["which"].tolist() == [[0, 1, 2, 3, 4], [1, -1, -1, -1, -1]]
    assert torch.equal(every["tokens"][0], pieces(TEXTS, 8))
    assert torch.equal(every["tokens"][1, 0], every["tokens"][0, 2])
    assert every["same"][1, 0] == every["same"][0, 2]
    assert every["same"][1, 1:].eq(-1).all()
    assert every["tokens"][1, 1:].eq(pieces.pad).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc ", min_size=1, max_size=14).filter(str.strip), min_size=2, max_size=12))
def test_same_is_equality_of_what_the_model_sees(texts: list[str]) -> None:
    entry = view_of(CaptionView(Letters(), 10), [[text] for text in texts])
    rows = entry["tokens"]
    equal = (rows[:, None] == rows[None]).all(2)
    assert torch.equal(entry["same"][:, None] == entry["same"][None], equal)
    assert entry["same"].ge(0).all()
    assert entry["cut"].tolist() == [len("".join(text.split())) > 8 for text in texts]


def test_long_captions_are_cut_counted_and_cost_little(byte_pairs: BytePairs) -> None:
    view = CaptionView(byte_pairs, 32)
    page = ["dog " * 2500], ["x" * 10_000], ["dog\n" + "\n" * 9990], ["a dog"]
    entry = view_of(view, list(page))
    assert entry["cut"].tolist() == [True, True, False, False]
    assert torch.equal(entry["tokens"][0], byte_pairs(["dog " * 40], 32)[0])
    assert entry["tokens"][:, 0].eq(byte_pairs.start).all()
    assert entry["tokens"].eq(byte_pairs.end).sum(1).eq(1).all()


def test_what_the_vocabulary_cannot_spell_is_counted_or_passed_over(pieces: WordPieces) -> None:
    entry = view_of(CaptionView(pieces, 8), [["the dog 犬 犬"], ["犬", "the dog"], ["the dog"]])
    assert entry["unknown"].tolist() == [0.5, 0.0, 0.0]
    assert entry["which"].tolist() == [0, 1, 0]
    with pytest.raises(Unreadable, match="no word that the tokenizer knows in '犬' and 1 more"):
        view_of(CaptionView(pieces, 8), [["犬", "犬 犬"]])


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([""], "no word that the tokenizer knows in ''"),
        ([" \n\t", ""], "no word"),
        ([], "expected a list of at least one string"),
        ([1], "expected a list of at least one string"),
        (b'["caf\xe9"]', "UnicodeDecodeError"),
        (b"", "zero bytes"),
    ],
)
@pytest.mark.parametrize("choose", ["draw", "first", "all"])
def test_samples_without_words_are_unreadable(
    captions: object, message: str, choose: str, pieces: WordPieces
) -> None:
    view = CaptionView(pieces, 8, choose=choose)
    with pytest.raises(Unreadable, match=message):
        view.read(sample(captions), make_draws([0]))


def test_a_context_without_room_for_a_word_is_refused(pieces: WordPieces) -> None:
    with pytest.raises(MmsslError, match="context 2; expected at least 3"):
        CaptionView(pieces, 2)


def test_views_travel_to_workers(pieces: WordPieces, byte_pairs: BytePairs) -> None:
    for tokenizer in (pieces, byte_pairs):
        view = CaptionView(tokenizer, 8)
        moved = pickle.loads(pickle.dumps(view))
        assert moved.read(sample(TEXTS), make_draws([0])) == view.read(sample(TEXTS), make_draws([0]))


class Letters(Tokenizer):
    """One token a letter."""

    vocabulary, pad, start, end = 256, 0, 1, 2

    def encode(self, texts):
        return [[ord(letter) for letter in text if letter != " "] for text in texts]

    def decode(self, tokens):
        return "".join(map(chr, tokens))
