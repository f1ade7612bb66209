"""The commands as a user meets them, and the sheets that ``inspect`` draws."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_shards import MINIWORLD_FIELDS, Recipe, picture
from typer.testing import CliRunner

from mmssl.cli.shards import app
from mmssl.errors import MmsslError
from mmssl.shards.build import build_shards
from mmssl.shards.inspect import write_html, write_png
from mmssl.shards.manifest import load_manifest
from mmssl.shards.pictures import describe, thumbnail
from mmssl.shards.recipe import parse_recipe

RUN = CliRunner()


@pytest.fixture
def recipe_file(recipe: Recipe, tmp_path: Path) -> Path:
    path = tmp_path / "pets.yaml"
    path.write_text(yaml.safe_dump(recipe().model_dump(mode="json")))
    return path


def test_build_inspect_verify(recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = RUN.invoke(
        app, ["build", str(recipe_file), "--out", str(out), "--workers", "1", "shard_samples=7"]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(out)
    assert load_manifest(out).built["recipe"]["shard_samples"] == 7
    assert RUN.invoke(app, ["verify", str(out), "--decode"]).exit_code == 0
    shown = RUN.invoke(
        app, ["inspect", str(out), "--png", str(tmp_path / "s.png"), "--html", str(tmp_path / "s.html")]
    )
    assert shown.exit_code == 0
    for words in ("train", "24", "image", "label", "cat, dog"):
        assert words in shown.stdout
    sheet = Image.open(tmp_path / "s.png")
    assert np.asarray(sheet).std() > 10
    page = (tmp_path / "s.html").read_text()
    assert page.count("<img") == 32
    assert "cat" in page
    assert not re.search(r"https?://", page)


def test_verify_says_what_is_wrong_and_fails(recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    RUN.invoke(app, ["build", str(recipe_file), "--out", str(out)])
    tar = out / "train/000001.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    done = RUN.invoke(app, ["verify", str(out)])
    assert done.exit_code == 2
    assert re.search(r"train/000001\.tar: \w+/\d+: image: checksum differs", done.stdout)


def test_verify_decodes_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "c"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(picture(0, (256, 256))[:-500])
    source = {"kind": "image_folder", "root": str(tmp_path / "raw"), "check": False}
    build_shards(parse_recipe({"name": "x", "source": source}, "x"), tmp_path / "out")
    assert RUN.invoke(app, ["verify", str(tmp_path / "out")]).exit_code == 0
    done = RUN.invoke(app, ["verify", str(tmp_path / "out"), "--decode"])
    assert done.exit_code == 2
    assert "train/000000.tar: c/a: image: does not decode" in done.stdout


def test_index_reports_what_it_left_out(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("a.jpg", "a.npy", "b.jpg", "b.txt", "b.pkl"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    done = RUN.invoke(app, ["index", str(tmp_path / "x.tar"), "--name", "theirs"])
    assert done.exit_code == 0, done.output
    assert "50.0% of the samples have no caption" in done.stderr
    assert "1 members .npy ignored" in done.stderr
    assert "1 pickled members left out, such as x.tar: b.pkl" in done.stderr


def test_a_manifest_is_needed(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["inspect", str(tmp_path)])
    assert isinstance(done.exception, MmsslError)
    assert "expected a shard set" in str(done.exception)


@pytest.mark.parametrize("command", ["build", "index", "inspect", "verify"])
def test_every_command_explains_itself(command: str) -> None:
    done = RUN.invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "Example" in done.stdout


def test_the_script_builds(recipe_file: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "build_shards"
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [str(script), str(recipe_file), "--out", str(tmp_path / "out"), "--workers", "2"],
        capture_output=True, text=True, env={"PATH": path, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_manifest(tmp_path / "out").samples == 32


def test_sheets_of_every_modality(tmp_path: Path) -> None:
    source = {
        "kind": "miniworld",
        "clips": {"train": 2},
        "fields": MINIWORLD_FIELDS,
        "world": {"size": 64, "frames": 5},
    }
    build_shards(parse_recipe({"name": "x", "source": source}, "x"), tmp_path / "out")
    write_html(tmp_path / "out", tmp_path / "s.html", count=3)
    page = (tmp_path / "s.html").read_text()
    assert page.count("<img") == 3 * 6
    assert "unreadable" not in page
    write_png(tmp_path / "out", tmp_path / "s.png", count=3, split="train")
    assert Image.open(tmp_path / "s.png").width == 6 * 132


def test_thumbnails_of_damaged_bytes_are_refused() -> None:
    for field in ("image", "video", "depth", "flow"):
        with pytest.raises((ValueError, OSError)):
            thumbnail(field, b"noise", 32)


def test_words_for_labels_and_captions() -> None:
    classes = {"class": ["cat", "dog"]}
    assert describe("label", b'{"class": 1}', classes) == "dog"
    assert describe("label", b"1", classes) == "dog"
    assert describe("label", b'{"class": 7}', classes) == "class 7"
    assert describe("caption", b'["one", "two"]', classes) == "one · two"
    assert describe("caption", b"plain words\n", classes) == "plain words"
