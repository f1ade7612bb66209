"""Raw layouts of videos, sequences, RGB-D frames and the miniworld: what comes out, what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from tiny_shards import MINIWORLD_FIELDS, Build, picture, put

from mmssl.errors import MmsslError
from mmssl.shards import encode
from mmssl.shards.sources.base import unique_keys
from mmssl.shards.sources.tum import associate


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


def test_video_folders(build: Build, tmp_path: Path) -> None:
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
    manifest, splits = build(0.9, kind="video_folder", root=str(raw), encoding={"mode": "copy"})
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
        ("f-1.depth.png", depth_file(np.ones((18, 24), np.uint8)), "expected 16-bit grey"),
        ("f-1.color.jpg", b"noise", "not a readable image"),
        ("f-1.pose.txt", b"1 2 3", "expected a 4×4 matrix"),
        ("camera-intrinsics.txt", b"a b c", "expected numbers"),
    ],
)
def test_damaged_rgbd_frames(name: str, data: bytes, reason: str, build: Build, tmp_path: Path) -> None:
    good: dict[str, bytes | str] = {
        "f-1.color.jpg": picture(0),
        "f-1.depth.png": depth_file(np.full((18, 24), 900, np.uint16)),
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
    options = {"depth_scale": 5000, "intrinsics": [517, 516, 318, 255], "max_missing_share": 0.5}
    manifest, splits = build(kind="rgbd", root=str(root), **options)
    assert manifest.built["missing"] == {"train": 1}
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
    from mmssl.miniworld import CLASSES, MiniworldConfig, clip
    from mmssl.stream.decode import decode

    world = {"size": 32, "frames": 5}
    _, splits = build(
        kind="miniworld",
        clips={"train": 2, "val": 1},
        frames_per_clip=2,
        fields=MINIWORLD_FIELDS,
        world=world,
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
    shape = CLASSES["shape"].index
    for instance, name in enumerate(truth.shapes, start=1):
        assert (ids[truth.segmentation[2] == instance] == 1 + shape(name)).all()
    assert ((ids == 0) == (truth.segmentation[2] == 0)).all()
    assert 1 + truth.labels["shape"] in ids, "the main object's shape is its label"
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
