"""What every raw layout gives the builder: items that are cheap to list, and samples loaded from them."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.shards.bad_input import BadInput as BadInput
from mmssl.shards.writer import RawSample


@dataclass(frozen=True)
class Item:
    """One unit of work of a worker; it becomes one sample or a few."""

    key: str
    """Unique in its split."""
    path: str
    """Where it came from, for messages."""
    bytes: int
    """Roughly what it will take in a shard; decides where shards are cut, so it is known before loading."""
    data: Any = None
    """Whatever ``load`` needs; small and picklable."""


@dataclass(frozen=True)
class Listing:
    """Everything a source has, in a sorted, repeatable order."""

    splits: dict[str, list[Item]]
    classes: dict[str, list[str]]
    missing: dict[str, list[str]] = field(default_factory=dict)
    """Split to the inputs that an official list names but that are not there: they are told, never sought."""


class Source(Config):
    """A raw layout: its configuration, how to list it, how to load an item. Sent to worker processes."""

    kind: str

    @abstractmethod
    def list_items(self) -> Listing:
        """Look at names and sizes only, never at contents.

        Raises:
            MmsslError: a folder, file or column that the configuration names is missing, or a split is empty.
        """

    @abstractmethod
    def load(self, item: Item) -> Iterable[RawSample]:
        """Read one item and encode its samples.

        Raises:
            BadInput: the item is damaged or not what its name says.
        """


class HoldOut(Config):
    """Move a share of one split's items to a new split, chosen by a hash of their keys."""

    split: str = "val"
    """The new split."""
    of: str = "train"
    """The split that gives its items away."""
    share: float = Field(gt=0, lt=1)
    """0..1; met on average, as each item is drawn on its own, so that adding items moves no others."""

    def apply(self, splits: dict[str, list[Item]]) -> dict[str, list[Item]]:
        """The splits with the new one added."""
        if self.of not in splits:
            raise MmsslError(f"holdout.of: no split {self.of!r}; expected one of {', '.join(splits)}")
        if self.split in splits:
            raise MmsslError(f"holdout.split: {self.split!r} exists already; expected a new name")
        chosen = [item for item in splits[self.of] if hash01("holdout", item.key) < self.share]
        names = {item.key for item in chosen}
        kept = [item for item in splits[self.of] if item.key not in names]
        return {**splits, self.of: kept, self.split: chosen}


def hash01(*words: str) -> float:
    """A number in [0, 1) that depends on the words alone, on every machine and in every version of numpy."""
    digest = hashlib.blake2b("\0".join(words).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def unique_keys(keys: Sequence[str]) -> list[str]:
    """The keys, with ``-2``, ``-3`` … appended to repeated ones (``a.jpg`` beside ``a.png``)."""
    taken = set(keys)
    seen: set[str] = set()
    result = []
    for key in keys:
        candidate, count = key, 1
        while candidate in seen or (count > 1 and candidate in taken):
            count += 1
            candidate = f"{key}-{count}"
        seen.add(candidate)
        result.append(candidate)
    return result


def to_json(content: Any) -> bytes:
    """Compact JSON with sorted keys; refuses NaN, which JSON does not have."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def refuse_empty(splits: dict[str, list[Item]], root: str) -> None:
    """Raise MmsslError naming the first split without items."""
    for name, items in splits.items():
        if not items:
            raise MmsslError(f"{root}: split {name!r} is empty; expected at least one input")
