"""All sources of a stream behind one range of ids, with one table of classes."""

from collections.abc import Collection, Sequence

import numpy as np

from mmssl.errors import MmsslError
from mmssl.stream.config import Source, StreamConfig
from mmssl.stream.reader import ShardReader
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import usable


class Sources:
    """Samples of several shard sets; ids of source i start where those of source i - 1 end.

    Args:
        config: paths, cache and verification.
        sources: which splits, in id order.
        fields: what every sample must have.
        optional: what is read where it is there, besides labels and metadata.

    Raises:
        MmsslError: a shard set, split or field is missing, a tar's size is not what the manifest says, or
            the decoder of the configuration does not work on this machine.
    """

    def __init__(
        self,
        config: StreamConfig,
        sources: Sequence[Source],
        fields: Collection[str],
        optional: Collection[str] = (),
    ) -> None:
        reason = usable(config.decoder)
        if reason:
            raise MmsslError(f"decoder: {config.decoder} does not work on this machine: {reason}")
        self._decoder = config.decoder
        wanted = {*fields, *optional, "label", "meta"}
        self.readers = [
            ShardReader(source.shards, source.split, fields=wanted, folder=config.cache, verify=config.verify)
            for source in sources
        ]
        for reader in self.readers:
            _require(reader, fields)
            reader.check()
        self.first_ids = np.cumsum([0, *(reader.samples for reader in self.readers)]).tolist()
        self.classes = _merge_classes(self.readers)
        self._class_ids = [self._translation(reader) for reader in self.readers]

    @property
    def samples(self) -> int:
        return int(self.first_ids[-1])

    @property
    def fields(self) -> frozenset[str]:
        """Fields that every sample of every source has."""
        each = [
            {name for name, share in reader.manifest.fields.items() if share >= 1} for reader in self.readers
        ]
        return frozenset(set.intersection(*each))

    def sample(self, id_: int, pass_: int) -> Sample:
        """The sample with this id. See ``ShardReader.sample`` for what is raised."""
        source, first = self._source(id_)
        sample = self.readers[source].sample(id_ - first, pass_, first)
        sample.decoder = self._decoder
        return sample

    def where(self, id_: int) -> tuple[str, str]:
        """Shard and key."""
        source, first = self._source(id_)
        return self.readers[source].where(id_ - first)

    def labels(self, sample: Sample) -> dict[str, int]:
        """Class indices into ``classes`` for every label name; -1 where the sample has no such label.

        Raises:
            Unreadable: the label does not decode, or names a class that the manifest does not have.
        """
        labels = dict.fromkeys(self.classes, -1)
        if "label" not in sample:
            return labels
        translation = self._class_ids[self._source(sample.id)[0]]
        for name, index in sample["label"].items():
            table = translation.get(name)
            if table is None:
                if name in labels:  # no source lists this label's classes: the number stands for itself
                    labels[name] = index
            elif index < len(table):
                labels[name] = table[index]
            else:
                raise Unreadable("label", f"{name} = {index}; the manifest has {len(table)} classes")
        return labels

    def _source(self, id_: int) -> tuple[int, int]:
        source = next(i for i, end in enumerate(self.first_ids[1:]) if id_ < end)
        return source, self.first_ids[source]

    def _translation(self, reader: ShardReader) -> dict[str, list[int]]:
        """A source's class indices to those of the merged table."""
        return {
            name: [self.classes[name].index(item) for item in names]
            for name, names in _label_classes(reader).items()
            if names
        }


def _require(reader: ShardReader, fields: Collection[str]) -> None:
    for field in fields:
        if not reader.manifest.fields.get(field):
            known = ", ".join(sorted(reader.manifest.fields)) or "none"
            raise MmsslError(
                f"{reader.root}: no sample has the field {field!r} that is asked for; fields: {known}"
            )


def _label_classes(reader: ShardReader) -> dict[str, list[str]]:
    """The manifest's classes without those of a field's pixels (``segmentation``), which label no sample."""
    fields = reader.manifest.fields
    return {name: names for name, names in reader.manifest.classes.items() if name not in fields}


def _merge_classes(readers: Sequence[ShardReader]) -> dict[str, list[str]]:
    """Label name to class names, over all sources: a class that two of them share is one class."""
    merged: dict[str, list[str]] = {}
    for reader in readers:
        for name, names in _label_classes(reader).items():
            known = merged.setdefault(name, [])
            known.extend(dict.fromkeys(item for item in names if item not in set(known)))
        if not reader.manifest.classes and reader.manifest.fields.get("label"):
            merged.setdefault("class", [])  # what the ``cls`` member of other people's tars decodes to
    return merged
