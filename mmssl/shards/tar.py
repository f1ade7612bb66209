"""The tar format, as far as shards need it: plain ustar headers out; ustar, GNU and PAX headers in.

Reading never extracts: it yields where each payload lies, and says what looks dangerous. Formats:
POSIX.1-1988 (ustar), POSIX.1-2001 (pax), and the GNU manual's "Basic Tar Format".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from mmssl.errors import MmsslError

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)
PICKLES = frozenset(("pkl", "pickle", "pyd", "pth", "pt", "joblib"))
"""Extensions whose usual readers execute what they read."""

_KINDS = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"6": "pipe",
    b"S": "sparse file",
}
_LONGEST_EXTENDED_HEADER = 1 << 20


class DamagedTar(Exception):
    """The archive cannot be followed beyond this point; the message names the byte offset."""


@dataclass(frozen=True)
class Member:
    """One regular file of an archive (or, where ``danger`` is set, something that must not be used)."""

    name: str
    offset: int
    """First byte of the payload in the archive."""
    size: int
    danger: str = ""
    """Why this member is not to be trusted; empty for an ordinary file."""


def padded(size: int) -> int:
    """Bytes that a payload of ``size`` bytes occupies."""
    return -(-size // BLOCK) * BLOCK


def header(name: str, size: int) -> bytes:
    """The 512-byte ustar header of a regular file; mode, owner and mtime are constants.

    Raises:
        MmsslError: the name fits neither the name field nor prefix + name, or the payload is 8 GiB or more.
    """
    if size >= 8 << 30:
        raise MmsslError(f"member {name!r}: {size} bytes; a member of a shard must be smaller than 8 GiB")
    prefix, base = _split_name(name)
    fields = [
        base.ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0",
        b"%011o\0" % size, b"00000000000\0", b" " * 8, b"0", bytes(100),
        b"ustar\x0000", bytes(64), b"0000000\0", b"0000000\0", prefix.ljust(155, b"\0"), bytes(12),
    ]  # fmt: skip
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split_name(name: str) -> tuple[bytes, bytes]:
    encoded = name.encode()
    if len(encoded) <= 100:
        return b"", encoded
    for cut in range(min(155, len(encoded) - 1), 0, -1):
        if encoded[cut : cut + 1] == b"/" and len(encoded) - cut - 1 <= 100:
            return encoded[:cut], encoded[cut + 1 :]
    raise MmsslError(
        f"member {name!r}: name too long; expected a folder of at most 155 and a name of at most 100 bytes"
    )


def members(file: IO[bytes]) -> Iterator[Member]:
    """Walk the headers of an uncompressed, seekable archive from its start; payloads are skipped, not read.

    Raises:
        DamagedTar: a bad checksum, a truncated member, or a missing end of archive.
    """
    end = file.seek(0, 2)
    at = 0
    long_name = ""
    pax: dict[str, str] = {}
    global_pax: dict[str, str] = {}
    while True:
        file.seek(at)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise DamagedTar(f"truncated at byte {end}: the end-of-archive mark is missing")
        if block == bytes(BLOCK):
            return
        _check(block, at)
        type_ = block[156:157]
        size = _number(block[124:136], at)
        offset = at + BLOCK
        if type_ in (b"L", b"x", b"g", b"K"):
            if size > _LONGEST_EXTENDED_HEADER:
                raise DamagedTar(f"extended header of {size} bytes at byte {at}")
            text = file.read(size)
            if len(text) < size:
                raise DamagedTar(f"truncated at byte {end}, inside an extended header")
            if type_ == b"L":
                long_name = text.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif type_ == b"x":
                pax = _pax(text, at)
            elif type_ == b"g":
                global_pax.update(_pax(text, at))
            at = offset + padded(size)
            continue
        attributes = {**global_pax, **pax}
        name = attributes.get("path") or long_name or _name(block)
        size = _pax_size(attributes, size, at)
        long_name, pax = "", {}
        # Links, devices and folders have no payload, whatever their size field says.
        payload = size if type_ in (b"0", b"\0", b"7", b"S") else 0
        if offset + payload > end:
            raise DamagedTar(f"truncated at byte {end}, inside member {name!r}")
        at = offset + padded(payload)
        if type_ == b"5" or (type_ == b"\0" and name.endswith("/")):
            continue
        yield Member(name, offset, payload, _danger(name, type_))


def _check(block: bytes, at: int) -> None:
    if at == 0 and block[:2] == b"\x1f\x8b":
        raise DamagedTar("gzip-compressed; decompress it first, a compressed tar cannot be read by offset")
    try:
        stated = int(block[148:156].strip(b"\0 ") or b"0", 8)
    except ValueError:
        stated = -1
    if stated != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        raise DamagedTar(f"not a tar header at byte {at}")


def _number(field: bytes, at: int) -> int:
    """Octal digits, or base 256 when the first bit is set (GNU, for sizes of 8 GiB and more)."""
    try:
        value = int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b"\0 ") or b"0", 8)
    except ValueError as error:
        raise DamagedTar(f"unreadable size in the header at byte {at}") from error
    if value < 0:
        raise DamagedTar(f"negative size in the header at byte {at}")
    return value


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0":  # GNU's own magic is "ustar ", and uses the prefix field for times
        prefix = block[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return name.decode("utf-8", "surrogateescape")


def _pax(text: bytes, at: int) -> dict[str, str]:
    """Records of the form ``LENGTH KEY=VALUE\\n``, where the length counts the whole record."""
    records: dict[str, str] = {}
    while text.strip(b"\0"):
        length, _, _ = text.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(text):
            raise DamagedTar(f"unreadable extended header at byte {at}")
        record, text = text[len(length) + 1 : int(length) - 1], text[int(length) :]
        key, _, value = record.partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return records


def _pax_size(attributes: dict[str, str], size: int, at: int) -> int:
    if "size" not in attributes:
        return size
    if not attributes["size"].isdigit():
        raise DamagedTar(f"unreadable size in the extended header before byte {at}")
    return int(attributes["size"])


def _danger(name: str, type_: bytes) -> str:
    path = PurePosixPath(name)
    if type_ not in (b"0", b"\0", b"7"):
        return _KINDS.get(type_, f"unknown member type {type_!r}")
    if path.is_absolute() or "\\" in name or (len(name) > 1 and name[1] == ":"):
        return "absolute name"
    if ".." in path.parts:
        return "name that climbs out of its folder"
    if "\0" in name:
        return "name with a null byte"
    if name.rpartition(".")[2].lower() in PICKLES:
        return "pickled member, which reading would execute"
    return ""
