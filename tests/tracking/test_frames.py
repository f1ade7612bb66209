"""Frames of videos, folders and cameras: the right ones, in any order, and what is wrong with bad ones."""

import io
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmssl.errors import MmsslError
from mmssl.shards.encode import h264
from mmssl.stream.decode import EncodedVideo
from mmssl.stream.video import open_video
from mmssl.tracking import frames as frames_module
from mmssl.tracking.frames import Camera, ImageFiles, VideoFrames, open_frames


def grey_levels(count: int) -> list[np.ndarray]:
    """Frames (48, 64, 3) that tell their number by their brightness."""
    return [np.full((48, 64, 3), 10 + 5 * number, np.uint8) for number in range(count)]


def level(frame: torch.Tensor) -> int:
    return round((float(frame.float().mean()) - 10) / 5)


def film(count: int, gop: int, b_frames: int = 0) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        options = {"g": str(gop), "keyint_min": str(gop), "bf": str(b_frames), "sc_threshold": "0"}
        stream = output.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in grey_levels(count):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(("gop", "b_frames"), [(250, 0), (250, 3), (8, 0), (12, 2)])
def test_a_video_walked_forward_is_decoded_once(tmp_path: Path, gop: int, b_frames: int) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(film(48, gop, b_frames))
    video = open_frames(path)
    assert isinstance(video, VideoFrames)
    assert (len(video), video.rate) == (48, pytest.approx(30))
    assert [level(frame) for frame in video.walk(range(48))] == list(range(48))
    assert video.video.decoded <= 48 + 4  # the blocks go on where the last one ended
    again = open_frames(path)
    assert [level(again[number]) for number in range(48)] == list(range(48))
    assert again.video.decoded <= 48 + 4 * (b_frames + 1)


def test_a_video_is_walked_in_any_order() -> None:
    video = VideoFrames(open_video(EncodedVideo(film(48, 250, 2), "mp4")), "clip")
    rng = np.random.default_rng(0)
    orders = [range(47, -1, -1), range(3, 40, 9), rng.integers(0, 48, 60).tolist(), [5, 5, 6, 40, 41, 7]]
    for order in orders:
        assert [level(frame) for frame in video.walk(order)] == list(order)
    walks = [video.walk(range(48)), video.walk(range(47, -1, -1))]
    assert [(level(a), level(b)) for a, b in zip(*walks, strict=True)] == [(i, 47 - i) for i in range(48)]
    assert video[7].shape == (3, 48, 64)
    assert video[7].permute(1, 2, 0).is_contiguous()
    with pytest.raises(MmsslError, match="clip: frame 48 cannot be read"):
        video[48]


def test_a_damaged_video_ends_in_a_message(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(b"these are not frames" * 50)
    with pytest.raises(MmsslError, match=r"notes.mp4: .*expected a video or a folder of images"):
        open_frames(path)
    with pytest.raises(MmsslError, match="no such file; expected a video, a folder of images or a camera"):
        open_frames(tmp_path / "nothing.mp4")


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 10, 9, 100):
        Image.fromarray(np.full((6, 8, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "groundtruth.txt").write_text("1,1,2,2\n")
    (tmp_path / ".frame3.png").write_bytes(b"")
    folder = open_frames(str(tmp_path))
    assert [int(frame[0, 0, 0]) for frame in folder.walk(range(len(folder)))] == [1, 2, 9, 10, 100]
    assert folder.name == tmp_path.name


def test_an_otb_folder_has_its_sequences_name(tmp_path: Path) -> None:
    images = tmp_path / "David" / "img"
    images.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(images / "0300.jpg")
    assert open_frames(images).name == "David"
    with pytest.raises(MmsslError, match=r"no images; expected .*; is it one of its folders: img"):
        open_frames(images.parent)


def test_grey_16_bit_and_differently_sized_images_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 8), 90, np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.full((7, 9), 200 * 256 + 13, np.uint16)).save(tmp_path / "2.png")
    Image.fromarray(np.full((4, 4, 3), (1, 2, 3), np.uint8)).save(tmp_path / "3.bmp")
    folder = open_frames(tmp_path)
    assert [tuple(frame.shape) for frame in folder.walk(range(3))] == [(3, 6, 8), (3, 7, 9), (3, 4, 4)]
    assert all(frame.dtype == torch.uint8 for frame in folder.walk(range(3)))
    assert [folder[0].unique().tolist(), folder[1].unique().tolist()] == [[90], [200]]
    assert folder[2][:, 0, 0].tolist() == [1, 2, 3]


def test_missing_and_broken_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "0001.jpg"
    Image.new("RGB", (32, 32), "red").save(path)
    whole = path.read_bytes()
    (tmp_path / "0002.jpg").write_bytes(whole[: len(whole) // 2])
    frames = ImageFiles([path, tmp_path / "0002.jpg", tmp_path / "0003.jpg"], "Crossing")
    assert frames[0].shape == (3, 32, 32)
    with pytest.raises(MmsslError, match=r"0002.jpg: frame 1 of Crossing cannot be read"):
        frames[1]
    with pytest.raises(MmsslError, match=r"0003.jpg: no such frame; expected frame 2 of Crossing"):
        frames[2]


def test_a_camera_shows_each_frame_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "seen.mp4"
    path.write_bytes(h264(grey_levels(12), 20))
    opened = cv2.VideoCapture
    monkeypatch.setattr(frames_module.cv2, "VideoCapture", lambda index: opened(str(path)))
    camera = open_frames("0")
    assert isinstance(camera, Camera)
    assert (camera.name, camera.rate) == ("camera 0", pytest.approx(20))
    assert len(range(len(camera))[4:]) > 10**12
    assert [level(frame) for frame in camera.walk([0, 1, 4, 5])] == [0, 1, 4, 5]
    assert camera[6].shape == (3, 48, 64)
    with pytest.raises(MmsslError, match="camera 0: frame 3 has passed; expected 7 or later"):
        camera[3]
    with pytest.raises(MmsslError, match="camera 0: no frame after 12"):
        camera[12]


def test_a_camera_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")
    with pytest.raises(MmsslError, match="camera 97: cannot be opened"):
        open_frames(97)
