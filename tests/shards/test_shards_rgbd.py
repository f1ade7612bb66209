"""Frames of 7-Scenes and TUM with what is computed of them: normals, flow, labels; and what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_shards import Build, picture, put

from mmssl.errors import MmsslError
from mmssl.shards.flow import FlowOptions, estimate_flow
from mmssl.shards.normals import normals_from_depth
from mmssl.shards.sources.base import BadInput
from mmssl.shards.sources.depth import check_range, nearest, scaled
from mmssl.shards.sources.labels import Labels, label_image
from mmssl.stream.decode import decode

H, W = 48, 64
CAMERA = [[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]]


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def world() -> np.ndarray:
    """(H, W + 40, 3) of which frames are windows that move to the right."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 30, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (W + 40, H), interpolation=cv2.INTER_CUBIC))


def seven_scenes(shifts: tuple[int, ...]) -> dict[str, bytes | str]:
    x, y = np.meshgrid(np.arange(W), np.arange(H))
    depth = np.rint(1000 * 2 / (1 + 0.3 * (x - 31.5) / 60 - 0.2 * (y - 23.5) / 60)).astype(np.uint16)
    depth[:5, :7] = 65535
    files: dict[str, bytes | str] = {"camera-intrinsics.txt": "60 0 31.5\n0 60 23.5\n0 0 1\n"}
    for at, shift in enumerate(shifts):
        files[f"frame-{at * 3:06d}.color.png"] = png(world()[:, shift : shift + W])
        files[f"frame-{at * 3:06d}.depth.png"] = png(depth)
    return files


def array(sample: dict[str, Any], column: str) -> np.ndarray:
    field, _, extension = column.partition(".")
    return decode(field, extension, sample[column]).numpy()


def test_normals_of_stored_depth(build: Build, tmp_path: Path) -> None:
    _, splits = build(kind="rgbd", root=str(put(tmp_path / "raw", seven_scenes((0,)))), normals=True)
    sample = splits["train"]["frame-000000"]
    depth = array(sample, "depth.png")[0]
    truth = -np.array([0.3, -0.2, 1]) / np.sqrt(1.13)
    found = array(sample, "normals.png").transpose(1, 2, 0)
    np.testing.assert_allclose(found, normals_from_depth(depth, np.array(CAMERA)), atol=1e-4)
    assert (found[:5, :7] == 0).all()
    np.testing.assert_allclose(np.median(found[depth > 0], axis=0), truth, atol=0.01)


@pytest.mark.parametrize(("gap", "backward"), [(1, False), (2, True)])
def test_flow_to_the_neighbours_of_a_sequence(gap: int, backward: bool, build: Build, tmp_path: Path) -> None:
    root = put(tmp_path / "raw", seven_scenes((0, 1, 3, 5)))
    options = {"gap": gap, "backward": backward}
    manifest, splits = build(kind="rgbd", root=str(root), flow=options, normals=False)
    samples = [splits["train"][f"frame-{at * 3:06d}"] for at in range(4)]
    shifts = [0, 1, 3, 5]
    for at, sample in enumerate(samples):
        for column, other in (("flow.jpg", at + gap), ("flow_backward.jpg", at - gap if backward else -1)):
            if not 0 <= other < 4:
                assert column not in sample
                continue
            flow = array(sample, column)
            moved = shifts[at] - shifts[other]  # the window moves right, so the picture in it moves left
            inside = flow[:, 8:-8, 14:-14]
            np.testing.assert_allclose(np.median(inside, axis=(1, 2)), [moved, 0], atol=0.35)
            seconds = sample["meta.json"]["flow"]["seconds"][column.partition(".")[0]]
            assert seconds == pytest.approx((other - at) * 3 / 30, abs=1e-6)
    assert samples[0]["meta.json"]["flow"]["estimator"] == "dis"
    assert "normals.png" not in samples[0]
    assert manifest.fields["flow"] == (4 - gap) / 4
    exact = estimate_flow(FlowOptions(gap=gap))(
        world()[:, :W, ::-1].copy(), world()[:, shifts[gap] : shifts[gap] + W, ::-1].copy()
    )
    assert np.abs(array(samples[0], "flow.jpg") - exact.transpose(2, 0, 1)).mean() < 0.05


def test_flow_leads_to_raw_neighbours_whatever_is_taken(build: Build, tmp_path: Path) -> None:
    files = seven_scenes((0, 2, 5, 9, 14)) | {"frame-000009.color.png": b"noise"}
    root = put(tmp_path / "raw", files)
    manifest, splits = build(0.5, kind="rgbd", root=str(root), flow={"encoding": "kitti"}, every=2)
    first, third, last = (splits["train"][f"frame-{number:06d}"] for number in (0, 6, 12))
    assert np.median(array(first, "flow.png")[0, 8:-8, 14:-14]) == pytest.approx(-2, abs=0.2)
    assert "flow.png" not in third, "its neighbour is damaged: not its own fault"
    assert "flow.png" not in last
    assert manifest.built["skipped"] == {}
    assert "flow" not in third["meta.json"]


def test_everything_is_reduced_together(build: Build, tmp_path: Path) -> None:
    files = seven_scenes((0, 4))
    labels = np.random.default_rng(0).integers(0, 4, (H, W)).astype(np.uint8)
    labels[labels == 0] = 255
    files["frame-000000.label.png"] = png(labels)
    root = str(put(tmp_path / "raw", files))
    small = {"short_side": 24, "labels": {"classes": ["a", "b", "c"]}}
    _, splits = build(kind="rgbd", root=root, normals=True, flow={}, **small)
    sample, last = splits["train"]["frame-000000"], splits["train"]["frame-000003"]
    full = cv2.imdecode(np.frombuffer(files["frame-000000.depth.png"], np.uint8), -1)  # type: ignore[arg-type]
    assert full is not None
    depth = array(sample, "depth.png")[0]
    assert (np.rint(depth * 1000) == np.where(full == 65535, 0, full)[1::2, 1::2]).all()
    assert (
        array(sample, "segmentation.png")[0] == np.where(labels == 255, 255, labels - 1)[1::2, 1::2]
    ).all()
    assert "segmentation.png" not in last
    halves = world()[:, :W, ::-1].reshape(H // 2, 2, W // 2, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(array(sample, "image.jpg") - halves).mean() < 4
    assert sample["meta.json"]["intrinsics"] == [[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]
    whole = normals_from_depth(np.where(full == 65535, 0, full) / 1000, np.array(CAMERA))
    np.testing.assert_allclose(array(sample, "normals.png").transpose(1, 2, 0), whole[1::2, 1::2], atol=1e-4)
    assert np.median(array(sample, "flow.jpg")[0, 4:-4, 7:-7]) == pytest.approx(-2, abs=0.2)


def test_a_palette_keeps_its_indices(build: Build, tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 3, (H, W)).astype(np.uint8)
    image = Image.fromarray(raw)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert image.mode == "P"
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert (label_image(buffer.getvalue()) == raw).all()
    files = seven_scenes((0,)) | {"frame-000000.label.png": buffer.getvalue()}
    source = {"kind": "rgbd", "root": str(put(tmp_path / "raw", files))}
    manifest, splits = build(**source, labels={"classes": ["sky", "sea"], "first": 0, "ignore": [2]})
    stored = array(splits["train"]["frame-000000"], "segmentation.png")[0]
    assert (stored == np.where(raw == 2, 255, raw)).all()
    assert manifest.classes == {"segmentation": ["sky", "sea"]}


@pytest.mark.parametrize(
    ("name", "data", "options", "reason"),
    [
        ("frame-000000.label.png", png(np.full((H, W), 4, np.uint8)), {}, "label 4; expected one of the 2 "),
        ("frame-000000.label.png", png(np.ones((H, 9), np.uint8)), {}, "labels of 9×48 pixels, image of"),
        ("frame-000000.label.png", b"noise", {}, "labels are not a readable PNG"),
        ("frame-000000.depth.png", png(np.full((H, 9), 900, np.uint16)), {}, "depth of 9×48 pixels"),
        ("frame-000000.depth.png", png(np.full((H, W), 65535, np.uint16)), {}, "missing everywhere"),
        ("frame-000000.depth.png", png(np.full((H, W), 2, np.uint16)), {}, "depth_scale 1 .metres. would"),
        ("frame-000003.color.png", picture(0, (W, H), "PNG"), {}, "no frame-000003.depth.png beside it"),
        ("camera-intrinsics.txt", b"", {"normals": True}, "expected a 3×3 matrix"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    name: str, data: bytes, options: dict[str, Any], reason: str, build: Build, tmp_path: Path
) -> None:
    root = str(put(tmp_path / "raw", seven_scenes((0,)) | {name: data}))
    with pytest.raises(MmsslError, match=reason):
        build(kind="rgbd", root=root, labels={"classes": ["a", "b"]}, **options)


def test_normals_without_a_camera_are_refused_before_anything_is_read(build: Build, tmp_path: Path) -> None:
    files = seven_scenes((0,))
    del files["camera-intrinsics.txt"]
    with pytest.raises(MmsslError, match="need the camera; expected a file of intrinsics"):
        build(kind="rgbd", root=str(put(tmp_path / "raw", files)), normals=True)


def test_timestamps_that_match_nothing_are_counted_and_named(build: Build, tmp_path: Path) -> None:
    depth = png(np.full((18, 24), 5000, np.uint16))
    files: dict[str, bytes | str] = {
        "rgb.txt": "2.0 rgb/c.png\n1.0 rgb/a.png\n1.5 rgb/b.png\n3.0 rgb/gone.png\n",
        "depth.txt": "1.01 depth/a.png\n2.01 depth/c.png\n3.0 depth/gone.png\n",
        **{f"rgb/{name}.jpg": picture(0) for name in "abc"},
        **{f"depth/{name}.png": depth for name in "ac"},
    }
    source = {"kind": "rgbd", "root": str(put(tmp_path / "raw", files)), "depth_scale": 5000}
    with pytest.raises(MmsslError, match=r"1 of 4 listed frames of split 'train' are missing.*rgb/gone\.png"):
        build(**source)
    source["max_missing_share"] = 0.25
    with pytest.raises(MmsslError, match="no depth map of its own"):
        build(0.3, **source)
    _, splits = build(0.4, **source)
    assert sorted(splits["train"]) == ["1-000000", "2-000000"]
    assert (tmp_path / "set" / "missing.txt").read_text() == "train\trgb/gone.png\n"
    (skipped,) = map(json.loads, (tmp_path / "set" / "skipped.jsonl").read_text().splitlines())
    assert (skipped["key"], skipped["input"]) == ("1-500000", "rgb/b.jpg")
    assert "the nearest is 0.4900 s away" in skipped["reason"]


@given(
    scale=st.sampled_from([1, 100, 256, 1000, 5000, 10000]), metres=st.floats(0.7, 6), seed=st.integers(0, 9)
)
def test_a_wrong_unit_is_either_plausible_or_refused_with_a_plausible_scale(
    scale: int, metres: float, seed: int
) -> None:
    depth = metres * np.random.default_rng(seed).uniform(0.8, 1.2, (9, 9))
    for configured in (1, 100, 256, 1000, 5000, 10000):
        read = depth * scale / configured
        if 0.05 <= np.median(read) <= 50:
            check_range(read, configured)
            continue
        with pytest.raises(BadInput, match="would give") as caught:
            check_range(read, configured)
        suggested = float(str(caught.value).split("depth_scale ")[2].split(" ")[0])
        assert 0.4 <= np.median(read) * configured / suggested <= 10


@given(h=st.integers(3, 40), w=st.integers(3, 40), new_h=st.integers(1, 40), new_w=st.integers(1, 40))
def test_the_nearest_pixel_and_the_camera_agree(h: int, w: int, new_h: int, new_w: int) -> None:
    """A reduced map shows, at each pixel's ray, a pixel whose own ray is at most half a pixel away."""
    y, x = np.indices((h, w)).astype(float)
    camera = scaled([[50.0, 1.0, 7.25], [0.0, 40.0, 9.5], [0.0, 0.0, 1.0]], (h, w), (new_h, new_w))
    k, small = np.array([[50.0, 1.0, 7.25], [0, 40.0, 9.5], [0, 0, 1]]), np.array(camera)
    taken = nearest(np.stack([x, y], -1), (new_h, new_w)).reshape(-1, 2)
    new_y, new_x = np.indices((new_h, new_w)).reshape(2, -1).astype(float)
    rays = np.linalg.inv(small) @ np.stack([new_x, new_y, np.ones_like(new_x)])
    assert np.abs((k @ rays)[:2].T - taken).max() <= 0.5 + 1e-9


def test_labels_by_number_and_name(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,class\n3,sky\n5,\n7,Sea_water\n9,sky\n")
    labels = Labels(table=str(table))
    assert labels.names() == ["sky", "Sea_water"]
    assert labels.by_number() == {3: 0, 5: 255, 7: 1, 9: 0}
    assert Labels(table=str(table), classes=("sea water",)).by_number() == {3: 255, 5: 255, 7: 0, 9: 255}
    assert Labels(classes=("sky", "sea")).numbered(["Sea", "ufo", "sky"]) == {1: 1, 2: 255, 3: 0}
    assert Labels(classes=tuple("abc"), first=4).by_number() == {4: 0, 5: 1, 6: 2}
    for wrong, message in (
        (Labels(), "neither classes nor a table"),
        (Labels(table=str(table), classes=("moon",)), "no class 'moon'; expected one of sky"),
        (Labels(table=str(tmp_path / "none.csv")), "expected a table of labels"),
        (Labels(table=str(table), name="klass"), "no column 'klass'; found id, class"),
    ):
        with pytest.raises(MmsslError, match=message):
            wrong.names()
    many = tmp_path / "many.csv"
    many.write_text("id,class\n" + "".join(f"{n},c{n}\n" for n in range(300)))
    with pytest.raises(MmsslError, match="300 classes; expected at most 255"):
        Labels(table=str(many)).names()


def test_stretches_of_time_make_a_validation_split(build: Build, tmp_path: Path) -> None:
    """Frames are 0.1 s apart: stretches of 0.2 s hold two each, and every third goes."""
    raw = put(tmp_path / "raw", seven_scenes(tuple(range(9))))
    _, splits = build(kind="rgbd", root=str(raw), stretches={"seconds": 0.2, "every": 3})
    assert sorted(splits["val"]) == ["frame-000012", "frame-000015"]
    assert len(splits["train"]) == 7
    with pytest.raises(MmsslError, match=r"stretches: expected of one of train .* found 'test' and 'val'"):
        build(kind="rgbd", root=str(raw), stretches={"seconds": 0.2, "of": "test"})
