"""Texts to tokens: open_clip's byte pairs, or WordPieces that were trained on a shard set's own captions."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.files import read_json, write_bytes

FILE = "tokenizer.json"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Of WordPieces, as BERT calls them (Devlin et al., NAACL 2019); those learned here begin with them."""
LONGEST_WORD = 100
"""Characters; the library takes longer words for unknown."""


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
        from open_clip.tokenizer import SimpleTokenizer  # slow to import, and few runs need it

        self._inner = SimpleTokenizer()
        self.vocabulary = int(self._inner.vocab_size)
        self.pad, self.start, self.end = 0, self._inner.sot_token_id, self._inner.eot_token_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BytePairs)

    def __hash__(self) -> int:
        return hash(BytePairs)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._inner.encode(text) for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        words = [token for token in tokens if token not in (self.pad, self.start, self.end)]
        return str(self._inner.decode(words)).strip()


class WordPieces(Tokenizer):
    """A WordPiece vocabulary in a file that the tokenizers library, and so transformers, reads."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        numbers = inner.get_vocab()
        self.vocabulary = len(numbers)
        self.pad, self.unknown, self.start, self.end, self.mask = (numbers[token] for token in SPECIAL)

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int) -> "WordPieces":
        """Learn at most ``vocabulary`` pieces, those of ``SPECIAL`` among them, from lower-cased texts.

        The same texts give the same pieces under the same numbers. Of the characters, the most frequent get
        pieces, so many that half of the vocabulary is left for longer ones; others are unknown.
        """
        words = _count_words(texts)
        characters: Counter[str] = Counter()
        for word, count in words.items():
            for character in word:
                characters[character] += count
        ranked = sorted(characters, key=lambda character: (-characters[character], character))
        alphabet = set(ranked[: max(1, (vocabulary - len(SPECIAL)) // 4)])
        # The trainer numbers pieces inside of words as it meets them, in the order of a hash table that is
        # another one in every process, and breaks ties by number; named as special they are numbered before.
        inside = sorted({f"##{character}" for word in words for character in word[1:]})
        known = [piece for piece in inside if piece[2:] in alphabet]
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            special_tokens=[*SPECIAL, *known],
            initial_alphabet=sorted(alphabet),
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        learner = _bare(models.WordPiece(unk_token="[UNK]"))
        learner.train_from_iterator(_repeated(words), trainer)
        return cls(_bare(models.WordPiece(learner.get_vocab(), unk_token="[UNK]")))

    def __eq__(self, other: object) -> bool:
        """Whether the same texts become the same numbers."""
        return isinstance(other, WordPieces) and self._spelling == other._spelling

    def __hash__(self) -> int:
        return hash(self._spelling)

    @property
    def _spelling(self) -> str:
        """All that decides about numbers; start and end are added by other code than the library's here."""
        content = json.loads(self._inner.to_str())
        return json.dumps({key: content[key] for key in content if key != "post_processor"}, sort_keys=True)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._inner.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._inner.decode(list(tokens)))

    def save(self, folder: Path, name: str = FILE) -> None:
        """Write it to ``folder``; under its own name ``folder`` itself can then be named as the tokenizer."""
        write_bytes(folder / name, self._inner.to_str(pretty=True).encode())


def tokenizer_beside(weights: Path) -> Tokenizer:
    """The tokenizer in a folder of weights; CLIP's own, in transformers' form, is known by its vocabulary.

    Raises:
        MmsslError: as ``load_tokenizer``.
    """
    content = read_json(weights / FILE, "a tokenizer")
    numbers = content.get("model", {}).get("vocab", {}) if isinstance(content, dict) else {}
    if isinstance(numbers, dict) and numbers.get("<|startoftext|>") == 49406 and len(numbers) == 49408:
        return BytePairs()
    return load_tokenizer(weights)


def beside(folder: Path, name: str) -> str:
    """A tokenizer that was saved in ``folder``, under the name that the configuration there has for it."""
    return name if name == "clip" else str(folder / name)


def _bare(model: models.WordPiece) -> tokenizers.Tokenizer:
    """A tokenizer of lower-cased words that ends no text and begins none."""
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.add_special_tokens(list(SPECIAL))
    return inner


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, of those that are not too long for WordPieces."""
    normaliser, cutter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in cutter.pre_tokenize_str(normaliser.normalize_str(text)))
    return Counter({word: count for word, count in words.items() if len(word) <= LONGEST_WORD})


def _repeated(words: Counter[str]) -> Iterator[str]:
    """Texts that have every word as often as it was counted, none of them long."""
    for word, count in words.items():
        for start in range(0, count, 1000):
            yield " ".join([word] * min(1000, count - start))


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
    if lacking := [token for token in SPECIAL if inner.token_to_id(token) is None]:
        raise MmsslError(
            f"{path}: expected BERT's {', '.join(SPECIAL)} among the tokens; {lacking[0]} is not"
        )
    return WordPieces(inner)
