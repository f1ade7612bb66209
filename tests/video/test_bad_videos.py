"""What is wrong with a video is said; what can still be read of it is read."""

import numpy as np
import pytest
import tiny_videos
from tiny_videos import encode, number, numbered

from mmssl.stream.decode import EncodedVideo
from mmssl.stream.video import container, open_video

FAST_START = {"movflags": "faststart"}


def numbers(data: bytes) -> list[int]:
    with open_video(EncodedVideo(data, "mp4"), "pyav") as video:
        return [number(frame) for frame in video.read(np.arange(len(video))).permute(0, 2, 3, 1).numpy()]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a readable video"),
        (b"no video at all" * 100, "not a readable video"),
        (encode(numbered(20))[:1500], "not a readable video"),
        (tiny_videos.audio_only(), "no video stream"),
        (tiny_videos.encrypted(encode(numbered(3))), "encrypted"),
        (tiny_videos.without_time(encode(numbered(3))), "broken timestamps"),
    ],
    ids=["empty", "garbage", "index cut off", "audio only", "encrypted", "no times"],
)
@pytest.mark.parametrize("decoder", ["pyav", "decord", "auto"])
def test_the_reason_is_named(data, reason, decoder):
    with pytest.raises(ValueError, match=reason):
        open_video(EncodedVideo(data, "mp4"), decoder)


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_huge_frames_are_refused_before_one_is_decoded(decoder, monkeypatch):
    monkeypatch.setattr(container, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(ValueError, match="64x48 pixels; expected at most 3071"):
        open_video(EncodedVideo(encode(numbered(2)), "mp4"), decoder)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("h264", {"mux": FAST_START}), ("vp9", {}), ("h264", {"container": "mpegts"}), ("mjpeg", {})],
    ids=["mp4", "webm", "ts", "avi"],
)
def test_a_truncated_video_ends_at_the_cut(kind, options):
    data = encode(numbered(24), kind, **options)
    lengths = []
    for share in (0.95, 0.8, 0.65, 0.5):
        found = numbers(data[: int(len(data) * share)])
        assert found == list(range(len(found)))
        lengths.append(len(found))
    assert 0 < lengths[-1] < lengths[1] < 24
    assert lengths == sorted(lengths, reverse=True)


def test_of_a_truncated_video_with_reordered_frames_the_whole_ones_are_right():
    data = encode(numbered(24), "h264_b", mux=FAST_START)
    found = numbers(data[: int(len(data) * 0.7)])
    assert found == sorted(set(found))
    assert 5 < len(found) < 24


@pytest.mark.parametrize("kind", ["h264", "h264_b"])
def test_an_edit_list_hides_frames(kind):
    data = encode(numbered(20), kind)
    hidden = tiny_videos.with_edit_list(data, 5 * 1024)
    assert numbers(hidden) == list(range(5, 20))
    with open_video(EncodedVideo(hidden, "mp4"), "pyav") as video:
        np.testing.assert_allclose(video.times, np.arange(15) / 10, atol=1e-6)
    with pytest.raises(ValueError, match="decord finds 20 frames; there are 15"):
        open_video(EncodedVideo(hidden, "mp4"), "decord")


def test_a_wrong_extension_does_not_matter():
    with open_video(EncodedVideo(encode(numbered(3), "vp9"), "avi"), "pyav") as video:
        assert len(video) == 3


@pytest.mark.parametrize("kind", ["h264", "h265", "vp9", "av1", "mjpeg"])
def test_only_what_is_needed_is_decoded(kind):
    """From the keyframe before the first wanted frame on; nothing between two wanted groups of pictures."""
    data = encode(numbered(40), kind, gop=10, options={"x265-params": "log-level=none:bframes=0"})
    with open_video(EncodedVideo(data, "mp4"), "pyav") as video:
        keys = [int(np.searchsorted(video._container.stamps, stamp)) for stamp, _ in video._container.keys]
        assert len(keys) >= 4
        for wanted in ([33], [0, 1, 2], [12, 14, 14, 13], [5, 38], [3, 9, 10, 11]):
            before = video.decoded
            video.read(np.array(wanted))
            begin = {frame: max(key for key in keys if key <= frame) for frame in wanted}
            needed = {i for frame, key in begin.items() for i in range(key, frame + 1)}
            assert video.decoded - before <= len(needed) + (1 if kind == "av1" else 0), wanted
