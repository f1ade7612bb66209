"""The three decoders give the same frames at the same times, or say why they cannot."""

import io
from functools import cache

import av
import numpy as np
import pytest
import tiny_videos
import torch
from tiny_videos import encode, number, numbered
from torchcodec_libraries import with_libraries

from mmssl.stream.decode import EncodedVideo
from mmssl.stream.video import open_video, torchcodec
from mmssl.stream.video.decord import CODECS

COUNT = 20
IRREGULAR = np.cumsum([0, *[40, 33, 120, 80, 500, 20, 20, 45, 60] * 3])[:COUNT].tolist()

KINDS = {
    **{kind: {"kind": kind} for kind in tiny_videos.CODECS},
    "variable rate, h264": {"kind": "h264_b", "stamps": IRREGULAR},
    "variable rate, h265": {"kind": "h265", "stamps": IRREGULAR, "container": "matroska"},
    "variable rate, vp9": {"kind": "vp9", "stamps": IRREGULAR},
    "late start": {"kind": "h264", "stamps": [700 + 100 * i for i in range(COUNT)], "container": "matroska"},
    "transport stream": {"kind": "h264_b", "container": "mpegts"},
    "fragmented": {"kind": "h264_b", "mux": {"movflags": "frag_keyframe+empty_moov"}},
    "h264 in avi": {"kind": "h264", "container": "avi"},
    "h264 with b-frames in avi": {"kind": "h264_b", "container": "avi"},
    "10 bits": {"kind": "h265", "pixel_format": "yuv420p10le"},
}


@cache
def video(kind: str) -> bytes:
    return encode(numbered(COUNT), **KINDS[kind])


def read(data: bytes, decoder: str, frames=None):
    """Frames (n, H, W, 3), times and duration."""
    with open_video(EncodedVideo(data, "mp4"), decoder) as opened:
        pixels = opened.read(np.arange(len(opened)) if frames is None else np.asarray(frames))
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (3, opened.height, opened.width)
        assert pixels.permute(0, 2, 3, 1).is_contiguous()
        return pixels.permute(0, 2, 3, 1).numpy(), opened.times, opened.duration


@pytest.mark.parametrize("kind", KINDS)
def test_pyav_gives_every_frame_its_number_and_time(kind):
    frames, times, duration = read(video(kind), "pyav")
    assert [number(frame) for frame in frames] == list(range(COUNT))
    stamps = KINDS[kind].get("stamps")
    expected = np.arange(COUNT) / 10 if stamps is None else (np.array(stamps) - stamps[0]) / 1000
    np.testing.assert_allclose(times, expected, atol=1e-3)
    assert times[0] == 0
    if stamps is None:
        assert duration == pytest.approx(COUNT / 10, abs=1e-3)
    error = np.abs(frames.astype(float) - np.stack(numbered(COUNT))).mean()
    assert error < 20, "the pictures are those that were encoded"


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_gives_what_reading_everything_gives(kind):
    data = video(kind)
    everything, _, _ = read(data, "pyav")
    rng = np.random.default_rng(0)
    with open_video(EncodedVideo(data, "mp4"), "pyav") as opened:
        for _ in range(6):
            chosen = rng.integers(0, COUNT, rng.integers(1, 6))
            np.testing.assert_array_equal(opened.read(chosen).permute(0, 2, 3, 1).numpy(), everything[chosen])
        assert opened.read(np.array([], dtype=np.int64)).shape == (0, 3, 48, 64)
        with pytest.raises(ValueError, match="the video has 20"):
            opened.read(np.array([COUNT]))


@pytest.mark.parametrize("kind", KINDS)
def test_decord_agrees_or_refuses(kind):
    data = video(kind)
    codec = KINDS[kind]["kind"].split("_")[0]
    if codec not in CODECS:
        with pytest.raises(ValueError, match="decord is used for h264, vp9, mjpeg only"):
            read(data, "decord")
    elif KINDS[kind].get("container") in ("avi", "mpegts"):
        with pytest.raises(ValueError, match="a container without an index"):
            read(data, "decord")
    else:
        everything = read(data, "pyav")
        np.testing.assert_array_equal(read(data, "decord")[0], everything[0])
        for seed in range(5):
            chosen = np.random.default_rng(seed).integers(0, COUNT, 4)
            frames, times, duration = read(data, "decord", chosen)
            np.testing.assert_array_equal(frames, everything[0][chosen])
            np.testing.assert_array_equal(times, everything[1])
            assert duration == everything[2]


_COMPARE = """
import sys
from mmssl.stream.video import torchcodec
if torchcodec.available():
    sys.exit(print("not available:", torchcodec.available()))
import numpy as np, test_decoders as t
from mmssl.stream.video import open_video
from mmssl.stream.decode import EncodedVideo
from tiny_videos import encode, numbered
for kind in t.KINDS:
    print(kind)
    for chosen in (None, [9, 2, 2, 17]):
        if kind in ("mpeg4_b", "transport stream", "h264 in avi", "h264 with b-frames in avi"):
            try:
                t.read(t.video(kind), "torchcodec", chosen)
            except ValueError as error:
                assert "torchcodec" in str(error)
                continue
        one, other = t.read(t.video(kind), "torchcodec", chosen), t.read(t.video(kind), "pyav", chosen)
        if kind == "10 bits":
            assert np.abs(one[0].astype(float) - other[0]).mean() < 1
        else:
            np.testing.assert_array_equal(one[0], other[0], err_msg=kind)
        np.testing.assert_array_equal(one[1], other[1])
for turn in (90, 180, 270):
    data = encode(numbered(9), turn=turn)
    np.testing.assert_array_equal(t.read(data, "torchcodec")[0], t.read(data, "pyav")[0])
data = encode(numbered(9, 49, 65), "vp9")
np.testing.assert_array_equal(t.read(data, "torchcodec")[0], t.read(data, "pyav")[0])
np.testing.assert_array_equal(t.read(t.video("mjpeg"), "auto")[0], t.read(t.video("mjpeg"), "pyav")[0])
names = [type(open_video(EncodedVideo(t.video(kind), ""))).__name__ for kind in ("mjpeg", "h265", "h264")]
assert names == ["TorchCodecReader", "TorchCodecReader", "PyAVReader"], names
print("agreed")
"""


def test_torchcodec_agrees(tmp_path):
    """In a process of its own: its FFmpeg must be found when the process starts."""
    done = with_libraries(tmp_path, _COMPARE)
    if done.stdout.startswith("not available"):
        pytest.skip(done.stdout)
    assert done.stdout.strip().endswith("agreed"), f"{done.stdout} {done.stderr[-1000:]}"


def test_a_decoder_that_does_not_work_says_why():
    reason = torchcodec.available()
    if reason is None:
        assert len(read(video("h264"), "torchcodec")[0]) == COUNT
        return
    with pytest.raises(ValueError, match="shared libraries"):
        read(video("h264"), "torchcodec")
    assert len(read(video("mjpeg"), "auto")[0]) == COUNT


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(("kind", "height", "width"), [("vp9", 49, 65), ("h264", 50, 66), ("mjpeg", 33, 47)])
def test_odd_sizes_are_kept(decoder, kind, height, width):
    frames = numbered(6, height, width)
    pixels, _, _ = read(encode(frames, kind), decoder)
    assert pixels.shape == (6, height, width, 3)
    assert [number(frame) for frame in pixels] == list(range(6))
    reference, _, _ = read(encode(frames, kind), "pyav")
    assert np.abs(pixels.astype(float) - reference).mean() <= 2


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("kind", ["h264", "h264_b", "vp9", "mjpeg"])
def test_one_frame(decoder, kind):
    frames, times, duration = read(encode(numbered(1), kind), decoder)
    assert (len(frames), times.tolist(), number(frames[0])) == (1, [0.0], 0)
    assert duration == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotated_frames_are_upright(container, turn):
    """``turn`` is counterclockwise, as is that of numpy."""
    plain, _, _ = read(encode(numbered(10)), "pyav")
    data = encode(numbered(10), turn=turn, container=container)
    turned, _, _ = read(data, "pyav")
    np.testing.assert_array_equal(turned, np.rot90(plain, turn // 90, axes=(1, 2)))
    with pytest.raises(ValueError, match="to be turned by"):
        read(data, "decord")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("space", "kr", "kb"), [(2, 0.299, 0.114), (6, 0.299, 0.114), (1, 0.2126, 0.0722)])
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_colours_are_those_of_the_standard(decoder, space, kr, kb, full):
    """Y'CbCr = (150, 90, 170) by the definition in ITU-R BT.601 / BT.709, in float64."""
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(frame.planes, (150, 90, 170), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = space, 2 if full else 1
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=10, options={"qp": "0", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = space, frame.color_range
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    y, cb, cr = (150 / 255, -38 / 255, 42 / 255) if full else (134 / 219, -38 / 224, 42 / 224)
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    found, _, _ = read(file.getvalue(), decoder)
    np.testing.assert_allclose(
        found[0, 24, 32], np.array([red, green, blue]) * 255, atol=2
    )  # swscale rounds down
