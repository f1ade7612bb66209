"""Texts to tokens: open_clip's byte pairs, or WordPieces that were trained on a shard set's own captions."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
import torch
from open_clip.tokenizer import SimpleTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.files import write_bytes

FILE = "tokenizer.json"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Of WordPieces, in the order of their numbers: what BERT calls them (Devlin et al., NAACL 2019)."""


class Tokenizer(ABC):
    """Texts to numbers in 0 .. ``vocabulary`` - 1, each text between ``start`` and ``end``."""

    vocabulary: int
    pad: int
    start: int
    end: int
    unknown: int | None = None
    """What stands for words that the vocabulary cannot spell; None where it can spell anything."""
    mask: int | None = None
    """What hides a token in masked language modelling."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, without start and end; as many as there are."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text that tokens spell, without start, end and padding."""

    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        """(n, context) int64: start, tokens, end, padding. A longer text loses its last tokens."""
        rows = torch.full((len(texts), context), self.pad, dtype=torch.int64)
        for row, tokens in zip(rows, self.encode(texts), strict=True):
            kept = [self.start, *tokens[: context - 2], self.end]
            row[: len(kept)] = torch.tensor(kept)
        return rows


class BytePairs(Tokenizer):
    """CLIP's vocabulary of 49408 byte pairs; lower case, and every text can be spelt."""

    def __init__(self) -> None:
        self._inner = SimpleTokenizer()
        self.vocabulary = int(self._inner.vocab_size)
        self.pad, self.start, self.end = 0, self._inner.sot_token_id, self._inner.eot_token_id

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._inner.encode(text) for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        words = [token for token in tokens if token not in (self.pad, self.start, self.end)]
        return str(self._inner.decode(words)).strip()


class WordPieces(Tokenizer):
    """A WordPiece vocabulary in a file that the tokenizers library, and so transformers, reads."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        self.vocabulary = inner.get_vocab_size()
        self.pad, self.unknown, self.start, self.end, self.mask = range(len(SPECIAL))

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int) -> "WordPieces":
        """Learn at most ``vocabulary`` pieces, those of ``SPECIAL`` among them, from lower-cased texts."""
        inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        inner.normalizer = normalizers.BertNormalizer(lowercase=True)
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inner.decoder = decoders.WordPiece()
        inner.train_from_iterator(
            texts,
            trainers.WordPieceTrainer(
                vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
            ),
        )
        return cls(inner)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._inner.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._inner.decode(list(tokens)))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        write_bytes(folder / FILE, self._inner.to_str(pretty=True).encode())


def load_tokenizer(name: str | Path) -> Tokenizer:
    """``clip``, or a ``tokenizer.json`` or a folder that has one.

    Raises:
        MmsslError: there is none, or it is not a WordPiece vocabulary with BERT's special tokens.
    """
    if name == "clip":
        return BytePairs()
    path = Path(name) / FILE if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise MmsslError(f"{path}: no such file; expected 'clip' or a {FILE} as a tokenizer stage leaves it")
    try:
        inner = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise MmsslError(f"{path}: not a tokenizer: {error}") from error
    if [inner.token_to_id(token) for token in SPECIAL] != list(range(len(SPECIAL))):
        raise MmsslError(f"{path}: expected {', '.join(SPECIAL)} as the first tokens, in this order")
    return WordPieces(inner)
