"""Building: the same bytes however it is done, interruptions, changes, unreadable inputs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_shards import Recipe, content, picture

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.shards import build as build_module
from mmssl.shards import writer
from mmssl.shards.build import build_shards
from mmssl.shards.local import LocalShards
from mmssl.shards.manifest import load_manifest
from mmssl.shards.verify import verify


def test_the_result_is_what_went_in(recipe: Recipe, image_tree: Path, tmp_path: Path) -> None:
    manifest = build_shards(recipe(), tmp_path / "out")
    assert manifest == load_manifest(tmp_path / "out")
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 24, "val": 8}
    assert [shard.samples for shard in manifest.splits["train"].shards] == [5, 5, 5, 5, 4]
    assert [shard.first_id for shard in manifest.splits["train"].shards] == [0, 5, 10, 15, 20]
    assert manifest.classes == {"class": ["cat", "dog"]}
    assert manifest.fields == {"image": 1.0, "label": 1.0}
    shards = LocalShards(tmp_path / "out")
    seen = set()
    for id_ in range(24):
        sample = shards.sample("train", id_)
        label, _, _ = sample.key.partition("/")
        assert sample.members["image.jpg"] == (image_tree / "train" / f"{sample.key}.jpg").read_bytes()
        assert json.loads(sample.members["label.json"]) == {"class": ["cat", "dog"].index(label)}
        seen.add(sample.key)
    assert len(seen) == 24
    assert verify(tmp_path / "out") == []
    leftovers = {path.name for path in (tmp_path / "out").iterdir()}
    assert leftovers == {".lock", "manifest.json", "train", "val"}


def test_byte_identical_for_any_number_of_workers(recipe: Recipe, tmp_path: Path) -> None:
    for workers in (1, 3):
        build_shards(recipe(), tmp_path / str(workers), workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "3")


def test_classes_are_mixed_unless_told_otherwise(recipe: Recipe, tmp_path: Path) -> None:
    build_shards(recipe(), tmp_path / "mixed")
    build_shards(recipe(shuffle_seed=None), tmp_path / "sorted")
    build_shards(recipe(shuffle_seed=1), tmp_path / "other")
    keys = {
        name: [LocalShards(tmp_path / name).sample("train", id_).key for id_ in range(24)]
        for name in ("mixed", "sorted", "other")
    }
    assert keys["sorted"] == sorted(keys["mixed"])
    assert keys["mixed"] != keys["sorted"]
    assert keys["mixed"] != keys["other"]
    assert {key[:3] for key in keys["mixed"][:8]} == {"cat", "dog"}


def test_shards_are_cut_by_size(recipe: Recipe, tmp_path: Path) -> None:
    manifest = build_shards(recipe(shard_samples=None, shard_mb=0.01), tmp_path / "out")
    sizes = [shard.bytes for shard in manifest.splits["train"].shards]
    assert len(sizes) > 2
    assert max(sizes) < 16_000


SLOW_BUILD = """
import sys, time
from pathlib import Path
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import parse_recipe
from mmssl.shards.sources.image_folder import ImageFolder
load = ImageFolder.load
def slowly(self, item):
    time.sleep(0.05)
    return load(self, item)
ImageFolder.load = slowly
if __name__ == "__main__":
    import json
    build_shards(parse_recipe(json.loads(sys.argv[1]), "r"), sys.argv[2], workers=int(sys.argv[3]))
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_and_resumed_is_byte_identical(workers: int, recipe: Recipe, tmp_path: Path) -> None:
    build_shards(recipe(), tmp_path / "whole")
    script = tmp_path / "slow.py"
    script.write_text(SLOW_BUILD)
    out = tmp_path / "killed"
    settings = json.dumps(recipe().model_dump(mode="json"))
    process = subprocess.Popen([sys.executable, str(script), settings, str(out), str(workers)])
    first = out / build_module.STATE / "train" / "000000.json"
    deadline = time.monotonic() + 60
    while not first.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    before = (out / "train" / "000000.tar").stat().st_mtime_ns
    (out / "train" / f".000009.tar.{os.getpid()}.part").write_bytes(b"left by the killed process")
    build_shards(recipe(), out, workers=1)
    assert content(out) == content(tmp_path / "whole")
    assert (out / "train" / "000000.tar").stat().st_mtime_ns == before, "a finished shard was written again"


def test_a_finished_build_is_not_repeated(recipe: Recipe, tmp_path: Path) -> None:
    build_shards(recipe(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    build_shards(recipe(), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")} == before
    next(tmp_path.rglob("*.tar")).unlink()
    with pytest.raises(MmsslError, match="missing or truncated"):
        build_shards(recipe(), tmp_path)


def test_a_changed_recipe_is_refused_with_the_differences(recipe: Recipe, tmp_path: Path) -> None:
    build_shards(recipe(), tmp_path)
    with pytest.raises(MmsslError, match=r"recipe\.shard_samples: was 5, now 6"):
        build_shards(recipe(shard_samples=6), tmp_path)


def test_changed_raw_files_are_refused(recipe: Recipe, image_tree: Path, tmp_path: Path) -> None:
    build_shards(recipe(), tmp_path / "out")
    (image_tree / "train" / "cat" / "new.jpg").write_bytes(picture(99))
    with pytest.raises(MmsslError, match="the raw files"):
        build_shards(recipe(), tmp_path / "out")


def test_an_interrupted_build_refuses_another_recipe(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "_finish", fail)
    with pytest.raises(KeyboardInterrupt):
        build_shards(recipe(), tmp_path)
    monkeypatch.undo()
    with pytest.raises(MmsslError, match=r"recipe\.shuffle_seed: was 0, now 3"):
        build_shards(recipe(shuffle_seed=3), tmp_path)
    assert build_shards(recipe(), tmp_path).samples == 32


def test_a_folder_of_others_is_not_overwritten(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "000000.tar").write_bytes(b"precious")
    with pytest.raises(MmsslError, match="no build has recorded"):
        build_shards(recipe(), tmp_path / "out")
    assert (tmp_path / "out" / "train" / "000000.tar").read_bytes() == b"precious"


def test_two_builds_in_one_folder(recipe: Recipe, tmp_path: Path) -> None:
    with files.only_writer(tmp_path), pytest.raises(MmsslError, match="another run"):
        build_shards(recipe(), tmp_path)


def test_a_full_disk_stops_the_build_and_it_resumes(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = writer.header

    def full(name: str, size: int) -> bytes:
        if "cat/007" in name:
            raise OSError(28, "No space left on device")
        return header(name, size)

    monkeypatch.setattr(writer, "header", full)
    with pytest.raises(MmsslError, match=r"\.tar: could not be written: No space left"):
        build_shards(recipe(), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.part"))
    monkeypatch.undo()
    build_shards(recipe(), tmp_path / "out")
    build_shards(recipe(), tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def bad_images() -> dict[str, bytes]:
    good = picture(5, (64, 64))
    png = picture(5, (64, 64), "PNG")
    bomb = bytearray(png)
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    return {
        "truncated.jpg": good[: len(good) // 2],
        "truncated.png": png[: len(png) // 2],
        "zero.jpg": b"",
        "words.jpg": b"this is no image at all",
        "bomb.png": bytes(bomb),
    }


REASONS = {
    "truncated.jpg": "not a readable image",
    "truncated.png": "not a readable image",
    "zero.jpg": "empty file",
    "words.jpg": "not a readable image",
    "bomb.png": "decompression bomb",
}


@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_images_are_skipped_counted_and_named(
    workers: int, recipe: Recipe, image_tree: Path, tmp_path: Path
) -> None:
    for name, data in bad_images().items():
        (image_tree / "train" / "cat" / name).write_bytes(data)
    manifest = build_shards(recipe(max_bad_share=0.2), tmp_path / "out", workers=workers)
    assert manifest.splits["train"].samples == 24
    assert manifest.built["skipped"] == {"train": 5}
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    found = {line["input"].rpartition("/")[2]: line["reason"] for line in lines}
    assert found.keys() == REASONS.keys()
    for name, reason in REASONS.items():
        assert reason in found[name]
    assert verify(tmp_path / "out") == []


def test_too_many_unreadable_images_stop_the_build(recipe: Recipe, image_tree: Path, tmp_path: Path) -> None:
    for name, data in bad_images().items():
        (image_tree / "train" / "cat" / name).write_bytes(data)
    with pytest.raises(MmsslError, match=r"(?s)unreadable.*max_bad_share 0\.01.*cat/.*: "):
        build_shards(recipe(), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert build_shards(recipe(max_bad_share=0.5), tmp_path / "out").samples == 32


def test_a_split_of_which_nothing_is_readable(recipe: Recipe, image_tree: Path, tmp_path: Path) -> None:
    for path in (image_tree / "val").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(MmsslError, match="split 'val' is empty"):
        build_shards(recipe(max_bad_share=1), tmp_path / "out")


def test_a_killed_worker_is_reported(recipe: Recipe, tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(
        SLOW_BUILD.replace("time.sleep(0.05)", "__import__('os').kill(__import__('os').getpid(), 9)")
    )
    settings = json.dumps(recipe().model_dump(mode="json"))
    done = subprocess.run(
        [sys.executable, str(script), settings, str(tmp_path / "out"), "2"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "a worker process died" in done.stderr
