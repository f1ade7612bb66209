"""Our tar headers against Python's tarfile, which is the independent implementation here."""

import gzip
import io
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.errors import MmsslError
from mmssl.shards.tar import END_OF_ARCHIVE, DamagedTar, header, members, padded

PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\\", exclude_categories=["Cs"]),
    min_size=1,
    max_size=30,
)
NAME = st.lists(PART, min_size=1, max_size=5).map("/".join)


def archive(entries: list[tuple[str, bytes]]) -> bytes:
    parts = [header(name, len(data)) + data + bytes(padded(len(data)) - len(data)) for name, data in entries]
    return b"".join(parts) + END_OF_ARCHIVE


def by_tarfile(entries: list[tarfile.TarInfo], format_: int, payload: bytes = b"abc") -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        for info in entries:
            info.size = len(payload) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(payload) if info.isreg() else None)
    return buffer


@given(st.lists(st.tuples(NAME, st.binary(max_size=1500)), max_size=6))
def test_tarfile_reads_what_we_write(entries: list[tuple[str, bytes]]) -> None:
    if any(len(name.encode()) > 100 for name, _ in entries):
        return
    data = archive(entries)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        infos = tar.getmembers()
        assert [info.name for info in infos] == [name.rstrip("/") for name, _ in entries]
        for info, (_, payload) in zip(infos, entries, strict=True):
            extracted = tar.extractfile(info)
            assert extracted is not None
            assert extracted.read() == payload
            assert (info.mtime, info.uid, info.gid, info.mode) == (0, 0, 0, 0o644)
        ours = list(members(io.BytesIO(data)))
        assert [(m.offset, m.size) for m in ours] == [(info.offset_data, info.size) for info in infos]


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_every_format_that_tarfile_writes(format_: int) -> None:
    names = ["a.jpg", "d/b.jpg", f"{'p' * 90}/{'q' * 80}.jpg"]
    if format_ != tarfile.USTAR_FORMAT:
        names += ["x" * 300 + ".jpg", "ünï/" + "ö" * 120 + ".jpg"]
    infos = [tarfile.TarInfo(name) for name in names]
    for info in infos:
        info.mtime = 1.5 if format_ == tarfile.PAX_FORMAT else 2
    buffer = by_tarfile(infos, format_)
    found = list(members(buffer))
    assert [member.name for member in found] == names
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        expected = [info.offset_data for info in tar.getmembers()]
    assert [member.offset for member in found] == expected


def test_folders_are_passed_over() -> None:
    folder = tarfile.TarInfo("d")
    folder.type = tarfile.DIRTYPE
    assert [
        m.name for m in members(by_tarfile([folder, tarfile.TarInfo("d/a.jpg")], tarfile.GNU_FORMAT))
    ] == ["d/a.jpg"]


@pytest.mark.parametrize(
    ("name", "type_", "danger"),
    [
        ("../a.jpg", tarfile.REGTYPE, "climbs out"),
        ("d/../../a.jpg", tarfile.REGTYPE, "climbs out"),
        ("/etc/a.jpg", tarfile.REGTYPE, "absolute"),
        ("C:/a.jpg", tarfile.REGTYPE, "absolute"),
        ("a.jpg", tarfile.SYMTYPE, "symbolic link"),
        ("a.jpg", tarfile.LNKTYPE, "hard link"),
        ("a.jpg", tarfile.CHRTYPE, "device"),
        ("a.jpg", tarfile.BLKTYPE, "device"),
        ("a.jpg", tarfile.FIFOTYPE, "pipe"),
        ("a.pkl", tarfile.REGTYPE, "pickled"),
        ("a.image.PYD", tarfile.REGTYPE, "pickled"),
        ("a.pth", tarfile.REGTYPE, "pickled"),
    ],
)
def test_dangerous_members_are_told(name: str, type_: bytes, danger: str) -> None:
    info = tarfile.TarInfo(name)
    info.type = type_
    info.linkname = "elsewhere"
    after = tarfile.TarInfo("z.jpg")
    found = list(members(by_tarfile([info, after], tarfile.GNU_FORMAT)))
    assert danger in found[0].danger
    assert (found[1].name, found[1].danger) == ("z.jpg", "")


def test_every_truncation_is_noticed() -> None:
    data = archive([("a.jpg", b"x" * 700), ("b.jpg", b"y" * 10)])
    ends = len(data) - len(END_OF_ARCHIVE)
    for length in range(0, ends + 512, 37):
        with pytest.raises(DamagedTar, match="truncated"):
            list(members(io.BytesIO(data[:length])))


def test_a_flipped_byte_in_a_header_is_noticed() -> None:
    data = bytearray(archive([("a.jpg", b"x" * 100), ("b.jpg", b"y")]))
    data[1024 + 20] ^= 1
    with pytest.raises(DamagedTar, match="not a tar header at byte 1024"):
        list(members(io.BytesIO(bytes(data))))


@given(st.binary(max_size=3000))
def test_noise_never_crashes_the_reader(data: bytes) -> None:
    with pytest.raises(DamagedTar):
        if not data.startswith(bytes(512)):
            list(members(io.BytesIO(data)))
        raise DamagedTar("an empty archive is no error")


@given(st.integers(0, 2047), st.integers(1, 255))
def test_damaged_archives_never_crash_the_reader(at: int, flip: int) -> None:
    infos = [tarfile.TarInfo("n" * 150 + ".jpg"), tarfile.TarInfo("b.jpg")]
    data = bytearray(by_tarfile(infos, tarfile.PAX_FORMAT).getvalue())
    data[at] ^= flip
    try:
        for member in members(io.BytesIO(bytes(data))):
            assert 0 <= member.offset <= member.offset + member.size <= len(data)
    except DamagedTar:
        pass


def test_compressed_tars_are_told_apart() -> None:
    with pytest.raises(DamagedTar, match="decompress"):
        list(members(io.BytesIO(gzip.compress(random.Random(0).randbytes(3000)))))


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MmsslError, match="too long"):
        header("a" * 101, 1)
    with pytest.raises(MmsslError, match="8 GiB"):
        header("a", 8 << 30)
