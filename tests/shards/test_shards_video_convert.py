"""Re-encoding: which frames are kept, how they are stored, where long videos are cut."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from raw_videos import counting, numbers, read, scene, turned, write

from mmssl.shards.sources.base import BadInput
from mmssl.shards.video import Encoding, RawVideo, Segments, Shown, VideoOptions, convert
from mmssl.shards.video.choose import choose
from mmssl.shards.video.segments import Plan, cut_phases

EVERYTHING = 4096


def options(seconds: float | None = None, overlap: float = 0, **encoding: object) -> VideoOptions:
    segments = None if seconds is None else Segments(seconds=seconds, overlap=overlap)
    return VideoOptions(encoding=Encoding.model_validate({"crf": 10, **encoding}), segments=segments)


@settings(max_examples=200, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 40), max_size=30),
    rate=st.fractions(Fraction(1, 2), 60, max_denominator=1001),
    start=st.integers(0, 300),
    length=st.integers(1, 1000),
)
def test_chosen_frames_are_the_nearest_ones(gaps: list[int], rate: Fraction, start: int, length: int) -> None:
    times = [Fraction(sum(gaps[:at]), 100) for at in range(len(gaps) + 1)]
    begin, end = Fraction(start, 100), Fraction(start + length, 100)
    frames = [Shown(at, time, lambda: np.zeros((2, 2, 3), np.uint8)) for at, time in enumerate(times)]
    chosen = [frame.number for frame in choose(iter(frames), rate, end, begin)]
    expected, at = [], 0
    while begin + at / rate < end:
        wanted = begin + at / rate
        expected.append(min(range(len(times)), key=lambda n: (abs(times[n] - wanted), n)))
        at += 1
    assert chosen == expected


@pytest.mark.parametrize(
    ("fps", "target", "expected"),
    [
        (30, 15, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]),
        (25, 15, [0, 2, 3, 5, 7, 8, 10, 12, 13, 15, 17, 18, 20, 22, 23]),
        (10, 15, list(range(24))),
        (15, 15, list(range(24))),
        (30000 / 1001, 30, list(range(24))),
    ],
)
@pytest.mark.parametrize("form", ["mp4", "matroska", "avi", "flv", "mpegts"])
def test_frame_rate(fps: float, target: float, expected: list[int], form: str) -> None:
    raw = RawVideo(write(counting(24), fps, form=form, bf="0"), EVERYTHING)
    (clip,) = convert(raw, options(fps=target))
    assert clip.numbers == expected
    assert numbers(clip.data) == expected
    assert raw.codec == "h264"
    assert clip.meta["fps"] == pytest.approx(min(fps, target), rel=1e-4)
    assert clip.meta["frames"] == len(expected) == len(clip.meta["motion"])
    assert clip.meta["duration"] == pytest.approx(len(expected) / min(fps, target), rel=1e-4)
    assert "timestamps" not in clip.meta


def test_uneven_frames_become_even_and_copies_tell_their_times() -> None:
    times = [0, 0.1, 0.2, 0.3, 0.7, 0.8, 0.82, 0.84, 0.9, 1.3]
    data = write(counting(10), 10, form="matroska", times=times, bf="0")
    (clip,) = convert(RawVideo(data, EVERYTHING), options(fps=5))
    grid = np.arange(0, 1.3, 0.2)
    assert clip.numbers[: len(grid)] == [int(np.abs(np.array(times) - t).argmin()) for t in grid]
    assert numbers(clip.data) == clip.numbers
    (copy,) = convert(RawVideo(data, EVERYTHING), options(mode="copy"))
    assert copy.data == data
    assert copy.meta["timestamps"] == times
    assert copy.extension == "mkv"


def test_storage_is_made_for_random_access() -> None:
    frames = [np.roll(scene(0, 120, 160), 3 * shift, 1) for shift in range(30)]
    data = write(frames, 15, bf="2", g="250", sound=2)
    (clip,) = convert(RawVideo(data, EVERYTHING), options(short_side=48, gop=8, crf=18))
    with av.open(io.BytesIO(clip.data)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (64, 48) == (clip.meta["width"], clip.meta["height"])
        shown = list(container.decode(stream))
    assert [frame.key_frame for frame in shown] == [number % 8 == 0 for number in range(30)]
    assert {frame.pict_type for frame in shown} == {PictureType.I, PictureType.P}
    assert convert(RawVideo(data, EVERYTHING), options(short_side=48, gop=8, crf=18))[0].data == clip.data


def test_sizes_are_even_and_never_enlarged() -> None:
    frames = [scene(seed, 63, 101) for seed in range(3)]
    data = write(frames, 10, form="matroska", codec="ffv1", g="1")  # holds odd sizes
    (clip,) = convert(RawVideo(data, EVERYTHING), options())
    assert (clip.meta["height"], clip.meta["width"]) == (64, 100)
    (small,) = convert(RawVideo(data, EVERYTHING), options(short_side=32))
    assert (small.meta["height"], small.meta["width"]) == (32, 52)


def test_rotation_is_applied() -> None:
    upright = scene(3, 64, 96)
    raw = RawVideo(turned(write([upright] * 4, 10, crf="5")), EVERYTHING)
    (clip,) = convert(raw, options())
    assert (clip.meta["height"], clip.meta["width"]) == (96, 64)
    shown = np.rot90(upright, -1)
    assert np.abs(read(clip.data)[0].astype(int) - shown).mean() < 8
    assert np.abs(read(clip.data)[0].astype(int) - shown[::-1, ::-1]).mean() > 20


def test_jpeg_frames() -> None:
    (clip,) = convert(RawVideo(write(counting(12), 30), EVERYTHING), options(mode="jpeg"))
    assert (clip.extension, clip.meta["codec"]) == ("mkv", "mjpeg")
    assert numbers(clip.data) == clip.numbers == [0, 2, 4, 6, 8, 10]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 90), st.integers(1, 20), st.integers(0, 19))
def test_segments_cover_everything_with_their_overlap(frames: int, length: int, overlap: int) -> None:
    overlap = min(overlap, length - 1)
    plan = Plan(Segments(seconds=length / 10, overlap=overlap / 10), Fraction(10))
    running: dict[int, list[int]] = {}
    done: dict[int, list[int]] = {}
    for frame in range(frames):
        begun = plan.begins(frame)
        if begun is not None:
            running[begun] = []
        for segment in running.values():
            segment.append(frame)
        full = plan.last_ends(frame)
        if full is not None:
            done[full] = running.pop(full)
    done |= {k: rows for k, rows in running.items() if plan.is_new(k, len(rows))}
    expected = []
    begin = 0
    while begin == 0 or begin + overlap < frames:
        expected.append(list(range(begin, min(begin + length, frames))))
        begin += length - overlap
    assert [done[k] for k in sorted(done)] == expected


def test_segments_of_a_video() -> None:
    raw = RawVideo(write(counting(38), 10, bf="0"), EVERYTHING)
    clips = convert(raw, options(seconds=1.5, overlap=0.5))
    assert [numbers(clip.data) for clip in clips] == [
        list(range(15)), list(range(10, 25)), list(range(20, 35)), list(range(30, 38)),
    ]  # fmt: skip
    assert [clip.start for clip in clips] == [0, 1, 2, 3]
    assert [clip.meta["frames"] for clip in clips] == [15, 15, 15, 8]
    assert clips[1].numbers == list(range(10, 25))


def test_measures_are_cut_with_the_segments() -> None:
    frames = [scene(1)] * 10 + [scene(2)] * 14
    raw = RawVideo(write(frames, 10, crf="5"), EVERYTHING)
    (whole,) = convert(raw, options())
    assert whole.meta["cuts"] == [1.0]
    first, second = convert(raw, options(seconds=1.6, overlap=0.8))
    assert (first.meta["cuts"], second.meta["cuts"]) == ([1.0], [pytest.approx(0.2)])
    assert first.meta["motion"] + second.meta["motion"][8:] == whole.meta["motion"]


def test_phases_are_clipped_and_counted_from_the_segment() -> None:
    phases = [{"start": 0, "end": 1.5, "name": "walk"}, {"start": 1.5, "end": 4, "name": "sit"}]
    assert cut_phases(phases, 1, 3) == [
        {"start": 0, "end": 0.5, "name": "walk"},
        {"start": 0.5, "end": 2, "name": "sit"},
    ]
    assert cut_phases(phases, 2, 3) == [{"start": 0, "end": 1, "name": "sit"}]
    for wrong in ("walk", [{"start": 1}], [{"start": 2, "end": 1}]):
        with pytest.raises(BadInput, match="phases"):
            cut_phases(wrong, 0, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoding": {"mode": "copy"}, "segments": {"seconds": 2}}, "copied bytes cannot be cut"),
        ({"segments": {"seconds": 2, "overlap": 2}}, "overlap 2 s, expected less"),
    ],
)
def test_options_that_contradict_each_other(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VideoOptions.model_validate(config)
