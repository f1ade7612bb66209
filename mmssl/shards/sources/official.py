"""What the benchmarks of action recognition share: official lists of videos, some of which are lost."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards.captions import caption_member
from mmssl.shards.sources.base import Item, Listing, Source, refuse_empty, to_json, unique_keys
from mmssl.shards.sources.files import open_files
from mmssl.shards.sources.videos import EXTENSIONS, Members, file_samples
from mmssl.shards.video import VideoOptions
from mmssl.shards.writer import RawSample, safe_key


class Listed(NamedTuple):
    """One line of an official list."""

    name: str
    """Of the file, without extension."""
    label: int | None
    """Class index."""
    captions: tuple[str, ...]
    meta: dict[str, Any]


class OfficialVideos(Source, VideoOptions):
    """Videos by the names in official lists. A name is sought by its stem, in whatever folder and container,
    because people keep them in class folders, in split folders or flat, and as AVI, MP4 or WebM."""

    root: str
    """A folder or zip archive with the videos, in any folders."""
    max_missing_share: float = Field(default=0.01, ge=0, le=1)
    """Listed videos that are not there go to missing.txt; a larger share of a split stops the build."""

    def found(self, splits: dict[str, Iterable[Listed]], classes: list[str]) -> Listing:
        """The listing of those that are there.

        Raises:
            MmsslError: a name on a list twice, a stem that two files have, too many missing, an empty split.
        """
        files = self._by_stem()
        items: dict[str, list[Item]] = {}
        missing: dict[str, list[str]] = {}
        for split, rows in splits.items():
            listed = sorted(rows, key=lambda row: row.name)
            keys = unique_keys([safe_key(row.name) for row in listed])
            items[split], missing[split] = [], []
            for key, row in zip(keys, listed, strict=True):
                if row.name in files:
                    (path, size), *more = files[row.name]
                    if more:
                        raise MmsslError(f"{self.root}: {path!r} and {more[0][0]!r}: expected one of them")
                    items[split].append(Item(key, path, size, (row.label, row.captions, row.meta)))
                else:
                    missing[split].append(row.name)
            self._refuse_too_many(split, missing[split], len(listed))
        refuse_empty(items, self.root)
        return Listing(items, {"class": classes}, {split: names for split, names in missing.items() if names})

    def _by_stem(self) -> dict[str, list[tuple[str, int]]]:
        files: dict[str, list[tuple[str, int]]] = {}
        for path, size in open_files(self.root).list():
            stem, _, extension = path.rpartition("/")[2].rpartition(".")
            if extension.lower() in EXTENSIONS:
                files.setdefault(stem, []).append((path, size))
        return files

    def _refuse_too_many(self, split: str, missing: list[str], listed: int) -> None:
        if len(missing) > self.max_missing_share * listed:
            names = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
            raise MmsslError(
                f"{self.root}: {len(missing)} of {listed} videos of split {split!r} are missing, more than "
                f"max_missing_share {self.max_missing_share:g} allows: {names}"
            )

    def load(self, item: Item) -> Iterator[RawSample]:
        label, captions, meta = item.data
        members: Members = {}
        if label is not None:
            members["label.json"] = to_json({"class": label})
        if captions:
            members |= caption_member(captions)
        yield from file_samples(self.root, item.path, item.key, self, meta, members)


def stem(name: str) -> str:
    """``Archery/v_Archery_g01_c01.avi`` to ``v_Archery_g01_c01``."""
    return name.rpartition("/")[2].rpartition(".")[0] or name


def refuse_repeated(rows: Iterable[str], where: str) -> None:
    """Raise MmsslError naming the first name that a list has twice."""
    seen: set[str] = set()
    for name in rows:
        if name in seen:
            raise MmsslError(f"{where}: {name!r} is listed twice")
        seen.add(name)
