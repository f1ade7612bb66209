"""A vocabulary learned from the captions of a shard set, and an account of what it makes of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.models.text.tokenizer import WordPieces
from mmssl.stream.config import FaultLimits
from mmssl.stream.quarantine import list_faults
from mmssl.stream.reader import ShardReader
from mmssl.stream.sample import Fault, Unreadable

ACCOUNT = "captions.json"


def make_tokenizer(shards: str, split: str, field: str, vocabulary: int, folder: Path) -> WordPieces:
    """Learn WordPieces from every caption of a split; write ``tokenizer.json`` and ``captions.json``.

    ``captions.json`` counts what was seen, and says how long captions are in tokens, [CLS] and [SEP] among
    them, so that a context can be chosen. The same captions give the same bytes.

    Raises:
        MmsslError: no shard set, split or field of that name, no caption with a word in it, or too many
            samples that cannot be read (as in a stream: one in twenty).
    """
    reader = ShardReader(shards, split, fields=(field,))
    if not reader.manifest.fields.get(field):
        known = ", ".join(sorted(reader.manifest.fields))
        raise MmsslError(f"{shards}: field: no sample has {field!r}; expected one of {known}")
    reader.check()
    account = _Account()
    texts = list(account.texts(reader, field))
    if not texts:
        raise MmsslError(f"{shards}: split {split!r}: every {field} is empty; expected words to learn from")
    tokenizer = WordPieces.train(texts, vocabulary)
    tokens = tokenizer.encode(texts)
    unknown = sum(row.count(tokenizer.unknown or 0) for row in tokens)
    lengths = np.array([len(row) + 2 for row in tokens])
    tokenizer.save(folder)
    files.write_json(
        folder / ACCOUNT,
        account.as_dict()
        | {
            "vocabulary": tokenizer.vocabulary,
            "tokens": int(lengths.sum() - 2 * len(tokens)),
            "unknown_tokens": unknown,
            "length": {
                "mean": round(float(lengths.mean()), 2),
                **{
                    f"quantile_{q}": int(np.quantile(lengths, q / 100, method="higher")) for q in (50, 95, 99)
                },
                "longest": int(lengths.max()),
            },
        },
    )
    return tokenizer


class _Account:
    """Counts of what was read."""

    def __init__(self) -> None:
        self.samples = self.captions = self.empty = 0
        self.faults: list[Fault] = []

    def texts(self, reader: ShardReader, field: str) -> Iterator[str]:
        """Every caption that is not empty, sample by sample."""
        limits = FaultLimits()
        for number in range(reader.samples):
            try:
                captions = reader.sample(number)[field]
            except Unreadable as error:
                self.faults.append(Fault(*reader.where(number), error.field, error.reason))
                continue
            self.samples += 1
            for caption in captions:
                self.captions += 1
                if caption.strip():
                    yield caption
                else:
                    self.empty += 1
        if len(self.faults) > limits.max_share * reader.samples:
            told = [
                f"stopped: {len(self.faults)} of {reader.samples} samples have no readable {field}; expected "
                f"at most {100 * limits.max_share:g} %:",
                *list_faults(self.faults),
            ]
            raise MmsslError("\n".join(told))

    def as_dict(self) -> dict[str, Any]:
        unreadable = [f"{fault.shard}: {fault.key}: {fault.reason}" for fault in self.faults]
        return {
            "samples": self.samples,
            "captions": self.captions,
            "empty": self.empty,
            "unreadable": unreadable,
        }
