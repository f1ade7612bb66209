"""Pairs of captions with hidden words: what BERT is asked (Devlin et al., NAACL 2019, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws

if TYPE_CHECKING:  # the stream needs no models
    from mmssl.models.text.tokenizer import Tokenizer

NOT_ASKED = -100
"""In ``targets`` and ``other``: what PyTorch's cross-entropy ignores."""
MASK, RANDOM = 0.8, 0.1
"""Of the asked tokens, the shares that are hidden and that are exchanged; the others stay as they are."""
_LETTERS = 16
"""Characters of a caption that are looked at, for each token of the context."""


@dataclass(frozen=True)
class Pair:
    """Two sentences about one sample."""

    first: list[int]
    second: list[int]
    """Empty where the only caption is a single word."""
    captions: frozenset[str]
    """All that is said about the sample, to tell whether another one is spoken of in the same words."""
    halves: bool
    """Whether the sentences are halves of the only caption."""


class MaskedTextView(View):
    """Sentence pairs [CLS] A [SEP] B [SEP] of which some tokens are asked for, as a dict:

    - ``tokens`` (B, context) int64, with what is hidden or exchanged;
    - ``targets`` (B, context) int64: the token that was there, -100 where none is asked for;
    - ``segments`` (B, context) int64: 1 in B and its [SEP], 0 elsewhere;
    - ``other`` (B,) int64: 0 where B belongs to A, 1 where another sample does, -100 where it is not asked.

    A and B are two different captions of a sample, in random order; of a sample with a single caption, its
    first and second half. In half of the pairs, B is another sample's: the first row from a random one on (so
    every rank stays within its own part of the batch, and the partner alone depends on the batch) that shares
    no caption or half with this sample and is split or not as it is, which would otherwise tell. Where there
    is none, or the only caption is a single word, the pair stays and nothing is asked about it. Of pairs that
    are too long, the longer sentence loses its last token, over and over.

    Of all tokens but [CLS], [SEP], padding and unknown ones, each is asked for with probability ``share``;
    where that asks for none, it is the one that came nearest to it.

    Raises:
        MmsslError: a tokenizer without a token that hides others, or a context without room for two words.
    """

    def __init__(
        self, tokenizer: "Tokenizer", context: int, field: str = "caption", share: float = 0.15
    ) -> None:
        if tokenizer.mask is None:
            raise MmsslError(
                "text.tokenizer: it has no token that hides a word, which 'clip' does not; expected a "
                "tokenizer stage or its tokenizer.json"
            )
        if context < 5:
            raise MmsslError(
                f"text.context: expected at least 5, for two words between three marks, found {context}"
            )
        self.tokenizer = tokenizer
        self.mask = tokenizer.mask
        self.context = context
        self.fields = (field,)
        self.share = share
        special = {tokenizer.pad, tokenizer.unknown, tokenizer.start, tokenizer.end, self.mask}
        self.special = np.array(sorted(token for token in special if token is not None))
        self.words = np.setdiff1d(np.arange(tokenizer.vocabulary), self.special)

    def read(self, sample: Sample, draws: Draws) -> Pair:
        """Two sentences in tokens.

        Raises:
            Unreadable: no caption, or none of which the tokenizer makes any token.
        """
        (field,) = self.fields
        captions = {text.casefold(): text for text in map(self._shortened, sample[field]) if text}
        texts = list(captions.values())
        found: list[tuple[str, list[int]]] = []
        for number in draws.permutation("captions", len(texts))[0] if texts else ():
            if tokens := self._tokens(texts[number]):
                found.append((texts[number], tokens))
            if len(found) == 2:
                return Pair(found[0][1], found[1][1], frozenset(captions), halves=False)
        if not found:
            raise Unreadable(field, "no caption with a word in it")
        words = found[0][0].split()
        halves = [" ".join(part) for part in (words[: len(words) // 2], words[len(words) // 2 :])]
        first, second = (self._tokens(half) for half in halves)
        if not first or not second:
            first, second = found[0][1], []
        return Pair(first, second, frozenset(captions), halves=True)

    def prepare(self, items: Sequence[Pair], draws: Draws) -> dict[str, Tensor]:
        """B pairs to the entries above."""
        apart = draws.integers("other", 1, 0, 2)[:, 0]
        start = draws.integers("partner", 1, 0, len(items))[:, 0]
        tokens = np.full((len(items), self.context), self.tokenizer.pad, dtype=np.int64)
        segments, other = np.zeros_like(tokens), np.zeros(len(items), dtype=np.int64)
        for row, pair in enumerate(items):
            second = pair.second
            partner = _partner(items, row, int(start[row]))
            if not second or partner is None:
                other[row] = NOT_ASKED
            elif apart[row]:
                other[row], second = 1, partner.second
            a, b = _fitting(pair.first, second, self.context - 3)
            kept = [self.tokenizer.start, *a, self.tokenizer.end]
            if b:
                segments[row, len(kept) : len(kept) + len(b) + 1] = 1
                kept += [*b, self.tokenizer.end]
            tokens[row, : len(kept)] = kept
        seen, targets = self._hide(tokens, draws)
        return {
            "tokens": torch.from_numpy(seen),
            "targets": torch.from_numpy(targets),
            "segments": torch.from_numpy(segments),
            "other": torch.from_numpy(other),
        }

    def finish(self, x: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        """Nothing is left to do."""
        return x

    def _hide(self, tokens: NDArray[np.int64], draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What is seen, and what is asked, both (B, context)."""
        unit = draws.uniform("asked", self.context)
        unit = np.where(np.isin(tokens, self.special), 2.0, unit)
        asked = (unit < self.share) | ((unit == unit.min(axis=1, keepdims=True)) & (unit < 1))
        fate = draws.uniform("fate", self.context)
        exchanged = self.words[draws.integers("word", self.context, 0, len(self.words))]
        seen = np.where(asked & (fate < MASK), self.mask, tokens)
        seen = np.where(asked & (fate >= MASK) & (fate < MASK + RANDOM), exchanged, seen)
        return seen, np.where(asked, tokens, NOT_ASKED)

    def _shortened(self, text: str) -> str:
        return " ".join(text.split())[: self.context * _LETTERS]

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer.encode([text])[0][: self.context]


def _partner(items: Sequence[Pair], row: int, start: int) -> Pair | None:
    """The first sample from ``start`` on, around the batch, that can lend this row its second sentence."""
    own = items[row]
    for step in range(len(items)):
        pair = items[(start + step) % len(items)]
        fits = pair.second and pair.halves == own.halves and pair.second != own.second
        if fits and own.captions.isdisjoint(pair.captions):
            return pair
    return None


def _fitting(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both, shortened at their ends, always the longer one, to ``room`` tokens together."""
    a, b = len(first), len(second)
    while a + b > room:
        a, b = (a - 1, b) if a > b else (a, b - 1)
    return first[:a], second[:b]
