"""Sentence pairs with hidden words: what is in them, how often what is hidden, and what is never asked."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from caption_shards import miniworld
from scipy.stats import chisquare

from mmssl.errors import MmsslError
from mmssl.models.text.tokenizer import SPECIAL, BytePairs, WordPieces
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.masked_text import NOT_ASKED, MaskedTextView

TRAIN = miniworld()[0][:400]
PIECES = WordPieces.train([text for world in TRAIN for text in world], 400)
VIEW = MaskedTextView(PIECES, 64)


def sample(number: int, texts: Sequence[str]) -> Sample:
    made = Sample(number, f"k{number}", "shard", 0, {})
    made._decoded["caption"] = list(texts)
    return made


def seen(
    worlds: Sequence[Sequence[str]],
    view: MaskedTextView = VIEW,
    pass_: int = 0,
    ids: Sequence[int] | None = None,
) -> dict[str, torch.Tensor]:
    numbers = np.arange(len(worlds)) if ids is None else np.array(ids)
    draws = Draws(0, "text", numbers, np.full(len(worlds), pass_))
    items = [view.read(sample(int(numbers[i]), texts), draws.rows([i])) for i, texts in enumerate(worlds)]
    return view.finish(view.prepare(items, draws), draws)


def sentences(x: dict[str, torch.Tensor], row: int) -> list[str]:
    """What the pair said before anything was hidden."""
    tokens = torch.where(x["targets"] == NOT_ASKED, x["tokens"], x["targets"])[row].tolist()
    assert tokens[0] == PIECES.start
    parts: list[list[int]] = [[]]
    for token, segment in zip(tokens[1:], x["segments"][row].tolist()[1:], strict=True):
        if token != PIECES.pad:
            assert segment == len(parts) - 1
        if token == PIECES.end:
            parts.append([])
        else:
            parts[-1].append(token)
    assert set(parts.pop()) <= {PIECES.pad}
    return [PIECES.decode(part) for part in parts]


def as_tokenized(text: str) -> str:
    return PIECES.decode(PIECES.encode([text])[0])


def test_pairs_are_of_one_sample_or_of_two_and_say_which() -> None:
    x = seen(TRAIN)
    said = [{as_tokenized(text) for text in world} for world in TRAIN]
    for row, own in enumerate(said):
        first, second = sentences(x, row)
        assert first in own
        if x["other"][row]:
            assert second not in own
            assert any(second in others for others in said)
        else:
            assert second in own - {first}
    assert set(x["other"].tolist()) == {0, 1}
    share, n = x["other"].float().mean().item(), len(TRAIN)
    assert abs(share - 0.5) < 4 * (0.25 / n) ** 0.5


def test_asked_tokens_are_as_many_and_fare_as_the_paper_says() -> None:
    """Per row of n tokens 0.15 n are asked on average, and one more where chance would ask for none."""
    rows = [seen(TRAIN, pass_=pass_) for pass_ in range(12)]
    tokens, targets = (torch.cat([x[name] for x in rows]) for name in ("tokens", "targets"))
    asked = targets != NOT_ASKED
    before = torch.where(asked, targets, tokens)
    ordinary = before >= len(SPECIAL)
    assert not (asked & ~ordinary).any()
    n = ordinary.sum(dim=1).double()
    expected = 0.15 * n + 0.85**n
    spread = (0.15 * 0.85 * n).sum().sqrt()
    assert abs(float(asked.sum() - expected.sum())) < 4 * float(spread)
    assert int(asked.sum(dim=1).min()) == 1
    hidden = asked & (tokens == PIECES.mask)
    kept = asked & (tokens == targets)
    counts = torch.stack([hidden.sum(), (asked & ~hidden & ~kept).sum(), kept.sum()]).double()
    words = PIECES.vocabulary - len(SPECIAL)
    shares = np.array([0.8, 0.1 * (1 - 1 / words), 0.1 + 0.1 / words])  # a random word may be the same
    assert chisquare(counts, shares * float(counts.sum())).pvalue > 1e-4
    exchanged = tokens[asked & ~hidden & ~kept]
    assert int(exchanged.min()) >= len(SPECIAL)
    assert chisquare(exchanged.bincount(minlength=PIECES.vocabulary)[len(SPECIAL) :]).pvalue > 1e-4
    assert torch.equal(tokens[~asked], before[~asked])


def test_what_is_hidden_depends_on_sample_and_pass_alone() -> None:
    """Only the partner is of the batch: pairs of one sample are the same wherever they are."""
    alone, moved = seen(TRAIN[:20]), seen(TRAIN[5:20], ids=range(5, 20))
    same = torch.tensor([a == b == 0 for a, b in zip(alone["other"][5:], moved["other"], strict=True)])
    assert int(same.sum()) > 3
    assert torch.equal(alone["tokens"][5:][same], moved["tokens"][same])
    assert torch.equal(alone["other"][5:], moved["other"])
    assert not torch.equal(alone["tokens"], seen(TRAIN[:20], pass_=1)["tokens"])


def test_a_single_caption_is_cut_in_two() -> None:
    texts = [[world[i % 5]] for i, world in enumerate(TRAIN[:60])]
    x = seen(texts)
    seconds = {as_tokenized(" ".join(one.split()[len(one.split()) // 2 :])) for (one,) in texts}
    for row, (text,) in enumerate(texts):
        first, second = sentences(x, row)
        assert first == as_tokenized(" ".join(text.split()[: len(text.split()) // 2]))
        assert second in seconds
        assert (x["other"][row] == 0) == (f"{first} {second}" == as_tokenized(text))


def test_halves_never_meet_whole_captions() -> None:
    """A half beside a whole caption would tell that they are of two samples."""
    worlds = [world[:1] if i % 4 == 0 else world for i, world in enumerate(TRAIN[:80])]
    whole = {as_tokenized(text) for world in TRAIN for text in world}
    x = seen(worlds)
    assert set(x["other"][::4].tolist()) == {0, 1}
    for row in range(80):
        assert all((sentence in whole) == (row % 4 > 0) for sentence in sentences(x, row))


@pytest.mark.parametrize(
    "worlds",
    [
        [TRAIN[0]],
        [TRAIN[0], TRAIN[0]],
        [TRAIN[0], [text.upper() for text in TRAIN[0][2:]]],
        [["circle"], ["square"], ["star"]],
        [[TRAIN[0][0], f" {TRAIN[0][0].upper()} "], TRAIN[1]],
    ],
    ids=["alone", "twice", "shared", "one word", "said twice"],
)
def test_nothing_is_asked_where_nothing_can_be_known(worlds: list[list[str]]) -> None:
    x = seen(worlds)
    assert x["other"].tolist() == [NOT_ASKED] * len(worlds)
    assert ((x["targets"] != NOT_ASKED).sum(dim=1) > 0).all()


def test_long_captions_give_way_to_each_other() -> None:
    long = "disc " * 3000
    view = MaskedTextView(PIECES, 16)
    x = seen([[f"a {long}", f"the {long}"], ["square star", f"we {long}"]], view)
    for row in range(2):
        first, second = (len(sentence.split()) for sentence in sentences(x, row))
        assert first + second == 13
    assert (x["tokens"] != PIECES.pad).all()


@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n"], ["\u200b"]])
def test_a_sample_without_words_is_unreadable(texts: list[str]) -> None:
    with pytest.raises(Unreadable, match="no caption with a word"):
        seen([texts])


def test_unknown_words_are_never_asked() -> None:
    x = seen([["ξ ψ ω", "ж я disc"], TRAIN[0], ["ξ", "ψ"]])
    assert PIECES.unknown not in x["targets"]
    assert (x["targets"][2] == NOT_ASKED).sum() >= 62


def test_byte_pairs_have_nothing_to_hide_words_with() -> None:
    with pytest.raises(MmsslError, match=r"text\.tokenizer: .*expected a tokenizer stage"):
        MaskedTextView(BytePairs(), 64)
    with pytest.raises(MmsslError, match=r"text\.context: expected at least 5"):
        MaskedTextView(PIECES, 4)
