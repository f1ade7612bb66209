"""Parts of a shard set: a split by its name, or the samples whose metadata has a certain value."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.shards.manifest import Manifest
from mmssl.stream import StreamConfig, scan
from mmssl.stream.batch import Batch
from mmssl.stream.sample import Sample
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws


@dataclass(frozen=True)
class Part:
    """What a stream reads, and which of its samples belong to the part."""

    config: StreamConfig
    samples: int
    ids: frozenset[int] | None = None
    """Ids over all sources of ``config``; None = all."""

    def view(self, view: View) -> View:
        """The view, of the part's samples only: nothing of the others is decoded."""
        return view if self.ids is None else Chosen(view, self.ids)

    def own(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Batches seen through ``view``, with the rows of the part's samples only."""
        for batch in batches:
            if self.ids is None:
                yield batch
            elif rows := [row for row, id_ in enumerate(batch.id.tolist()) if id_ in self.ids]:
                yield Batch(
                    batch,
                    id=batch.id[rows],
                    pass_=batch.pass_[rows],
                    key=[batch.key[row] for row in rows],
                    label={name: values[rows] for name, values in batch.label.items()},
                )


def find_part(manifest: Manifest, config: StreamConfig, name: str) -> Part:
    """The split ``name``, or with ``KEY=VALUE`` all samples, of any split, whose metadata says so.

    One shard set of UCF101 serves all official splits with ``official.2=train`` and ``official.2=test``:
    a dot leads into a mapping. Ids of such a part count on from split to split.

    Raises:
        MmsslError: there is no such split, or no sample with that value.
    """
    source = config.sources[0]
    key, equals, value = name.partition("=")
    if name in manifest.splits or not equals:
        sources: tuple[Any, ...] = (source.model_copy(update={"split": name}),)
        return Part(config.model_copy(update={"sources": sources}), manifest.split(name).samples)
    sources = tuple(source.model_copy(update={"split": split}) for split in manifest.splits)
    config = config.model_copy(update={"sources": sources})
    wanted = {MetaValue.number(value)}
    with suppress(ValueError):  # 3 and true, too, as they stand in the metadata
        wanted.add(MetaValue.number(json.loads(value)))
    ids: set[int] = set()
    for batch in scan(config, {"value": MetaValue(key)}, batch_size=1024):
        pairs = zip(batch.id.tolist(), batch.value.tolist(), strict=True)
        ids.update(id_ for id_, number in pairs if number in wanted)
    if not ids:
        raise MmsslError(f"shard set {manifest.name!r}: {name}: no sample's metadata says so; expected some")
    return Part(config, len(ids), frozenset(ids))


class Chosen(View):
    """Another view, of a few samples only: a batch has rows for those of its samples that are in ``ids``."""

    def __init__(self, view: View, ids: Iterable[int]) -> None:
        self.view, self.ids = view, frozenset(ids)
        self.fields, self.optional = view.fields, view.optional

    def read(self, sample: Sample, draws: Draws) -> Any:
        return self.view.read(sample, draws) if sample.id in self.ids else None

    def prepare(self, items: Sequence[Any], draws: Draws) -> Tensor | dict[str, Tensor]:
        rows = [row for row, item in enumerate(items) if item is not None]
        if not rows:
            return torch.empty(0, 1)
        chosen = draws.rows(rows)
        return self.view.finish(self.view.prepare([items[row] for row in rows], chosen), chosen)

    def finish(self, x: Any, draws: Draws) -> Tensor | dict[str, Tensor]:
        return x


class MetaValue(View):
    """One value of the metadata as a number, the same for equal values: (B,) int64; -1 where there is none.

    Args:
        name: of the value; dots lead into mappings.
    """

    fields = ("meta",)

    def __init__(self, name: str) -> None:
        self.name = name

    @staticmethod
    def number(value: Any) -> int:
        """Of a value as it stands in JSON."""
        text = json.dumps(value, sort_keys=True).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")

    def read(self, sample: Sample, draws: Draws) -> int:
        value = sample["meta"]
        for part in self.name.split("."):
            if not isinstance(value, dict) or part not in value:
                return -1
            value = value[part]
        return self.number(value)

    def prepare(self, items: Sequence[int], draws: Draws) -> Tensor:
        return torch.tensor(items, dtype=torch.int64)

    def finish(self, x: Any, draws: Draws) -> Tensor:
        return x
