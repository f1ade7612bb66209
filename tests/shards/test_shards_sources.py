"""Every raw layout, in miniature: what comes out, and what is refused with which words."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from conftest import picture
from PIL import Image

from mmssl.errors import MmsslError
from mmssl.shards import encode
from mmssl.shards.build import build_shards
from mmssl.shards.local import LocalShards
from mmssl.shards.manifest import Manifest
from mmssl.shards.recipe import parse_recipe
from mmssl.shards.sources.base import unique_keys
from mmssl.shards.sources.tum import associate
from mmssl.shards.verify import verify

Samples = dict[str, dict[str, Any]]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[Manifest, dict[str, Samples]]]:
    """Build, verify, and read back: split to key to column to bytes (JSON parsed)."""

    def run(max_bad_share: float = 0.0, **source: Any) -> tuple[Manifest, dict[str, Samples]]:
        recipe = parse_recipe({"name": "set", "source": source, "max_bad_share": max_bad_share}, "set.yaml")
        manifest = build_shards(recipe, tmp_path / "set")
        assert verify(tmp_path / "set") == []
        shards = LocalShards(tmp_path / "set")
        splits: dict[str, Samples] = {}
        for name, split in manifest.splits.items():
            samples = [shards.sample(name, id_) for id_ in range(split.samples)]
            splits[name] = {
                sample.key: {
                    column: json.loads(data) if column.endswith("json") else data
                    for column, data in sample.members.items()
                }
                for sample in samples
            }
        return manifest, splits

    return run


Build = Callable[..., tuple[Manifest, dict[str, Samples]]]


def put(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def pack(root: Path, archive: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                target.write(path, inside + path.relative_to(root).as_posix())
    return archive


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
        ("image,caption\na.jpg,\n", "line 2: no 'caption'"),
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


def video(frames: int, *, sound_only: bool = False) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        if sound_only:
            audio = container.add_stream("aac", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            sound.rate = 8000
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
        else:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(frames):
                pixels = np.full((48, 64, 3), 5 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize("check", [True, False])
def test_video_folders(check: bool, build: Build, tmp_path: Path) -> None:
    good = video(12)
    raw = put(
        tmp_path / "raw",
        {
            "run/a.mp4": good,
            "sit/b.mp4": video(7),
            "sit/sound.mp4": video(0, sound_only=True),
            "sit/cut.mp4": good[: len(good) // 2],
            "sit/zero.mp4": b"",
        },
    )
    manifest, splits = build(0.9, kind="video_folder", root=str(raw), check=check)
    assert set(splits["train"]) == {"run/a", "sit/b"}
    assert splits["train"]["run/a"]["video.mp4"] == good
    meta = splits["train"]["run/a"]["meta.json"]
    assert (meta["fps"], meta["frames"], meta["width"], meta["height"]) == (10.0, 12, 64, 48)
    assert meta["duration"] == pytest.approx(1.2)
    assert splits["train"]["sit/b"]["label.json"] == {"class": 1}
    assert manifest.built["skipped"] == {"train": 3}


def test_tracking_sequences(build: Build, tmp_path: Path) -> None:
    frames = [picture(n, (48, 32)) for n in range(4)]
    files: dict[str, bytes | str] = {f"One/img/{n + 1:04d}.jpg": data for n, data in enumerate(frames)}
    files["One/groundtruth_rect.1.txt"] = "1,1,10,20\n3,4,10,20\nNaN,NaN,NaN,NaN\n"
    files["One/groundtruth_rect.2.txt"] = "11\t12\t5\t6\n11\t12\t5\t6\n11 12 5 6\n11 12 5.5 6\n"
    files["Poly/img/1.png"] = picture(9, (48, 32), "PNG")
    files["Poly/groundtruth.txt"] = "11,21,31,21,31,41,11.5,41"
    files["Bare/img/1.jpg"] = frames[0]
    _, splits = build(kind="frame_folders", root=str(put(tmp_path / "raw", files)), fps=25)
    one = splits["test"]["One"]
    nothing = [None] * 4
    assert one["boxes.json"] == [
        [[0, 0, 10, 20], [10, 11, 5, 6]],
        [[2, 3, 10, 20], [10, 11, 5, 6]],
        [nothing, [10, 11, 5, 6]],
        [nothing, [10, 11, 5.5, 6]],
    ]
    assert one["video.mkv"] == encode.mjpeg(frames, 25, (48, 32))
    assert (one["meta.json"]["frames"], one["meta.json"]["fps"]) == (4, 25)
    assert splits["test"]["Poly"]["boxes.json"] == [[[10, 20, 20, 20]]]
    assert set(splits["test"]["Bare"]) == {"video.mkv", "meta.json"}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"groundtruth.txt": "1,2,3,4\n" * 3}, "3 lines for 2 frames"),
        ({"groundtruth.txt": "1,2,3\n"}, "3 numbers on a line"),
        ({"groundtruth.txt": "a,b,c,d\n"}, "expected numbers"),
        ({"img/2.jpg": picture(1, (20, 20))}, "different sizes"),
        ({"img/2.jpg": b""}, "frame 2.jpg: empty file"),
    ],
)
def test_damaged_tracking_sequences(
    files: dict[str, bytes | str], reason: str, build: Build, tmp_path: Path
) -> None:
    good: dict[str, bytes | str] = {"S/img/1.jpg": picture(0), "S/img/2.jpg": picture(1)}
    raw = put(tmp_path / "raw", good | {f"S/{name}": data for name, data in files.items()})
    with pytest.raises(MmsslError, match=reason):
        build(kind="frame_folders", root=str(raw))


def depth_file(raw: np.ndarray) -> bytes:
    return cv2.imencode(".png", raw)[1].tobytes()


def test_seven_scenes(build: Build, tmp_path: Path) -> None:
    raw_depth = np.random.default_rng(0).integers(0, 5000, (18, 24), dtype=np.uint16)
    holes = raw_depth.copy()
    holes[3] = 65535
    pose = np.eye(4) + 0.5
    files: dict[str, bytes | str] = {"camera-intrinsics.txt": "585 0 320\n0 585 240\n0 0 1\n"}
    for number, depth in ((0, raw_depth), (30, holes)):
        files[f"frame-{number:06d}.color.jpg"] = picture(number)
        files[f"frame-{number:06d}.depth.png"] = depth_file(depth)
        files[f"frame-{number:06d}.pose.txt"] = "\n".join("\t".join(map(str, row)) for row in pose)
    _, splits = build(kind="rgbd", root=str(put(tmp_path / "raw", files)))
    first, second = splits["train"]["frame-000000"], splits["train"]["frame-000030"]
    assert first["depth.png"] == depth_file(raw_depth), "millimetres already: bytes are kept"
    cleaned = cv2.imdecode(np.frombuffer(second["depth.png"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert cleaned is not None
    assert (cleaned == np.where(holes == 65535, 0, holes)).all()
    assert second["meta.json"]["timestamp"] == 1.0
    assert second["meta.json"]["pose"] == pose.tolist()
    assert second["meta.json"]["intrinsics"][0] == [585, 0, 320]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("f-1.depth.png", depth_file(np.ones((64, 64), np.uint16))[:-30], "depth is not a readable PNG"),
        ("f-1.depth.png", b"", "depth is not a readable PNG"),
        ("f-1.depth.png", depth_file(np.ones((9, 9), np.uint8)), "expected 16-bit grey"),
        ("f-1.color.jpg", b"noise", "not a readable image"),
        ("f-1.pose.txt", b"1 2 3", "expected a 4×4 matrix"),
        ("camera-intrinsics.txt", b"a b c", "expected numbers"),
    ],
)
def test_damaged_rgbd_frames(name: str, data: bytes, reason: str, build: Build, tmp_path: Path) -> None:
    good: dict[str, bytes | str] = {
        "f-1.color.jpg": picture(0),
        "f-1.depth.png": depth_file(np.ones((9, 9), np.uint16)),
    }
    with pytest.raises(MmsslError, match=reason):
        build(kind="rgbd", root=str(put(tmp_path / "raw", good | {name: data})))


def test_tum(build: Build, tmp_path: Path) -> None:
    raw = np.full((18, 24), 5000, np.uint16)
    files: dict[str, bytes | str] = {
        "rgb.txt": "# timestamp filename\n1.000 rgb/1.000.png\n1.033 rgb/1.033.png\n9.0 rgb/9.0.png\n",
        "depth.txt": "1.005 depth/1.005.png\n1.036 depth/1.036.png\n",
        "groundtruth.txt": f"# timestamp tx ty tz qx qy qz qw\n1.001 1 2 3 0 0 {0.5**0.5} {0.5**0.5}\n",
        "rgb/1.000.jpg": picture(0),
        "rgb/1.033.jpg": picture(1),
        "depth/1.005.png": depth_file(raw),
        "depth/1.036.png": depth_file(raw),
    }
    root = put(tmp_path / "raw", files)
    _, splits = build(kind="rgbd", root=str(root), depth_scale=5000, intrinsics=[517, 516, 318, 255])
    first = splits["train"]["1-000000"]
    assert set(splits["train"]) == {"1-000000", "1-033000"}
    stored = cv2.imdecode(np.frombuffer(first["depth.png"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert (stored == 1000).all()
    turned = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(first["meta.json"]["pose"], turned, atol=1e-12)
    assert "pose" not in splits["train"]["1-033000"]["meta.json"]


def test_association_uses_everything_once_and_closest_first() -> None:
    assert associate([0.0, 0.02, 0.04], [0.019, 0.022, 0.5], 0.03) == [(1, 0), (2, 1)]
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.uniform(0, 1, 30).tolist(), rng.uniform(0, 1, 25).tolist()
        every = sorted((abs(a - b), i, j) for i, a in enumerate(first) for j, b in enumerate(second))
        left: list[tuple[int, int]] = []
        for gap, i, j in every:
            if gap <= 0.02 and i not in {a for a, _ in left} and j not in {b for _, b in left}:
                left.append((i, j))
        assert associate(first, second, 0.02) == sorted(left)


def test_keys_become_unique() -> None:
    assert unique_keys(["a", "a", "a-2", "b", "a"]) == ["a", "a-3", "a-2", "b", "a-4"]
    assert len(set(unique_keys(["x"] * 5))) == 5


def test_miniworld(build: Build) -> None:
    from mmssl.miniworld import MiniworldConfig, clip
    from mmssl.stream.decode import decode

    fields = [
        "image",
        "image_right",
        "depth",
        "normals",
        "segmentation",
        "flow",
        "boxes",
        "caption",
        "label",
        "meta",
    ]
    world = {"size": 32, "frames": 5}
    _, splits = build(
        kind="miniworld", clips={"train": 2, "val": 1}, frames_per_clip=2, fields=fields, world=world
    )
    assert sorted(splits["train"]) == ["000000-000", "000000-002", "000001-000", "000001-002"]
    truth = clip("train", 1, MiniworldConfig(size=32, frames=5))
    sample = splits["train"]["000001-002"]
    depth = decode("depth", "png", sample["depth.png"])[0].numpy()
    np.testing.assert_allclose(depth, truth.depth[2], atol=0.00051)
    flow = decode("flow", "png", sample["flow.png"]).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(flow, truth.flow[2], atol=1 / 120)
    normals = decode("normals", "png", sample["normals.png"]).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(normals, truth.normals[2], atol=1e-4)
    ids = decode("segmentation", "png", sample["segmentation.png"])[0].numpy()
    assert (ids == truth.segmentation[2]).all()
    boxes = decode("boxes", "json", json.dumps(sample["boxes.json"]).encode())[0].numpy()
    np.testing.assert_allclose(boxes, truth.boxes[2], atol=1e-4)
    right = decode("image", "jpg", sample["image_right.jpg"]).permute(1, 2, 0).numpy()
    assert np.abs(right.astype(int) - truth.frames_right[2]).mean() < 4
    assert sample["label.json"] == truth.labels
    assert sample["caption.json"] == truth.captions
    assert sample["meta.json"]["timestamp"] == 2 / 8
    np.testing.assert_allclose(np.array(sample["meta.json"]["pose"]) @ truth.poses[2], np.eye(4), atol=1e-6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"clips": {"dev": 3}}, "no split 'dev'"),
        ({"clips": {"train": 0}}, "split 'train' is empty"),
        ({"clips": {"train": 1}, "frames_per_clip": 16}, "frames_per_clip: 16, expected less than"),
    ],
)
def test_miniworlds_that_cannot_work(source: dict[str, Any], message: str, build: Build) -> None:
    with pytest.raises(MmsslError, match=message):
        build(kind="miniworld", **source)
