"""Raw layouts of images, in miniature: what comes out, and what is refused with which words."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_shards import Build, pack, picture, put

from mmssl.errors import MmsslError


def test_tiny_imagenet_layout_in_a_zip_below_a_folder(build: Build, tmp_path: Path) -> None:
    raw = put(
        tmp_path / "raw",
        {
            "train/n01/images/n01_0.JPEG": picture(0),
            "train/n01/n01_boxes.txt": "n01_0.JPEG 0 0 1 1",
            "train/n02/images/n02_0.JPEG": picture(1),
            "val/images/val_0.JPEG": picture(2),
            "val/val_annotations.txt": "val_0.JPEG\tn02\t0\t32\t44\t62\n",
            "words.txt": "n01\tgoldfish, Carassius\nn02\teft\nn03\tnewt",
        },
    )
    archive = pack(raw, tmp_path / "t.zip", "tiny/")
    manifest, splits = build(
        kind="image_folder",
        root=f"{archive}/tiny",
        splits={
            "train": {"folder": "train"},
            "val": {"folder": "val/images", "labels": "val/val_annotations.txt"},
        },
        class_names="words.txt",
    )
    assert manifest.classes == {"class": ["goldfish, Carassius", "eft"]}
    assert splits["val"] == {"val_0": {"image.jpg": picture(2), "label.json": {"class": 1}}}
    assert splits["train"]["n01/images/n01_0"]["label.json"] == {"class": 0}


def test_flat_folder_odd_names_and_formats(build: Build, tmp_path: Path) -> None:
    png = picture(3, kind="PNG")
    raw = put(
        tmp_path / "raw",
        {
            "a.v1.jpg": picture(0),
            "a-v1.JPG": picture(1),
            "really_png.jpg": png,
            "anim.gif": picture(4, kind="GIF"),
            "w.webp": picture(5, kind="WEBP"),
            "b.bmp": picture(6, kind="BMP"),
            "notes.txt": "no image",
            ".hidden.jpg": b"",
        },
    )
    manifest, splits = build(kind="image_folder", root=str(raw), splits={"train": {"labels": "none"}})
    found = splits["train"]
    assert set(found) == {"a-v1", "a-v1-2", "really_png", "anim", "w", "b"}
    assert found["really_png"] == {"image.png": png}
    assert found["w"] == {"image.webp": picture(5, kind="WEBP")}
    bmp = np.asarray(Image.open(io.BytesIO(picture(6, kind="BMP"))))
    assert (np.asarray(Image.open(io.BytesIO(found["b"]["image.png"]))) == bmp).all()
    assert manifest.classes == {}


def test_resize_shortens_large_images_only(build: Build, tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", {"c/large.jpg": picture(0, (100, 50)), "c/small.jpg": picture(1, (20, 30))})
    _, splits = build(kind="image_folder", root=str(raw), resize=25)
    sizes = {key: Image.open(io.BytesIO(data["image.jpg"])).size for key, data in splits["train"].items()}
    assert sizes == {"c/large": (50, 25), "c/small": (20, 30)}


def test_holdout_is_deterministic_and_disjoint(build: Build, tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", {f"train/c{n % 3}/{n}.jpg": picture(n) for n in range(200)})
    _, splits = build(
        kind="image_folder", root=str(raw), splits={"train": {"folder": "train"}}, holdout={"share": 0.25}
    )
    assert len(splits["train"]) + len(splits["val"]) == 200
    assert not set(splits["train"]) & set(splits["val"])
    assert 30 <= len(splits["val"]) <= 70
    (raw / "train" / "c0" / "new.jpg").write_bytes(picture(999))
    from mmssl.shards.sources.image_folder import ImageFolder

    again = ImageFolder.model_validate(
        {"root": str(raw), "splits": {"train": {"folder": "train"}}, "holdout": {"share": 0.25}}
    ).list_items()
    assert {item.key for item in again.splits["val"]} - {"c0/new"} == set(splits["val"])


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        ({}, {"root": "nowhere"}, "nowhere: no such folder or zip archive"),
        ({"train/c/a.jpg": b"x"}, {"splits": {"val": {"folder": "val"}}}, "val: no such folder"),
        ({"train/c/a.txt": b"x"}, {}, "no files with extension"),
        ({"a.jpg": b"x"}, {}, "lies in no class folder"),
        ({"c/a.jpg": b"x"}, {"splits": {"train": {"labels": "y.txt"}}}, r"y.txt: .*expected a text file"),
        (
            {"c/a.jpg": b"x", "y.txt": "b.jpg 3"},
            {"splits": {"train": {"labels": "y.txt"}}},
            "no line for 'c/a.jpg'",
        ),
        (
            {"c/a.jpg": b"x", "y.txt": "a.jpg"},
            {"splits": {"train": {"labels": "y.txt"}}},
            "expected a file name and a class",
        ),
        ({"c/a.jpg": b"x", "names.txt": "d dog"}, {"class_names": "names.txt"}, "no line for class 'c'"),
        ({"c/a.jpg": b"x"}, {"holdout": {"share": 0.5, "of": "test"}}, "holdout.of: no split 'test'"),
        ({"c/a.jpg": b"x"}, {"holdout": {"share": 0.5, "split": "train"}}, "exists already"),
        ({"c/a.jpg": b"x"}, {"holdout": {"share": 0.0000001}}, "split 'val' is empty"),
        ({"a.zip": b"no zip"}, {"root": "a.zip"}, "not readable as a zip archive"),
    ],
)
def test_image_folders_that_cannot_work(
    files: dict[str, bytes | str], source: dict[str, Any], message: str, build: Build, tmp_path: Path
) -> None:
    raw = put(tmp_path / "raw", files)
    raw.mkdir(exist_ok=True)
    with pytest.raises(MmsslError, match=message):
        build(kind="image_folder", **{**source, "root": str(raw / source.get("root", ""))})
    assert not (tmp_path / "set" / "manifest.json").exists()


def test_a_damaged_member_of_a_zip_is_skipped(build: Build, tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", {f"c/{n}.jpg": picture(n) for n in range(4)})
    archive = pack(raw, tmp_path / "t.zip")
    data = bytearray(archive.read_bytes())
    at = data.find(picture(2)) + 100
    data[at] ^= 1
    archive.write_bytes(data)
    manifest, splits = build(0.5, kind="image_folder", root=str(archive))
    assert set(splits["train"]) == {"c/0", "c/1", "c/3"}
    assert manifest.built["skipped"] == {"train": 1}


def test_cifar_binary(build: Build, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    labels = np.array([3, 0, 2, 1, 3, 3], np.uint8)
    records = b"".join(
        bytes([y]) + x.transpose(2, 0, 1).tobytes() for x, y in zip(images, labels, strict=True)
    )
    raw = put(
        tmp_path / "raw",
        {"b1.bin": records[: 4 * 3073], "b2.bin": records[4 * 3073 :], "n.txt": "a\nb\nc\nd\n\n"},
    )
    source = {
        "kind": "binary_images",
        "root": str(raw),
        "side": 32,
        "label_names": ["class"],
        "splits": {"train": {"images": ["b1.bin", "b2.bin"]}},
        "class_names": {"class": "n.txt"},
    }
    manifest, splits = build(**source)
    assert manifest.classes == {"class": ["a", "b", "c", "d"]}
    for number in range(6):
        sample = splits["train"][f"train-{number:06d}"]
        assert sample["label.json"] == {"class": labels[number]}
        assert (np.asarray(Image.open(io.BytesIO(sample["image.png"]))) == images[number]).all()
    (raw / "b1.bin").write_bytes(records[:5000])
    with pytest.raises(MmsslError, match=r"b1\.bin: 5000 bytes is no multiple of 3073"):
        build(**source)


def test_stl_binary(build: Build, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    stored = images.transpose(0, 3, 2, 1).tobytes()  # column-major, as MATLAB writes it
    raw = put(
        tmp_path / "raw",
        {"x.bin": stored, "y.bin": bytes([1, 10, 4]), "u.bin": stored, "n.txt": "\n".join("abcdefghij")},
    )
    source = {
        "kind": "binary_images",
        "root": str(raw),
        "side": 96,
        "order": "columns",
        "first_label": 1,
        "splits": {"train": {"images": ["x.bin"], "labels": "y.bin"}, "unlabeled": {"images": ["u.bin"]}},
        "class_names": {"class": "n.txt"},
    }
    manifest, splits = build(**source)
    assert [splits["train"][f"train-{n:06d}"]["label.json"]["class"] for n in range(3)] == [0, 9, 3]
    assert set(splits["unlabeled"]["unlabeled-000001"]) == {"image.png"}
    assert (
        np.asarray(Image.open(io.BytesIO(splits["train"]["train-000001"]["image.png"]))) == images[1]
    ).all()
    assert manifest.fields["label"] == 0.5
    (raw / "y.bin").write_bytes(bytes(2))
    with pytest.raises(MmsslError, match="2 labels for 3 images"):
        build(**source)


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl"])
def test_tables_of_captions_and_labels(extension: str, build: Build, tmp_path: Path) -> None:
    rows = [
        ("b.jpg", 'a "big" cat, asleep', "cat"),
        ("a.jpg", "a dog", "dog"),
        ("b.jpg", "a cat\tagain", "cat"),
    ]
    if extension == "jsonl":
        text = "\n".join(json.dumps({"image": i, "caption": c, "kind": k}) for i, c, k in rows)
    else:
        import csv

        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter="," if extension == "csv" else "\t")
        writer.writerows([("image", "caption", "kind"), *rows])
        text = buffer.getvalue()
    raw = put(tmp_path / "raw", {"a.jpg": picture(0), "b.jpg": picture(1), f"t.{extension}": text})
    manifest, splits = build(
        kind="table",
        splits={"train": {"table": str(raw / f"t.{extension}"), "files": str(raw)}},
        caption="caption",
        labels={"animal": "kind"},
    )
    assert manifest.classes == {"animal": ["cat", "dog"]}
    assert splits["train"]["b"]["caption.json"] == ['a "big" cat, asleep', "a cat\tagain"]
    assert splits["train"]["b"]["label.json"] == {"animal": 0}
    assert splits["train"]["a"]["caption.json"] == ["a dog"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\n", "split 'train' is empty"),
        ("image,words\na.jpg,x\n", "line 2: no 'caption'"),
        ("image,caption\na.jpg,\n", "a.jpg: no caption: all 1 are empty"),
        ("image,caption\na.jpg,x,y\n", "more fields than column names"),
    ],
)
def test_tables_that_cannot_work(text: str, message: str, build: Build, tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", {"a.jpg": picture(0), "t.csv": text})
    splits = {"train": {"table": str(raw / "t.csv"), "files": str(raw)}}
    with pytest.raises(MmsslError, match=message):
        build(kind="table", splits=splits, caption="caption")


def test_a_file_that_a_table_lists_but_is_missing_is_skipped(build: Build, tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", {"a.jpg": picture(0), "t.csv": "image,caption\na.jpg,x\ngone.jpg,y\n"})
    splits = {"train": {"table": str(raw / "t.csv"), "files": str(raw)}}
    manifest, found = build(0.5, kind="table", splits=splits, caption="caption")
    assert set(found["train"]) == {"a"}
    assert manifest.built["skipped"] == {"train": 1}
