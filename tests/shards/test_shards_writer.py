"""Shards on disk: read by webdataset and tarfile, indexed exactly, whole or absent."""

import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.errors import MmsslError
from mmssl.shards.index import ShardIndex
from mmssl.shards.writer import RawSample, safe_key, write_shard

KEY = st.from_regex(r"[A-Za-z0-9_ü-]{1,20}(/[A-Za-z0-9_-]{1,20}){0,2}", fullmatch=True)
MEMBERS = st.dictionaries(
    st.sampled_from(["image.jpg", "image.png", "depth.png", "label.json", "flow_backward.png"]),
    st.binary(max_size=1200),
    min_size=1,
)


def samples(count: int = 7) -> list[RawSample]:
    return [
        RawSample(
            f"d/k{number}", {"image.jpg": bytes([number]) * (300 * number), "label.json": b'{"class":1}'}
        )
        for number in range(count)
    ]


@given(rows=st.dictionaries(KEY, MEMBERS, max_size=6))
@settings(max_examples=40)
def test_index_and_tar_agree_with_tarfile(
    rows: dict[str, dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.tar"
    written = write_shard(path, [RawSample(key, fields) for key, fields in rows.items()])
    index = ShardIndex.from_bytes(written.index.to_bytes())
    assert index.keys == list(rows)
    assert index.tar_bytes == path.stat().st_size
    with tarfile.open(path) as tar:
        places = {info.name: (info.offset_data, info.size) for info in tar.getmembers()}
    found = {
        f"{key}.{column}": (int(index.offset[row, at]), int(index.size[row, at]))
        for row, key in enumerate(index.keys)
        for at, column in enumerate(index.columns)
        if index.offset[row, at] >= 0
    }
    assert found == places
    for row, (_key, fields) in enumerate(rows.items()):
        for column, data in fields.items():
            assert index.crc32[row, index.columns.index(column)] == zlib.crc32(data)


def test_webdataset_reads_our_tars(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_shard(path, samples())
    read = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in samples()]
    for theirs, ours in zip(read, samples(), strict=True):
        assert {name: data for name, data in theirs.items() if not name.startswith("__")} == ours.members


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_shard(tmp_path / "a.tar", samples())
    second = write_shard(tmp_path / "b.tar", samples())
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert first.index.to_bytes() == second.index.to_bytes()
    assert first.sha256 == second.sha256


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (RawSample("a.v1", {"image.jpg": b""}), "would be grouped wrongly"),
        (RawSample("../a", {"image.jpg": b""}), "not a key"),
        (RawSample("/a", {"image.jpg": b""}), "not a key"),
        (RawSample("a//b", {"image.jpg": b""}), "not a key"),
        (RawSample("", {"image.jpg": b""}), "expected <key>"),
        (RawSample("a", {"jpg": b""}), "not a key"),
        (RawSample("a", {"picture.jpg": b""}), "grouped wrongly"),
        (RawSample("a", {"image.pkl": b""}), "expected extension"),
        (RawSample("a", {}), "no fields"),
        (RawSample("d/k0", {"image.jpg": b""}), "occurs twice"),
    ],
)
def test_what_readers_would_misread_is_not_written(sample: RawSample, message: str, tmp_path: Path) -> None:
    with pytest.raises(MmsslError, match=message):
        write_shard(tmp_path / "a.tar", [*samples(2), sample])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on file sizes makes the system refuse to write, as it does on a full disk."""
    code = """
import resource, signal, sys
from mmssl.errors import MmsslError
from mmssl.shards.writer import RawSample, write_shard
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    write_shard(sys.argv[1], [RawSample(f"k{i}", {"image.jpg": bytes(9000)}) for i in range(9)])
except MmsslError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.tar")], capture_output=True, text=True, check=True
    )
    assert "a.tar: could not be written: File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_safe_keys_are_accepted_by_the_writer(tmp_path: Path) -> None:
    names = ["val/cat.v1", "a\\b", "..", "/x", "n..y/z"]
    write_shard(tmp_path / "a.tar", [RawSample(safe_key(name), {"image.jpg": b"1"}) for name in names])


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_damaged_index_is_refused(cut: int, tmp_path: Path) -> None:
    data = write_shard(tmp_path / "a.tar", samples()).index.to_bytes()
    with pytest.raises(MmsslError, match=r"x\.index: not the index of a shard"):
        ShardIndex.from_bytes(data[:cut], "x.index")


def test_an_index_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    index = write_shard(tmp_path / "a.tar", samples()).index
    index.offset[1, 0] = index.tar_bytes
    with pytest.raises(MmsslError, match="do not fit each other"):
        ShardIndex.from_bytes(index.to_bytes())


@given(st.integers(0, 5000), st.integers(1, 255))
def test_flipped_bytes_in_an_index_raise_or_are_harmless(at: int, flip: int) -> None:
    rows = [(f"k{number}", {"image.jpg": (512 * number, 10, number)}) for number in range(5)]
    data = bytearray(ShardIndex.build(rows, tar_bytes=9000).to_bytes())
    data[at % len(data)] ^= flip
    try:
        index = ShardIndex.from_bytes(bytes(data))
    except MmsslError:
        return
    inside = (index.offset + index.size <= index.tar_bytes) | (index.offset < 0)
    assert inside.all()
    assert len(index.keys) == len(index)


def test_an_empty_shard_is_possible(tmp_path: Path) -> None:
    index = ShardIndex.from_bytes(write_shard(tmp_path / "a.tar", []).index.to_bytes())
    assert (len(index), index.keys, index.columns) == (0, [], ())
    assert index.offset.shape == (0, 0)
    assert np.all(index.size >= 0)
