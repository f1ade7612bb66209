"""Find out whether a shard set is what its manifest says, down to every byte of every field."""

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

from mmssl.errors import MmsslError
from mmssl.modalities import split_member
from mmssl.shards.index import ShardIndex
from mmssl.shards.manifest import Manifest, Shard, load_manifest
from mmssl.shards.scan import Problem, mapped
from mmssl.shards.tar import DamagedTar, Member, members

Decoder = Callable[[str, str, bytes], object]
"""(field, extension, bytes) to anything; raises what it likes when the bytes are no such thing."""


def verify(
    root: Path | str, *, decode: Decoder | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """Check every shard of a local shard set; an empty list means that all is well.

    With ``decode`` every field is decoded as well, which takes as long as reading the set for training.

    Raises:
        MmsslError: there is no readable manifest, or it is of another version.
    """
    root = Path(root)
    manifest = load_manifest(root)
    sums = {shard.sha256: shard.file for split in manifest.splits.values() for shard in split.shards}
    total = sum(len(split.shards) for split in manifest.splits.values())
    problems: list[Problem] = []
    done = 0
    for split in manifest.splits.values():
        seen: dict[str, str] = {}
        for shard in split.shards:
            problems += _verify_shard(root, shard, manifest, sums, seen, decode)
            done += 1
            if progress is not None:
                progress(done, total)
    return problems


def _verify_shard(
    root: Path,
    shard: Shard,
    manifest: Manifest,
    sums: dict[str, str],
    seen: dict[str, str],
    decode: Decoder | None,
) -> list[Problem]:
    tar = root / shard.file
    problems: list[Problem] = []

    def report(reason: str, key: str = "", field: str = "") -> None:
        problems.append(Problem(shard.file, reason, key, field))

    try:
        index = ShardIndex.load(root / shard.index)
    except MmsslError as error:
        report(str(error))
        return problems
    if (len(index), index.first_id, index.tar_bytes) != (shard.samples, shard.first_id, shard.bytes):
        report(
            f"its index {shard.index} holds {len(index)} samples from id {index.first_id} of a tar of "
            f"{index.tar_bytes} bytes; expected {shard.samples} from {shard.first_id} of {shard.bytes}"
        )
    for key in index.keys:
        if key in seen:
            report(f"duplicate key, also in {seen[key]}", key)
        seen[key] = shard.file
    if not tar.is_file():
        report("missing")
        return problems
    size = tar.stat().st_size
    if size != shard.bytes:
        report(f"{size} bytes, expected {shard.bytes}" + (" (truncated)" if size < shard.bytes else ""))
    try:
        with mapped(tar) as memory, memoryview(memory) as view:
            found = _walk(tar, report)
            before = len(problems)
            _compare(index, found, view, report, decode)
            digest = hashlib.sha256(view).hexdigest()
            if digest != shard.sha256:
                if digest in sums:
                    report(f"holds the content of {sums[digest]} (exchanged?)")
                elif len(problems) == before:
                    report("checksum of the whole tar differs, outside of its fields (a header or padding)")
    except MmsslError as error:
        report(str(error))
    return problems


def _walk(tar: Path, report: Callable[..., None]) -> dict[int, Member]:
    """Members by offset, as far as the headers can be followed; what is dangerous is reported."""
    found: dict[int, Member] = {}
    with open(tar, "rb") as file:
        try:
            for member in members(file):
                if member.danger:
                    report(f"member {member.name!r}: {member.danger}")
                else:
                    found[member.offset] = member
        except DamagedTar as error:
            report(str(error))
    return found


def _compare(
    index: ShardIndex,
    found: dict[int, Member],
    view: memoryview,
    report: Callable[..., None],
    decode: Decoder | None,
) -> None:
    """Every field of the index against the tar: bytes by checksum, name and size by header."""
    offset, size, crc32 = index.offset.tolist(), index.size.tolist(), index.crc32.tolist()
    for row, key in enumerate(index.keys):
        own = dict(zip(index.columns, zip(offset[row], size[row], strict=True), strict=True))
        for at, column in enumerate(index.columns):
            start, length = offset[row][at], size[row][at]
            if start < 0:
                continue
            field, _, extension = column.partition(".")
            if start + length > len(view):
                report("lies beyond the end of the tar", key, field)
                continue
            # Captions may lie in the JSON beside an image, which is its ``meta`` as well.
            within = column == "caption.json" and (start, length) == own.get("meta.json")
            member = found.get(start) if within else found.pop(start, None)
            if member is not None and not _is(member, key, "meta.json" if within else column, length):
                there = f"{member.name!r} of {member.size} bytes"
                report(f"the index disagrees with the tar, which has {there} at {start}", key, field)
                continue
            payload = view[start : start + length]
            if zlib.crc32(payload) != crc32[row][at]:
                report("checksum differs: its bytes have changed", key, field)
            elif member is None:
                report(f"the index disagrees with the tar, which has no member at byte {start}", key, field)
            elif decode is not None:
                try:
                    decode(field, extension, bytes(payload))
                except Exception as error:  # decoders raise whatever they like
                    report(f"does not decode ({type(error).__name__}: {error})", key, field)
            payload.release()
    for member in found.values():
        try:
            key, field, _ = split_member(member.name)
        except MmsslError:
            continue  # belongs to no modality: not ours, as in tars of others
        report(f"member {member.name!r} is not in the index", key, field)


def _is(member: Member, key: str, column: str, size: int) -> bool:
    try:
        found_key, field, extension = split_member(member.name)
    except MmsslError:
        return False
    return (found_key, f"{field}.{extension}", member.size) == (key, column, size)
