"""Indexing tars that others wrote."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import webdataset
from tiny_shards import picture

from mmssl.errors import MmsslError
from mmssl.shards.foreign import index_tars
from mmssl.shards.index import ShardIndex
from mmssl.shards.local import LocalShards
from mmssl.shards.manifest import load_manifest
from mmssl.shards.verify import verify


def write_tar(path: Path, entries: list[tuple[str, bytes]], format_: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(path, "w", format=format_) as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1.25
            tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("mtime", [None, 0])
def test_tars_of_webdatasets_own_writer(mtime: float | None, tmp_path: Path) -> None:
    expected = {}
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"{shard}.tar"), mtime=mtime) as sink:
            for number in range(5):
                key = f"s{shard}/{number:05d}"
                data = picture(number)
                sink.write({"__key__": key, "jpg": data, "cls": number % 3, "txt": f"words {number}"})
                expected[key] = data
    report = index_tars([tmp_path])
    assert report.manifest.splits["train"].samples == 10
    assert report.manifest.classes == {"class": ["0", "1", "2"]}
    assert report.manifest.fields == {"caption": 1.0, "image": 1.0, "label": 1.0}
    shards = LocalShards(tmp_path)
    samples = [shards.sample("train", id_) for id_ in range(10)]
    assert {sample.key: sample.members["image.jpg"] for sample in samples} == expected
    assert samples[4].members["label.cls"] == b"1"
    assert samples[4].members["caption.txt"] == b"words 4"
    assert verify(tmp_path) == []


def test_offsets_are_those_of_tarfile(tmp_path: Path) -> None:
    names = [f"{'deep/' * 40}{number}.jpg" for number in range(4)]
    write_tar(tmp_path / "a.tar", [(name, name.encode()) for name in names], tarfile.GNU_FORMAT)
    index_tars([tmp_path / "a.tar"])
    index = ShardIndex.load(tmp_path / "a.index")
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert index.offset[:, 0].tolist() == [info.offset_data for info in tar.getmembers()]
    assert index.keys == [name.removesuffix(".jpg") for name in names]


def test_subfolders_are_splits_and_out_leaves_the_tars_alone(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "tars" / split).mkdir(parents=True)
        write_tar(tmp_path / "tars" / split / "0.tar", [(f"{split}.jpg", picture(1))])
    before = sorted(path for path in (tmp_path / "tars").rglob("*"))
    report = index_tars([tmp_path / "tars"], out=tmp_path / "set", name="theirs")
    assert {name: split.samples for name, split in report.manifest.splits.items()} == {"train": 1, "val": 1}
    assert sorted(path for path in (tmp_path / "tars").rglob("*")) == before
    assert load_manifest(tmp_path / "set").name == "theirs"
    assert verify(tmp_path / "set") == []


def refusal(tmp_path: Path, entries: list[tuple[str, bytes]]) -> str:
    write_tar(tmp_path / "x.tar", entries)
    with pytest.raises(MmsslError) as caught:
        index_tars([tmp_path / "x.tar"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"], "something was written"
    return str(caught.value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["a.jpg", "b.jpg", "a.txt", "b.txt"], "x.tar: a: caption: key comes back after other samples"),
        (["clip.v1.0.jpg"], "dots in a key would be grouped wrongly"),
        (["clip.v1.jpg", "clip.v2.jpg"], "dots in a key would be grouped wrongly"),
        (["a.jpg", "a.png"], "the sample has this field already"),
        (["a.jpg", "a.jpg"], "the sample has this field already"),
        (["../a.jpg"], "climbs out of its folder; refused"),
        (["/a.jpg"], "absolute name; refused"),
        (["a.xyz"], "no member belongs to a known modality"),
        ([".jpg"], "expected <key>.<field>.<extension>"),
        (["a.cls"], "expected an integer"),
    ],
)
def test_what_would_be_misread_is_refused(entries: list[str], message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, [(name, b"?") for name in entries])


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, type_ in (
            ("a.jpg", tarfile.SYMTYPE),
            ("b.jpg", tarfile.LNKTYPE),
            ("c.jpg", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type_, "/etc/passwd"
            tar.addfile(info)
    with pytest.raises(MmsslError, match=r"(?s)symbolic link.*hard link.*device"):
        index_tars([tmp_path / "x.tar"])


def test_pickles_are_left_out_and_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))  # type: ignore[return-value]

    import pickle

    bomb = pickle.dumps(Bomb())
    write_tar(
        tmp_path / "x.tar", [("a.jpg", picture(1)), ("a.pkl", bomb), ("a.pyd", bomb), ("a.feat.pth", bomb)]
    )
    report = index_tars([tmp_path / "x.tar"])
    assert report.pickled == ["x.tar: a.pkl", "x.tar: a.pyd", "x.tar: a.feat.pth"]
    assert set(LocalShards(tmp_path).sample("train", 0).members) == {"image.jpg"}
    assert sum("pickled" in problem.reason for problem in verify(tmp_path)) == 3
    assert not (tmp_path / "executed").exists()


def test_unknown_extensions_are_counted_and_missing_fields_are_told(tmp_path: Path) -> None:
    entries = [("a.jpg", b"1"), ("a.npy", b"2"), ("b.jpg", b"3"), ("b.npy", b"4"), ("b.txt", b"5")]
    write_tar(tmp_path / "x.tar", entries)
    report = index_tars([tmp_path / "x.tar"])
    assert report.ignored == {"npy": 2}
    assert report.manifest.fields == {"caption": 0.5, "image": 1.0}


def test_damaged_tars_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("a.jpg", bytes(3000)), ("b.jpg", bytes(3000))])
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:5000])
    with pytest.raises(MmsslError, match=r"x\.tar: a: truncated at byte 5000"):
        index_tars([tmp_path])
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(MmsslError, match="empty file"):
        index_tars([tmp_path])
    import gzip

    (tmp_path / "x.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(MmsslError, match=r"x\.tar"):
        index_tars([tmp_path])


def test_the_same_key_in_two_tars_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("k.jpg", b"1")])
    shutil.copy(tmp_path / "a.tar", tmp_path / "b.tar")
    with pytest.raises(MmsslError, match=r"b\.tar: k: the same key is in a\.tar"):
        index_tars([tmp_path])


def test_no_tars_or_a_set_already(tmp_path: Path) -> None:
    with pytest.raises(MmsslError, match=r"no \.tar files"):
        index_tars([tmp_path])
    with pytest.raises(MmsslError, match="no such file"):
        index_tars([tmp_path / "x.tar"])
    write_tar(tmp_path / "a.tar", [("k.jpg", b"1")])
    index_tars([tmp_path])
    with pytest.raises(MmsslError, match="exists already"):
        index_tars([tmp_path])
    assert json.loads((tmp_path / "manifest.json").read_text())["built"] == {"foreign": True}
