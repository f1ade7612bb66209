"""Walk one tar from front to back: what is in it, how members group into samples, and what is wrong."""

import hashlib
import mmap
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mmssl.errors import MmsslError
from mmssl.modalities import MODALITIES, split_member
from mmssl.shards.captions import read_captions
from mmssl.shards.tar import DamagedTar, Member, members

KNOWN_EXTENSIONS = frozenset(
    extension for modality in MODALITIES.values() for extension in modality.extensions
)


@dataclass(frozen=True)
class Problem:
    """Something wrong with a shard; ``key`` and ``field`` are empty where it concerns several samples."""

    shard: str
    reason: str
    key: str = ""
    field: str = ""

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.shard, self.key, self.field) if part)
        return f"{where}: {self.reason}"


@dataclass
class Scan:
    """The samples of a tar in its own order, and what was noticed on the way."""

    rows: list[tuple[str, dict[str, tuple[int, int, int]]]] = field(default_factory=list)
    """(key, {column: (offset, size, crc32)})."""
    problems: list[Problem] = field(default_factory=list)
    """The tar cannot be used as it is."""
    pickled: list[str] = field(default_factory=list)
    """Members left out because reading them would execute them."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Extensions that belong to no modality, with their numbers of members."""
    classes: int = 0
    """One more than the largest class index in ``.cls`` members."""
    tar_bytes: int = 0
    sha256: str = ""


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file as memory, read on demand.

    Raises:
        MmsslError: it is missing, unreadable or empty.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            yield memory
    except (OSError, ValueError) as error:  # an empty file cannot be mapped: ValueError
        reason = getattr(error, "strerror", None) or "empty file"
        raise MmsslError(f"{path}: {reason}; expected a tar") from error


def scan_tar(path: Path | str, shard: str | None = None) -> Scan:
    """Index one tar in one pass over its bytes; ``shard`` is what problems call it.

    A sample is a run of neighbouring members with the same key, as webdataset groups them. A key that comes
    back later, a dotted key, or two encodings of one field are problems: readers would group them wrongly.

    Raises:
        MmsslError: there is no such file, or it is empty.
    """
    path = Path(path)
    scan = _Scanner(shard or path.name)
    with mapped(path) as memory, open(path, "rb") as file:
        hashed = 0
        digest = hashlib.sha256()
        try:
            for member in members(file):
                with memoryview(memory)[member.offset : member.offset + member.size] as payload:
                    scan.take(member, payload)
                with memoryview(memory)[hashed : member.offset + member.size] as block:
                    digest.update(block)
                hashed = member.offset + member.size
        except DamagedTar as error:
            scan.problem(str(error), scan.key)
        with memoryview(memory)[hashed:] as rest:
            digest.update(rest)
        scan.result.tar_bytes = len(memory)
    scan.result.sha256 = digest.hexdigest()
    return scan.result


class _Scanner:
    """Groups members into samples."""

    def __init__(self, shard: str) -> None:
        self.shard = shard
        self.result = Scan()
        self.key = ""
        self._seen: set[str] = set()

    def problem(self, reason: str, key: str = "", field_: str = "") -> None:
        self.result.problems.append(Problem(self.shard, reason, key, field_))

    def take(self, member: Member, payload: memoryview) -> None:
        if member.danger.startswith("pickled"):
            self.result.pickled.append(member.name)
            return
        if member.danger:
            self.problem(f"member {member.name!r}: {member.danger}; refused")
            return
        extension = member.name.rpartition("/")[2].rpartition(".")[2].lower()
        if extension not in KNOWN_EXTENSIONS and extension != "cls":
            self.result.ignored[extension] += 1
            return
        try:
            key, name, extension = split_member(member.name)
        except MmsslError as error:
            if "belongs to no known modality" in str(error):
                self.result.ignored[extension] += 1
            else:
                self.problem(str(error))
            return
        self._add(key, name, extension, member, payload)

    def _add(self, key: str, name: str, extension: str, member: Member, payload: memoryview) -> None:
        rows = self.result.rows
        if not rows or key != self.key:
            if key in self._seen:
                self.problem("key comes back after other samples (interleaved or duplicate)", key, name)
                return
            self._seen.add(key)
            self.key = key
            rows.append((key, {}))
        fields = rows[-1][1]
        if name == "caption" and fields.get("caption.json") == fields.get("meta.json"):
            fields.pop("caption.json", None)  # a text of its own counts more than what the JSON repeats
        if any(column.partition(".")[0] == name for column in fields):
            self.problem(f"member {member.name!r}: the sample has this field already", key, name)
            return
        fields[f"{name}.{extension}"] = (member.offset, member.size, zlib.crc32(payload))
        if extension == "cls":
            self._count_class(key, payload)
        alone = not any(column.startswith("caption.") for column in fields)
        if member.name == f"{key}.json" and alone and _has_caption(payload):
            fields["caption.json"] = fields["meta.json"]

    def _count_class(self, key: str, payload: memoryview) -> None:
        text = bytes(payload[:20]).strip()
        if text.isdigit() and len(text) <= 9:
            self.result.classes = max(self.result.classes, int(text) + 1)
        else:
            self.problem(f"class {text!r}; expected an integer of 0 or more", key, "label")


def _has_caption(payload: memoryview) -> bool:
    """Whether the JSON that image-text sets keep beside an image holds its caption."""
    try:
        return bool(read_captions(payload, "json"))
    except ValueError:
        return False
