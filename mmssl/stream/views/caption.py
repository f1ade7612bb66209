"""A sample's captions as tokens: one drawn of several, the first, or all of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws

if TYPE_CHECKING:  # the stream needs no models
    from mmssl.models.text.tokenizer import Tokenizer

_LETTERS = 16
"""Characters for each token of the context that are looked at: more than any language's words need, and
little enough that a web page in the place of a caption costs no time."""


@dataclass(frozen=True)
class Words:
    """One caption, as ``read`` hands it on."""

    number: int
    """Its place among the sample's captions."""
    tokens: list[int]
    """Without start and end, at most context - 2."""
    cut: bool
    """Whether there was more."""
    unknown: float
    """Share, 0..1, of the tokens that stand for what the vocabulary cannot spell."""

    @property
    def same(self) -> int:
        """Equal for texts that are the same to the model: hash of the tokens, 0 .. 2**63 - 1."""
        digest = hashlib.blake2b(repr(self.tokens).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1


class CaptionView(View):
    """One caption a sample, as a dict:

    - ``tokens`` (B, context) int64;
    - ``which`` (B,) int64: its number among the sample's captions;
    - ``same`` (B,) int64: equal for texts that no model can tell apart, because their tokens are equal;
      such captions of different samples are not each other's negatives;
    - ``cut`` (B,) bool: it was longer than the context;
    - ``unknown`` (B,) float32: share of tokens that stand for what the vocabulary cannot spell.

    ``choose="all"`` gives every caption, padded to the most that a sample of the batch has: (B, most,
    context) and (B, most), and ``count`` (B,) int64. Padding has ``which`` and ``same`` -1.

    Captions without any token, or of unknown ones only, are passed over; a sample that has no others is
    unreadable: it is replaced, counted and named.

    Args:
        tokenizer: words to numbers.
        context: tokens of a row, start and end among them.
        field: where the captions are.
        choose: ``draw`` one by (seed, sample, pass), each as likely; the ``first``; or ``all``.

    Raises:
        MmsslError: a context without room for a word.
    """

    def __init__(
        self,
        tokenizer: "Tokenizer",
        context: int,
        field: str = "caption",
        choose: Literal["draw", "first", "all"] = "draw",
    ) -> None:
        if context < 3:
            raise MmsslError(f"captions: context {context}; expected at least 3: start, a word and end")
        self.tokenizer = tokenizer
        self.context = context
        self.fields = (field,)
        self.choose = choose

    def read(self, sample: Sample, draws: Draws) -> list[Words]:
        """The captions that were chosen, at least one.

        Raises:
            Unreadable: no captions, or none with a word that the vocabulary can spell.
        """
        (field,) = self.fields
        texts: list[str] = sample[field]
        order = list(range(len(texts)))
        if self.choose == "draw" and len(texts) > 1:
            # The first usable one of a random order: each of the usable ones is as likely.
            order = draws.permutation("caption", len(texts))[0].tolist()
        found = []
        for number in order:
            words = self._words(number, texts[number])
            if words.tokens and words.unknown < 1:
                found.append(words)
                if self.choose != "all":
                    break
        if not found:
            raise Unreadable(field, f"no word that the tokenizer knows in {_shown(texts)}")
        return found

    def prepare(self, items: Sequence[list[Words]], draws: Draws) -> dict[str, Tensor]:
        """B lists of captions to the entries above."""
        most = max(map(len, items))
        shape = (len(items), most)
        entry = {
            "tokens": torch.full((*shape, self.context), self.tokenizer.pad, dtype=torch.int64),
            "which": torch.full(shape, -1, dtype=torch.int64),
            "same": torch.full(shape, -1, dtype=torch.int64),
            "cut": torch.zeros(shape, dtype=torch.bool),
            "unknown": torch.zeros(shape),
        }
        for row, captions in enumerate(items):
            for at, words in enumerate(captions):
                kept = [self.tokenizer.start, *words.tokens, self.tokenizer.end]
                entry["tokens"][row, at, : len(kept)] = torch.tensor(kept)
                entry["which"][row, at] = words.number
                entry["same"][row, at] = words.same
                entry["cut"][row, at] = words.cut
                entry["unknown"][row, at] = words.unknown
        if self.choose != "all":
            return {name: value[:, 0] for name, value in entry.items()}
        return {**entry, "count": torch.tensor([len(captions) for captions in items])}

    def finish(self, x: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        """Nothing is left to do."""
        return x

    def _words(self, number: int, text: str) -> Words:
        room = self.context - 2
        text = " ".join(text.split())
        kept = text[: room * _LETTERS]
        tokens = self.tokenizer.encode([kept])[0]
        cut = len(tokens) > room or len(kept) < len(text)
        tokens = tokens[:room]
        unknown = sum(token == self.tokenizer.unknown for token in tokens) / max(len(tokens), 1)
        return Words(number, tokens, cut, unknown)


def _shown(texts: Sequence[str]) -> str:
    first = repr(texts[0][:40]) if texts else "an empty list"
    return first + (f" and {len(texts) - 1} more" if len(texts) > 1 else "")
