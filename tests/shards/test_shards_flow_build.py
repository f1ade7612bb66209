"""Flow computed while videos are built: every source of videos, its times, its segments, its cuts."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from raw_videos import scene, write
from tiny_shards import Build, put
from typer.testing import CliRunner

from mmssl.cli.shards import app
from mmssl.errors import MmsslError
from mmssl.miniworld import MiniworldConfig, clip
from mmssl.shards import encode
from mmssl.shards.build import build_shards
from mmssl.shards.flow import FlowOptions, estimate_flow
from mmssl.shards.flow.estimators import Farneback
from mmssl.shards.flow.track import FlowTrack
from mmssl.shards.foreign import index_tars
from mmssl.shards.inspect import write_html
from mmssl.shards.local import LocalShards
from mmssl.shards.recipe import load_recipe, parse_recipe
from mmssl.shards.writer import RawSample, write_shard
from mmssl.stream.decode import EncodedFlow, EncodedVideo
from mmssl.stream.flow import open_flow
from mmssl.stream.video import open_video

SPEED = 2
"""Pixels to the right from each frame to the next."""
RECIPES = Path(__file__).parents[2] / "shards"


def pan(count: int, seed: int = 0) -> list[np.ndarray]:
    """Frames (64, 80, 3) of what a camera sees that moves to the left."""
    wide = scene(seed, 64, 80 + SPEED * count)
    return [wide[:, SPEED * (count - at) :][:, :80] for at in range(count)]


def fields(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(n,) times and (n, 2, H, W)."""
    with open_flow(EncodedFlow(data)) as flow:
        return flow.times, flow.read(np.arange(len(flow))).numpy()


def medians(flow: np.ndarray) -> np.ndarray:
    """(n, 2), away from borders."""
    return np.asarray(np.nanmedian(flow[:, :, 8:-8, 8:-8], axis=(2, 3)))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    raw = write(pan(12), 10, crf="8")
    return put(tmp_path / "raw", {"a/one.mp4": raw, "a/two.mp4": raw}).absolute()


def source(videos: Path, flow: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"kind": "video_folder", "root": str(videos), "flow": flow, **changes}


def test_a_field_starts_at_every_frame_that_has_a_next_one(build: Build, videos: Path) -> None:
    _, splits = build(**source(videos, {"backward": True}))
    sample = splits["train"]["a/one"]
    assert sample["meta.json"]["flow"] == {
        "estimator": "dis", "preset": "medium", "gap": 1, "width": 80, "height": 64, "consistency": False,
        "encoding": "jpeg",
    }  # fmt: skip
    times, flow = fields(sample["flow.mkv"])
    back_times, back = fields(sample["flow_backward.mkv"])
    with open_video(EncodedVideo(sample["video.mp4"], "mp4")) as video:
        np.testing.assert_allclose(times, video.times[:-1], atol=1e-4)
        np.testing.assert_allclose(back_times, video.times[1:], atol=1e-4)
    np.testing.assert_allclose(medians(flow), [[SPEED, 0]] * 11, atol=0.2)
    np.testing.assert_allclose(medians(back), [[-SPEED, 0]] * 11, atol=0.2)


def test_it_is_the_flow_of_the_frames_before_they_are_encoded(build: Build, tmp_path: Path) -> None:
    """Not of what H.264 makes of them: the frames as the source gives them; a gap of 3 frames."""
    pictures = {f"s/img/{at:02d}.png": _png(frame) for at, frame in enumerate(pan(7))}
    raw = put(tmp_path / "raw", pictures)
    options = {"estimator": "farneback", "gap": 3, "encoding": "kitti", "short_side": 48}
    encoding = {"crf": 40, "fps": 30}
    _, splits = build(
        kind="frame_folders", root=str(raw), truth="none", flow=options, encoding=encoding, fps=30
    )
    times, flow = fields(splits["test"]["s"]["flow.mkv"])
    np.testing.assert_allclose(times, np.arange(4) / 30, atol=1e-6)
    estimate = estimate_flow(FlowOptions.model_validate(options))
    frames = [simplejpeg.decode_jpeg(encode.jpeg(frame)) for frame in pan(7)]
    for at in range(4):
        expected = estimate(frames[at], frames[at + 3])
        np.testing.assert_allclose(flow[at].transpose(1, 2, 0), expected, atol=1 / 127)
    assert flow.shape == (4, 2, 48, 60)
    np.testing.assert_allclose(medians(flow), [[3 * SPEED * 0.75, 0]] * 4, atol=0.5)


def _png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["video_folder", "frame_folders"])
def test_copies_have_flow_as_well(kind: str, build: Build, videos: Path, tmp_path: Path) -> None:
    if kind == "video_folder":
        _, splits = build(**source(videos, {}, encoding={"mode": "copy"}))
        sample = splits["train"]["a/one"]
    else:
        raw = put(tmp_path / "frames", {f"s/img/{at:02d}.png": _png(f) for at, f in enumerate(pan(12))})
        _, splits = build(kind=kind, root=str(raw), truth="none", fps=10, flow={})
        sample = splits["test"]["s"]
    times, flow = fields(sample["flow.mkv"])
    np.testing.assert_allclose(times, np.arange(11) / 10, atol=1e-4)
    np.testing.assert_allclose(medians(flow), [[SPEED, 0]] * 11, atol=0.2)


def test_uneven_frames_keep_their_times(build: Build, tmp_path: Path) -> None:
    moments = [0, 0.1, 0.2, 0.5, 0.6, 0.9]
    raw = put(tmp_path / "raw", {"a/one.mp4": write(pan(6), 30, times=moments, bf="0")})
    _, splits = build(kind="video_folder", root=str(raw), flow={}, encoding={"mode": "copy"})
    times, _ = fields(splits["train"]["a/one"]["flow.mkv"])
    np.testing.assert_allclose(times, moments[:-1], atol=1e-4)


def test_segments_share_the_flow_of_the_whole(build: Build, videos: Path, tmp_path: Path) -> None:
    """1.2 s in segments of 0.5 s that overlap by 0.2 s: fields between the frames of one segment only."""
    _, splits = build(**source(videos, {"encoding": "kitti"}))
    _, whole = fields(splits["train"]["a/one"]["flow.mkv"])
    recipe = {
        "name": "set",
        "source": source(videos, {"encoding": "kitti"}, segments={"seconds": 0.5, "overlap": 0.2}),
    }
    build_shards(parse_recipe(recipe, "x"), tmp_path / "cut")
    shards = LocalShards(tmp_path / "cut")
    found = [shards.sample("train", id_) for id_ in range(shards.manifest.splits["train"].samples)]
    segments = {sample.key: sample.members for sample in found if sample.key.startswith("a/one")}
    assert sorted(segments) == ["a/one-000", "a/one-001", "a/one-002", "a/one-003"]
    for number in range(3):
        times, flow = fields(segments[f"a/one-00{number}"]["flow.mkv"])
        np.testing.assert_allclose(times, np.arange(4) / 10, atol=1e-6)
        np.testing.assert_array_equal(flow, whole[3 * number : 3 * number + 4])


def test_a_clip_as_short_as_the_gap_has_none(build: Build, videos: Path) -> None:
    manifest, splits = build(**source(videos, {"gap": 12}))
    assert "flow.mkv" not in splits["train"]["a/one"]
    assert "flow" not in splits["train"]["a/one"]["meta.json"]
    assert "flow" not in manifest.fields


def test_nothing_is_known_across_a_cut(build: Build, tmp_path: Path) -> None:
    dark = [np.asarray(255 - frame) for frame in pan(8, seed=7)]
    raw = put(tmp_path / "raw", {"a/one.mp4": write(pan(8) + dark, 10, crf="8")})
    _, splits = build(kind="video_folder", root=str(raw), flow={"gap": 2})
    sample = splits["train"]["a/one"]
    assert sample["meta.json"]["cuts"] == [0.8]
    _, flow = fields(sample["flow.mkv"])
    unknown = np.isnan(flow).all(axis=(1, 2, 3))
    assert np.flatnonzero(unknown).tolist() == [6, 7], "from frames 6 and 7 to 8 and 9"
    assert np.isfinite(flow[~unknown]).all()


def test_every_camera_has_its_own(build: Build, tmp_path: Path) -> None:
    mirrored = [np.ascontiguousarray(frame[:, ::-1]) for frame in pan(8)]
    files = {"t/left.mp4": write(pan(8), 10, crf="8"), "t/right.mp4": write(mirrored, 10, crf="8")}
    raw = put(tmp_path / "raw", files)
    _, splits = build(kind="multi_camera", root=str(raw), flow={"backward": True})
    sample = splits["train"]["t"]
    for field, speed in (("flow", 1), ("flow_right", -1), ("flow_backward", -1), ("flow_backward_right", 1)):
        _, flow = fields(sample[f"{field}.mkv"])
        np.testing.assert_allclose(medians(flow), [[speed * SPEED, 0]] * 7, atol=0.2)


def test_flow_that_is_not_finite_skips_the_video_and_names_the_frames(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Farneback.between
    calls = 0

    def broken(self: Farneback, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        nonlocal calls
        flow = whole(self, before, after)
        calls += 1
        if calls == 5:
            flow[0, 0] = np.nan
        return flow

    monkeypatch.setattr(Farneback, "between", broken)
    recipe = {"name": "set", "source": source(videos, {"estimator": "farneback"}), "max_bad_share": 0.5}
    manifest = build_shards(parse_recipe(recipe, "x"), tmp_path / "out")
    assert manifest.samples == 1
    (skipped,) = map(json.loads, (tmp_path / "out" / "skipped.jsonl").read_text().splitlines())
    assert skipped["reason"] == "frames 4 and 5: flow of farneback is not finite"


@pytest.mark.parametrize("count", [2, 12])
def test_a_field_that_cannot_be_stored_is_no_silent_gap(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether others follow it or it is the last one; fields are stored behind the caller's back."""
    monkeypatch.setattr(Farneback, "between", lambda *_: np.full((64, 80, 2), 2e6, np.float32))
    track = FlowTrack(FlowOptions(estimator="farneback"))

    def whole() -> None:
        for frame in pan(count):
            track.put(frame)
        track.members(0, [at / 10 for at in range(count)], [])

    with pytest.raises(ValueError, match="flow of 2e\\+06 pixels"):
        whole()


def test_weights_that_are_missing_stop_the_build(videos: Path, tmp_path: Path) -> None:
    flow = {"estimator": "raft", "weights": str(tmp_path / "absent.pth")}
    with pytest.raises(MmsslError, match=r"absent.pth: no such file; expected the state dict"):
        build_shards(parse_recipe({"name": "set", "source": source(videos, flow)}, "x"), tmp_path / "out")


@pytest.mark.parametrize(("encoding", "tolerance"), [("jpeg", 0.05), ("kitti", 1 / 127)])
def test_miniworlds_flow_is_exact(encoding: str, tolerance: float, build: Build) -> None:
    world = {"size": 64, "frames": 6}
    asked = {"fields": ["video", "flow", "meta"], "flow_encoding": encoding, "world": world}
    _, splits = build(kind="miniworld_clips", clips={"train": 2}, **asked)
    truth = clip("train", 1, MiniworldConfig.model_validate(world))
    times, flow = fields(splits["train"]["000001"]["flow.mkv"])
    np.testing.assert_allclose(times, np.arange(5) / truth.fps, atol=1e-6)
    error = np.abs(flow.transpose(0, 2, 3, 1) - truth.flow)
    assert (error.mean() if encoding == "jpeg" else error.max()) < tolerance
    meta = splits["train"]["000001"]["meta.json"]["flow"]
    assert (meta["estimator"], meta["gap"], meta["encoding"]) == ("exact", 1, encoding)


def test_the_recipe_its_verification_and_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{split}/turn/one.mp4": write(pan(6), 10) for split in ("train", "val")}
    monkeypatch.setenv("VIDEOS", str(put(tmp_path / "raw", files)))
    manifest = build_shards(load_recipe(RECIPES / "video_flow.yaml"), tmp_path / "out")
    assert manifest.fields == {"flow": 1.0, "label": 1.0, "meta": 1.0, "video": 1.0}
    run = CliRunner().invoke(app, ["verify", str(tmp_path / "out"), "--decode"])
    assert run.exit_code == 0, run.output
    write_html(tmp_path / "out", tmp_path / "s.html", count=2)
    page = (tmp_path / "s.html").read_text()
    assert page.count("<img") == 2 * 2
    assert "unreadable" not in page


def test_verification_decodes_every_field(tmp_path: Path) -> None:
    good = encode.flow_jpeg(np.zeros((16, 16, 2), np.float32))
    for name, last, words in (("good", good, "all is well"), ("bad", good[:-20], "field 1 of 2")):
        data = encode.flow_mkv([good, last], [0, 1], (16, 16))
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "0.tar", [RawSample("one", {"flow.mkv": data})])
        index_tars([tmp_path / name])
        run = CliRunner().invoke(app, ["verify", str(tmp_path / name), "--decode"])
        assert (run.exit_code == 0) == (name == "good")
        assert words in " ".join(run.output.split())
