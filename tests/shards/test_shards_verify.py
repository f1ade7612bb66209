"""Every kind of damage is found, and named by shard, key and field."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from tiny_shards import Recipe

from mmssl.errors import MmsslError
from mmssl.shards.build import build_shards
from mmssl.shards.index import ShardIndex
from mmssl.shards.manifest import load_manifest
from mmssl.shards.verify import verify


@pytest.fixture
def shards(recipe: Recipe, tmp_path: Path) -> Path:
    build_shards(recipe(), tmp_path / "shards")
    return tmp_path / "shards"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def test_a_flipped_byte_is_named(shards: Path) -> None:
    index = ShardIndex.load(shards / "train/000001.index")
    column = index.columns.index("image.jpg")
    flip(shards / "train/000001.tar", int(index.offset[3, column]) + 10)
    problems = verify(shards)
    assert [(p.shard, p.key, p.field) for p in problems] == [("train/000001.tar", index.keys[3], "image")]
    assert "checksum" in problems[0].reason


def test_every_byte_of_a_shard_is_covered(shards: Path) -> None:
    tar = shards / "val/000000.tar"
    whole = tar.read_bytes()
    for at in range(0, len(whole), 61):
        flip(tar, at)
        assert verify(shards), f"byte {at} of {len(whole)}"
        tar.write_bytes(whole)
    assert verify(shards) == []


def test_missing_and_truncated_shards(shards: Path) -> None:
    (shards / "train/000000.tar").unlink()
    data = (shards / "train/000002.tar").read_bytes()
    (shards / "train/000002.tar").write_bytes(data[: len(data) // 2])
    problems = verify(shards)
    assert [p.reason for p in problems if p.shard == "train/000000.tar"] == ["missing"]
    reasons = [p.reason for p in problems if p.shard == "train/000002.tar"]
    assert "(truncated)" in reasons[0]
    assert any("beyond the end" in reason for reason in reasons)


def test_an_empty_file_in_place_of_a_shard(shards: Path) -> None:
    (shards / "train/000000.tar").write_bytes(b"")
    assert any("empty file" in p.reason for p in verify(shards))


def test_exchanged_tars(shards: Path) -> None:
    a, b = shards / "train/000000.tar", shards / "train/000001.tar"
    a.rename(shards / "x")
    b.rename(a)
    (shards / "x").rename(b)
    reasons = {p.shard: p.reason for p in verify(shards) if "exchanged" in p.reason}
    assert reasons == {
        "train/000000.tar": "holds the content of train/000001.tar (exchanged?)",
        "train/000001.tar": "holds the content of train/000000.tar (exchanged?)",
    }


def test_exchanged_tars_with_their_indexes(shards: Path) -> None:
    for suffix in ("tar", "index"):
        a, b = shards / f"train/000000.{suffix}", shards / f"train/000001.{suffix}"
        a.rename(shards / "x")
        b.rename(a)
        (shards / "x").rename(b)
    assert any("from id 5" in p.reason for p in verify(shards))


def test_an_index_that_disagrees(shards: Path) -> None:
    path = shards / "train/000000.index"
    index = ShardIndex.load(path)
    index.crc32[0, 0] ^= 1
    index.offset[1, 0] += 512
    index.save(path)
    problems = verify(shards)
    assert (index.keys[0], "image") in {(p.key, p.field) for p in problems}
    assert (index.keys[1], "image") in {(p.key, p.field) for p in problems}
    assert all(p.shard == "train/000000.tar" for p in problems)


def test_an_index_with_another_key(shards: Path) -> None:
    path = shards / "train/000000.index"
    index = ShardIndex.load(path)
    raw = bytearray(path.read_bytes())
    at = raw.find(index.keys[2].encode())
    raw[at] ^= 1
    path.write_bytes(raw)
    assert any("disagrees with the tar" in p.reason for p in verify(shards))


def test_missing_and_damaged_indexes(shards: Path) -> None:
    (shards / "train/000000.index").unlink()
    (shards / "train/000001.index").write_bytes(b"noise")
    found = {p.shard: p.reason for p in verify(shards)}
    assert "not readable" in found["train/000000.tar"]
    assert "not the index" in found["train/000001.tar"]


def test_duplicate_keys(shards: Path) -> None:
    for suffix in ("tar", "index"):
        shutil.copy(shards / f"train/000000.{suffix}", shards / f"train/000001.{suffix}")
    problems = [p for p in verify(shards) if "duplicate" in p.reason]
    assert len(problems) == 5
    assert problems[0].shard == "train/000001.tar"
    assert "train/000000.tar" in problems[0].reason


def test_dangerous_members_are_reported(shards: Path) -> None:
    with tarfile.open(shards / "val/000000.tar", "a") as tar:
        for name in ("../evil.jpg", "code.pkl"):
            tar.addfile(tarfile.TarInfo(name))
    reasons = " ".join(p.reason for p in verify(shards))
    assert "climbs out" in reasons
    assert "pickled" in reasons


def test_fields_that_do_not_decode(shards: Path) -> None:
    bad = ShardIndex.load(shards / "val/000000.index").keys[0]

    def decode(field: str, extension: str, data: bytes) -> None:
        if field == "label":
            json.loads(data)
        elif data == image:
            raise ValueError("no such picture")

    from mmssl.shards.local import LocalShards

    image = LocalShards(shards).sample("val", 0).members["image.jpg"]
    problems = verify(shards, decode=decode)
    assert [(p.shard, p.key, p.field) for p in problems] == [("val/000000.tar", bad, "image")]
    assert "no such picture" in problems[0].reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version: 2, expected 1"),
        ({"format": "other"}, "not the manifest"),
        ({"splits": 3}, "splits"),
        ({"colour": 1}, "colour: unknown key"),
    ],
)
def test_manifests_that_cannot_be_read(change: dict[str, object], message: str, shards: Path) -> None:
    content = json.loads((shards / "manifest.json").read_text())
    (shards / "manifest.json").write_text(json.dumps(content | change))
    with pytest.raises(MmsslError, match=message):
        load_manifest(shards)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("file", "../x.tar", "leads out"),
        ("index", "/etc/passwd", "leads out"),
        ("first_id", 3, "first_id 3, expected 0"),
        ("samples", 99, "first_id 5, expected 99"),
    ],
)
def test_manifests_that_contradict_themselves(key: str, value: object, message: str, shards: Path) -> None:
    content = json.loads((shards / "manifest.json").read_text())
    content["splits"]["train"]["shards"][0][key] = value
    (shards / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(MmsslError, match=message):
        load_manifest(shards)


def test_no_manifest_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(MmsslError, match="no such file; expected a shard set"):
        load_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"\xff{")
    with pytest.raises(MmsslError, match="not readable as JSON"):
        load_manifest(tmp_path)


def test_manifests_are_read_through_fsspec(shards: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/pets/manifest.json", (shards / "manifest.json").read_bytes())
    assert load_manifest("memory://pets") == load_manifest(shards)
