"""NYU Depth v2, SUN RGB-D and ScanNet, from tiny copies of their layouts: every pixel that comes out."""

import io
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image
from tiny_shards import Build, picture, put

from mmssl.errors import MmsslError
from mmssl.stream.decode import decode

H, W = 18, 24
K = [[30.0, 0.0, 11.0], [0.0, 31.0, 8.0], [0.0, 0.0, 1.0]]


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def pixels(data: bytes | str) -> np.ndarray:
    assert isinstance(data, bytes)
    return np.asarray(Image.open(io.BytesIO(data)))


def ppm(rgb: np.ndarray) -> bytes:
    return b"P6 %d %d 255\n" % (rgb.shape[1], rgb.shape[0]) + rgb.tobytes()


def cells(texts: list[str]) -> np.ndarray:
    found = np.empty((1, len(texts)), object)
    found[0] = texts
    return found


def mat(**variables: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables)
    return buffer.getvalue()


def array(field: str, sample: dict[str, Any]) -> np.ndarray:
    """The decoded field, channels last."""
    column = next(name for name in sample if name.startswith(f"{field}."))
    return decode(field, column.partition(".")[2], sample[column]).permute(1, 2, 0).squeeze(-1).numpy()


# NYU Depth v2, labelled

NAMES = ["wall", "lamp shade", "Floor_mat", "yarmulka"]


def labelled(path: Path, **changes: np.ndarray) -> dict[str, np.ndarray]:
    """A file in the form of nyu_depth_v2_labeled.mat, with 5 images; its arrays, axes reversed."""
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 256, (5, 3, W, H), dtype=np.uint8),
        "depths": rng.uniform(0.5, 9, (5, W, H)).astype(np.float32),
        "rawDepths": rng.uniform(0.5, 9, (5, W, H)).astype(np.float32) * rng.integers(0, 2, (5, W, H)),
        "labels": rng.integers(0, 5, (5, W, H)).astype(np.uint16),
    } | changes
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        for name, texts in (
            ("names", NAMES),
            ("sceneTypes", ["study", "attic", "study", "café", "attic"]),
            ("scenes", [f"scene_{n}" for n in range(5)]),
        ):
            references = []
            for at, text in enumerate(texts):
                units = np.frombuffer(text.encode("utf-16-le"), "u2")[:, None]
                references.append(file.create_dataset(f"#refs#/{name}{at}", data=units).ref)
            file.create_dataset(name, data=np.array([references], dtype=object), dtype=h5py.ref_dtype)
    return arrays


def test_nyu_labelled_pixels_and_official_split(build: Build, tmp_path: Path) -> None:
    arrays = labelled(tmp_path / "nyu.mat")
    (tmp_path / "splits.mat").write_bytes(
        mat(trainNdxs=np.array([[5], [1], [2]]), testNdxs=np.array([[3], [4]]))
    )
    (tmp_path / "classes.mat").write_bytes(
        mat(mapClass=np.array([[2, 3, 1, 0]]), className=cells(["mat", "wall", "lamp"]))
    )
    manifest, splits = build(
        kind="nyu_labelled",
        file=str(tmp_path / "nyu.mat"),
        split_file=str(tmp_path / "splits.mat"),
        labels={"table": str(tmp_path / "classes.mat")},
        image_format="png",
        normals=True,
    )
    assert {split: set(samples) for split, samples in splits.items()} == {
        "train": {"0001", "0002", "0005"},
        "test": {"0003", "0004"},
    }
    assert manifest.classes == {"scene": ["attic", "café", "study"], "segmentation": ["mat", "wall", "lamp"]}
    to_class = np.array([255, 1, 2, 0, 255])  # unlabelled; wall, lamp, mat; yarmulka is of no class
    for samples in splits.values():
        for key, sample in samples.items():
            at = int(key) - 1
            assert (array("image", sample) == arrays["images"][at].transpose(2, 1, 0)).all()
            np.testing.assert_allclose(array("depth", sample), arrays["depths"][at].T, atol=0.00051)
            assert (array("segmentation", sample) == to_class[arrays["labels"][at].T]).all()
            assert array("normals", sample).shape == (H, W, 3)
            assert sample["meta.json"]["scene"] == f"scene_{at}"
            assert sample["meta.json"]["number"] == at + 1
    assert splits["test"]["0004"]["label.json"] == {"scene": 1}
    assert splits["train"]["0001"]["meta.json"]["intrinsics"][0][2] == pytest.approx(324.582449)


def test_nyu_labelled_by_names_lists_and_raw_depth(build: Build, tmp_path: Path) -> None:
    arrays = labelled(tmp_path / "nyu.mat")
    (tmp_path / "val.txt").write_text("2\n4\n")
    (tmp_path / "13.csv").write_text("id,class\nwall,Wall\nlamp shade,Objects\nyarmulka,Objects\n")
    source = {"kind": "nyu_labelled", "file": str(tmp_path / "nyu.mat"), "depths": "rawDepths"}
    table = {"table": str(tmp_path / "13.csv")}
    manifest, splits = build(**source, lists={"val": str(tmp_path / "val.txt")}, labels=table)
    assert manifest.classes["segmentation"] == ["Wall", "Objects"]
    ids = array("segmentation", splits["val"]["0002"])
    assert (ids == np.array([255, 0, 1, 255, 1])[arrays["labels"][1].T]).all()
    depth = array("depth", splits["val"]["0004"])
    np.testing.assert_allclose(depth, arrays["rawDepths"][3].T, atol=0.00051)
    assert ((depth == 0) == (arrays["rawDepths"][3].T == 0)).all()


def test_nyu_labelled_reduced(build: Build, tmp_path: Path) -> None:
    """Half the size, so 2 × 2 pixels become one: the mean of the image, the last of the four of a map."""
    big = {
        "images": np.repeat(
            np.repeat(np.arange(5 * 3 * 48 * 32).reshape(5, 3, 48, 32) % 200, 2, 2), 2, 3
        ).astype(np.uint8),
        "depths": np.random.default_rng(0).uniform(1, 2, (5, 96, 64)).astype(np.float32),
        "rawDepths": np.ones((5, 96, 64), np.float32),
        "labels": np.random.default_rng(1).integers(1, 4, (5, 96, 64)).astype(np.uint16),
    }
    labelled(tmp_path / "nyu.mat", **big)
    _, splits = build(
        kind="nyu_labelled", file=str(tmp_path / "nyu.mat"), short_side=32, image_format="png",
        labels={"classes": NAMES}, intrinsics=[60, 62, 40, 30],
    )  # fmt: skip
    sample = splits["train"]["0002"]
    assert (
        np.abs(array("image", sample).astype(int) - big["images"][1].transpose(2, 1, 0)[::2, ::2]).mean() < 6
    )
    np.testing.assert_allclose(array("depth", sample), big["depths"][1].T[1::2, 1::2], atol=0.00051)
    assert (array("segmentation", sample) == big["labels"][1].T[1::2, 1::2] - 1).all()
    assert sample["meta.json"]["intrinsics"] == [[30, 0, 19.75], [0, 31, 14.75], [0, 0, 1]]


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"split_file": "nyu.mat"}, {}, "expected a MATLAB file of version 5 to 7"),
        ({"lists": {"val": "six.txt"}}, {}, "names image 6; expected 1..5"),
        ({"lists": {"val": "words.txt"}}, {}, "one image number a line"),
        ({}, {"depths": np.full((5, W, H), 1500.0)}, "1.5e\\+03 m .*not the unit of this layout"),
        ({}, {"depths": np.zeros((5, W, H))}, "depth is missing everywhere"),
        ({}, {"depths": np.ones((5, W, H + 1))}, "arrays of different sizes"),
        ({"labels": {"classes": ["wall"]}}, {"labels": np.full((5, W, H), 7)}, "label 7; expected"),
        ({"labels": {}}, {}, "neither classes nor a table"),
        ({"file": "six.txt"}, {}, "expected nyu_depth_v2_labeled.mat"),
    ],
)  # fmt: skip
def test_bad_nyu_labelled(
    options: dict[str, Any], changes: dict[str, Any], message: str, build: Build, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    labelled(tmp_path / "nyu.mat", **changes)
    put(tmp_path, {"six.txt": "6\n", "words.txt": "wall\n"})
    with pytest.raises(MmsslError, match=message):
        build(**{"kind": "nyu_labelled", "file": str(tmp_path / "nyu.mat")} | options)


# NYU Depth v2, raw


def pgm(disparity: np.ndarray, order: str) -> bytes:
    return b"P5 %d %d 65535\n" % disparity.shape[::-1] + disparity.astype(f"{order}u2").tobytes()


@pytest.mark.parametrize("order", [">", "<"])
def test_nyu_raw(order: str, build: Build, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    disparity = rng.integers(400, 1080, (H, W))
    disparity[0, :4] = [2047, 1093, 1092, 0]
    flat = np.full((H, W, 3), 77, np.uint8)
    files: dict[str, bytes | str] = {
        "study_1/d-10.010-7.pgm": pgm(disparity, order),
        "study_1/d-10.060-8.pgm": pgm(disparity, order),
        "study_1/r-10.000-5.ppm": ppm(flat),
        "study_1/r-10.055-6.ppm": ppm(flat + 50),
        "study_1/r-11.000-9.ppm": ppm(flat),
        "study_1/a-10.0-3.dump": b"x",
        "study_1/INDEX.txt": "d-10.010-7.pgm\n",
    }
    source = {
        "kind": "nyu_raw",
        "root": str(put(tmp_path / "raw", files)),
        "intrinsics": [582.6, 582.7, 312, 237],
    }
    manifest, splits = build(0.5, **source, normals=True, flow={})
    assert manifest.built["skipped"] == {"train": 1}
    assert (tmp_path / "set" / "skipped.jsonl").read_text().count("r-11.000-9.ppm") == 1
    first, second = (splits["train"][f"study_1/r-{name}"] for name in ("10-000-5", "10-055-6"))
    metres = 351.3 / (1092.5 - disparity.astype(float))
    metres[0, :3] = 0  # no return, a negative value, 702 m
    metres[metres > 10] = 0
    np.testing.assert_allclose(array("depth", first), metres, atol=0.00051)
    assert first["meta.json"]["timestamp"] == 10.0
    assert (array("image", first), array("image", second)) == (
        pytest.approx(77, abs=1),
        pytest.approx(127, abs=1),
    )
    assert first["meta.json"]["flow"]["seconds"] == {"flow": 0.055}
    assert second["meta.json"]["flow"]["seconds"] == {"flow": 0.945}, (
        "an image without depth is a neighbour too"
    )


@pytest.mark.parametrize(
    ("depth", "reason"),
    [
        (pgm(np.full((H, W), 2047), "<"), "missing everywhere"),
        (pgm(np.full((H, W), 0x0F0F), "<"), "expected 11 bits"),
        (pgm(np.full((H, W), 900), "<")[:-1], "863 bytes; expected 864"),
        (b"P6 1 1 255\nabc", "not a binary PGM"),
    ],
)
def test_bad_nyu_raw(depth: bytes, reason: str, build: Build, tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "s/d-1.0-1.pgm": depth,
        "s/r-1.0-1.ppm": ppm(np.zeros((H, W, 3), np.uint8)),
    }
    with pytest.raises(MmsslError, match=reason):
        build(kind="nyu_raw", root=str(put(tmp_path / "raw", files)))


# SUN RGB-D


def sun(folder: str, depth: np.ndarray, **changes: bytes | str) -> dict[str, bytes | str]:
    rotated = ((depth.astype(np.uint32) << 3) | (depth.astype(np.uint32) >> 13)).astype(np.uint16)
    segmentation = mat(
        seglabel=(np.arange(H * W).reshape(H, W) % 4).astype(np.uint8),
        names=cells(["chair", "Night_Stand", "ufo"]),
    )
    files: dict[str, bytes | str] = {
        "image/1.jpg": picture(1, (W, H)),
        "depth_bfx/1.png": png(rotated),
        "depth/1.png": png(rotated // 2 * 2),
        "fullres/1.jpg": picture(2, (W, H)),
        "intrinsics.txt": "30 0 11 0 31 8 0 0 1",
        "extrinsics/20140101.txt": "1 0 0 0\n0 0.8 0.6 0\n0 -0.6 0.8 0\n",
        "scene.txt": "bedroom\n",
        "seg.mat": segmentation,
    }
    return {f"{folder}/{name}": data for name, data in (files | changes).items()}


def test_sun_rgbd(build: Build, tmp_path: Path) -> None:
    depth = np.random.default_rng(0).integers(300, 20000, (H, W)).astype(np.uint16)
    depth[2, 3:9] = 0
    files = sun("kv1/NYUdata/N1", depth) | sun("xtion/b/N2", depth, **{"scene.txt": "lab"})
    root = put(tmp_path / "SUNRGBD", files)
    at = "/n/fs/sun3d/data/SUNRGBD/"
    (tmp_path / "allsplit.mat").write_bytes(
        mat(alltrain=cells([f"{at}kv1/NYUdata/N1", f"{at}kv1/gone"]), alltest=cells([f"{at}xtion/b/N2/"]))
    )
    manifest, splits = build(
        kind="sun_rgbd", root=str(root), split_file=str(tmp_path / "allsplit.mat"), normals=True,
        scenes=["office", "bedroom"], max_missing_share=0.5,
        labels={"classes": ["night stand", "bed", "chair"]},
    )  # fmt: skip
    assert manifest.built["missing"] == {"train": 1}
    assert manifest.classes == {
        "scene": ["office", "bedroom"],
        "segmentation": ["night stand", "bed", "chair"],
    }
    sample, other = splits["train"]["kv1/NYUdata/N1"], splits["test"]["xtion/b/N2"]
    np.testing.assert_allclose(array("depth", sample), depth / 1000, atol=1e-5)
    assert sample["image.jpg"] == picture(1, (W, H))
    expected = np.array([255, 2, 0, 255])[np.arange(H * W).reshape(H, W) % 4]
    assert (array("segmentation", sample) == expected).all()
    assert (sample["label.json"], sample["meta.json"]["scene"]) == ({"scene": 1}, "bedroom")
    assert "label.json" not in other
    assert other["meta.json"]["sensor"] == "xtion"
    assert sample["meta.json"]["intrinsics"] == K
    assert sample["meta.json"]["extrinsics"] == [[1, 0, 0, 0], [0, 0.8, 0.6, 0], [0, -0.6, 0.8, 0]]
    assert (array("normals", sample)[2, 3:9] == 0).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image/1.jpg": picture(1, (W, H + 1))}, "depth of 24×18 pixels, image of 24×19"),
        ({"intrinsics.txt": "1 2 3"}, "expected a 3×3 matrix"),
        ({"seg.mat": b"MATLAB 5.0 nonsense"}, "not a readable MATLAB file"),
        ({"seg.mat": mat(seglabel=np.zeros((H, W)))}, "expected seglabel and names"),
        (
            {"seg.mat": mat(seglabel=np.full((H, W), 3), names=cells(["chair"]))},
            "label 3; expected one of the 1 ",
        ),
        ({"seg.mat": mat(seglabel=np.ones((9, 9)), names=cells(["chair"]))}, "labels of 9×9 pixels"),
        ({"depth_bfx/1.png": png(np.full((H, W), 7, np.uint16))}, "57.3 m .*not the unit of this layout"),
    ],
)
def test_bad_sun_rgbd(changes: dict[str, Any], reason: str, build: Build, tmp_path: Path) -> None:
    files = sun("kv1/a", np.full((H, W), 900), **changes)
    with pytest.raises(MmsslError, match=reason):
        build(kind="sun_rgbd", root=str(put(tmp_path / "raw", files)), labels={"classes": ["chair"]})


# ScanNet


def scene(name: str, frames: int = 2) -> dict[str, bytes | str]:
    """Colour twice the size of depth."""
    rng = np.random.default_rng(3)
    color = np.repeat(np.repeat(rng.integers(0, 256, (H, W, 3), dtype=np.uint8), 2, 0), 2, 1)
    raw = np.repeat(np.repeat(rng.integers(0, 3, (H, W)) * 500, 2, 0), 2, 1).astype(np.uint16)
    files: dict[str, bytes | str] = {
        f"{name}/intrinsic/intrinsic_color.txt": "60 0 23 0\n0 62 17 0\n0 0 1 0\n0 0 0 1\n",
    }
    for at in range(frames):
        files[f"{name}/color/{at * 20}.png"] = png(color[..., ::-1])
        files[f"{name}/depth/{at * 20}.png"] = png(np.full((H, W), 1234 + at, np.uint16))
        files[f"{name}/label-filt/{at * 20}.png"] = png(raw)
        files[f"{name}/pose/{at * 20}.txt"] = "1 0 0 0.5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
    return files


def test_scannet(build: Build, tmp_path: Path) -> None:
    files = scene("scene0000_00") | scene("scene0001_00", 1)
    files["scene0000_00/pose/20.txt"] = "-inf -inf -inf -inf\n" * 3 + "-inf -inf -inf -inf\n"
    root = put(tmp_path / "raw", files)
    put(tmp_path, {
        "train.txt": "scene0000_00\n", "val.txt": "scene0001_00\nscene0002_00\n",
        "labels.tsv": "id\tcategory\tnyu40class\n500\tarmchair\tchair\n1000\tyarmulka\t\n7\tbed\tbed\n",
    })  # fmt: skip
    source = {
        "kind": "scannet", "root": str(root), "max_missing_share": 0.5,
        "lists": {"train": str(tmp_path / "train.txt"), "val": str(tmp_path / "val.txt")},
        "labels": {"table": str(tmp_path / "labels.tsv"), "name": "nyu40class"},
    }  # fmt: skip
    manifest, splits = build(**source, flow={"encoding": "kitti"})
    assert manifest.built["missing"] == {"val": 1}
    assert manifest.classes == {"segmentation": ["chair", "bed"]}
    first, last = splits["train"]["scene0000_00/000000"], splits["train"]["scene0000_00/000020"]
    assert (array("depth", first) == np.float32(1.234)).all()
    small = pixels(files["scene0000_00/color/0.png"])[::2, ::2]
    assert np.abs(array("image", first).astype(int) - small).mean() < 8, "means over 2 × 2, then JPEG"
    raw = pixels(files["scene0000_00/label-filt/0.png"])[::2, ::2]
    assert (array("segmentation", first) == np.select([raw == 500], [0], 255)).all()
    assert first["meta.json"]["intrinsics"] == [[30, 0, 11.25], [0, 31, 8.25], [0, 0, 1]]
    assert first["meta.json"]["pose"][0] == [1, 0, 0, 0.5]
    assert "pose" not in last["meta.json"], "not localised"
    assert array("flow", first) == pytest.approx(0, abs=0.1)
    assert "flow.png" not in last
    assert manifest.fields["flow"] == pytest.approx(1 / 3)
    assert last["meta.json"]["timestamp"] == pytest.approx(20 / 30)


def test_scannet_prefers_the_depth_cameras_intrinsics(build: Build, tmp_path: Path) -> None:
    files = scene("s") | {"s/intrinsic/intrinsic_depth.txt": "29 0 10 0\n0 29 9 0\n0 0 1 0\n0 0 0 1\n"}
    _, splits = build(kind="scannet", root=str(put(tmp_path / "raw", files)), every=2, normals=True)
    (sample,) = splits["train"].values()
    assert sample["meta.json"]["intrinsics"] == [[29, 0, 10], [0, 29, 9], [0, 0, 1]]
    np.testing.assert_allclose(array("normals", sample), np.broadcast_to([0, 0, -1], (H, W, 3)), atol=1e-3)


@pytest.mark.parametrize(
    ("files", "options", "reason"),
    [
        ({"s/label-filt/0.png": png(np.full((H, W), 9, np.uint16))}, {}, "label 9; expected one of the 2 "),
        ({"s/label-filt/0.png": picture(0, (W, H), "PNG")}, {}, "labels have pixels of mode RGB"),
        ({"s/depth/0.png": png(np.full((H, W), 2, np.uint16))}, {}, "depth_scale 1 \\(metres\\) would"),
        ({}, {"depth_scale": 1}, "depth_scale 1000 \\(millimetres\\) would give 1.23 m"),
        ({"s/pose/0.txt": "1 2 3\n"}, {}, "expected a 4×4 matrix"),
        ({"s/color/40.jpg": picture(0)}, {}, "no depth/40.png"),
    ],
)  # fmt: skip
def test_bad_scannet(
    files: dict[str, Any], options: dict[str, Any], reason: str, build: Build, tmp_path: Path
) -> None:
    root = put(tmp_path / "raw", scene("s", 1) | files)
    labels = {"classes": ["chair", "bed"], "first": 500, "ignore": [0, 1000]}
    with pytest.raises(MmsslError, match=reason):
        build(**{"kind": "scannet", "root": str(root), "labels": labels} | options)
