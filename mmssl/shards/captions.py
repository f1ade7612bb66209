"""Captions as shards hold them, and what a set of them is like: how many, how long, how often the same."""

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.shards.bad_input import BadInput
from mmssl.shards.index import ShardIndex
from mmssl.shards.manifest import Manifest

LONG = 1000
"""Characters beyond which a caption is counted as long: no context reads that much."""
LONGEST = 100_000
"""Characters beyond which a text is no caption."""
_SHOWN = 100


def caption_member(captions: Sequence[str]) -> dict[str, bytes]:
    """``caption.json``. Blank ones stay among others, so that captions keep the numbers they were given.

    Raises:
        BadInput: all of them are blank, or one is longer than ``LONGEST``.
    """
    texts = [caption.strip() for caption in captions]
    if not any(texts):
        raise BadInput(f"no caption: all {len(texts)} are empty" if texts else "no caption")
    longest = max(map(len, texts))
    if longest > LONGEST:
        raise BadInput(f"a caption of {longest} characters; expected at most {LONGEST}")
    return {"caption.json": json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode()}


def read_captions(data: bytes | memoryview, extension: str) -> list[str]:
    """The captions of a sample: a JSON list, the ``caption`` of a JSON object (as image-text sets keep it
    beside an image), or a text that is one caption.

    Raises:
        ValueError: not UTF-8, not JSON, or no caption.
    """
    text = bytes(data).decode("utf-8")  # UnicodeDecodeError is a ValueError
    if extension == "txt":
        return [text.strip()]
    captions = json.loads(text)  # JSONDecodeError is a ValueError
    if isinstance(captions, dict):
        captions = captions.get("caption")
        captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not captions or not all(isinstance(item, str) for item in captions):
        raise ValueError("expected a list of at least one string")
    return captions


def caption_facts(root: Path | str, manifest: Manifest) -> dict[str, Any]:
    """What stands in the manifest about captions; empty where there are none.

    ``captions``; how many are ``blank`` or ``long``; samples whose captions are ``unreadable``; samples that
    ``shared`` a caption with another, white space and case aside; and of the caption that most samples share,
    ``most_shared``: ``samples`` and ``caption``, its beginning.
    """
    if not manifest.fields.get("caption"):
        return {}
    hashes, samples = array("Q"), array("Q")
    count = dict.fromkeys(("captions", "blank", "long", "unreadable"), 0)
    for sample, texts in _all_captions(Path(root), manifest):
        if texts is None:
            count["unreadable"] += 1
            continue
        count["captions"] += len(texts)
        count["blank"] += sum(not text.strip() for text in texts)
        count["long"] += sum(len(text) > LONG for text in texts)
        for own in {_hash(text) for text in texts if text.strip()}:
            hashes.append(own)
            samples.append(sample)
    facts: dict[str, Any] = dict(count)
    values, place, times = np.unique(
        np.frombuffer(hashes, np.uint64), return_inverse=True, return_counts=True
    )
    owners = np.frombuffer(samples, np.uint64)[times[place] > 1] if len(values) else np.empty(0)
    facts["shared"] = len(np.unique(owners))
    if facts["shared"]:
        most = int(values[times.argmax()])
        found = (text for _, texts in _all_captions(Path(root), manifest) for text in texts or ())
        caption = next(text for text in found if _hash(text) == most)
        facts["most_shared"] = {"samples": int(times.max()), "caption": caption[:_SHOWN]}
    return facts


def with_caption_facts(root: Path | str, manifest: Manifest) -> Manifest:
    """The manifest that says, under ``built.captions``, what ``caption_facts`` found."""
    facts = caption_facts(root, manifest)
    built = {**manifest.built, **({"captions": facts} if facts else {})}
    return manifest.model_copy(update={"built": built})


def describe_facts(facts: dict[str, Any], samples: int) -> str:
    """One line about ``caption_facts`` of a set of so many samples."""
    parts = [f"{facts['captions']:,} captions"]
    parts += [f"{facts[name]:,} {name}" for name in ("blank", "long", "unreadable") if facts[name]]
    if facts["shared"]:
        most = facts["most_shared"]
        parts.append(f"{facts['shared']:,} of {samples:,} samples share one with others")
        parts.append(f"{most['samples']:,} of them {most['caption']!r}")
    return ", ".join(parts)


def _all_captions(root: Path, manifest: Manifest) -> Iterator[tuple[int, list[str] | None]]:
    """(number of the sample in the set, its captions or None where they cannot be read), in id order."""
    before = 0
    for split in manifest.splits.values():
        for shard in split.shards:
            index = ShardIndex.load(root / shard.index)
            columns = [name.partition(".") for name in index.columns]
            with open(root / shard.file, "rb") as tar:
                for at, (field, _, extension) in enumerate(columns):
                    if field == "caption":
                        for row in np.flatnonzero(index.offset[:, at] >= 0).tolist():
                            tar.seek(int(index.offset[row, at]))
                            data = tar.read(int(index.size[row, at]))
                            yield before + row, _read_or_none(data, extension)
            before += len(index)


def _read_or_none(data: bytes, extension: str) -> list[str] | None:
    try:
        return read_captions(data, extension)
    except ValueError:
        return None


def _hash(text: str) -> int:
    plain = " ".join(text.split()).casefold()
    return int.from_bytes(hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).digest(), "big")
