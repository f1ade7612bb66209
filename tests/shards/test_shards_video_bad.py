"""Videos that cannot be used: each is refused with its reason, and a build that meets them all finishes."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from raw_videos import counting, index_first, spoilt, write
from tiny_shards import content, picture, put

from mmssl.errors import MmsslError
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import parse_recipe
from mmssl.shards.sources.base import BadInput
from mmssl.shards.video import Encoding, RawVideo, VideoOptions, convert

GOOD = write(counting(36), 12, bf="0")


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "GIF")
    return buffer.getvalue()


def without_frames() -> bytes:
    """An MP4 whose sample tables are empty: their counts are set to 0."""
    data = bytearray(GOOD)
    for box, counts in ((b"stts", (8,)), (b"stsz", (12,)), (b"stsc", (8,)), (b"stco", (8,)), (b"stss", (8,))):
        at = data.find(box)
        assert at > 0
        for offset in counts:
            data[at + offset : at + offset + 4] = struct.pack(">I", 0)
    return bytes(data)


def huge(width: int, height: int) -> bytes:
    return write([np.zeros((height, width, 3), np.uint8)], 10, preset="ultrafast")


def gap() -> bytes:
    return write(counting(6), 10, form="matroska", times=[0, 0.1, 0.2, 0.3, 900, 900.1], bf="0")


def two_sizes() -> bytes:
    later = [1 + number / 10 for number in range(6)]
    return write(counting(6), 10, form="mpegts", times=[number / 10 for number in range(6)], bf="0") + write(
        counting(6, (96, 64)), 10, form="mpegts", times=later, bf="0"
    )


BAD = {
    "empty.mp4": (b"", "empty file"),
    "garbage.mp4": (bytes(range(256)) * 40, "not a readable video"),
    "text.mp4": (b"these are words, not a video\n" * 20, "not a readable video"),
    "image.mp4": (picture(0), "not a readable video"),
    "animation.avi": (gif(), "not a readable video"),
    "sound.mp4": (write([], sound=1), "no video stream; found audio"),
    "frameless.mp4": (without_frames(), "no frames"),
    "cut.mp4": (GOOD[: len(GOOD) // 2], "not a readable video"),
    "cut_gop.mkv": (write(counting(36), 12, form="matroska")[:1300], r"ends at .* s of 3.00 s: truncated"),
    "cut_start.mp4": (index_first(GOOD)[:-500], "truncated"),
    "encrypted.mp4": (spoilt(GOOD), "frame 0 does not decode"),
    "gap.mkv": (gap(), "broken timestamps: frame 4 comes 899.7"),
    "eight_k.mp4": (huge(7680, 64), r"7680x64; expected sides of at most 4096 \(encoding.max_side\)"),
    "sizes.ts": (two_sizes(), r"frame \d is of .*, not of .* like the others"),
    "list.mp4": (b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\ngood.mp4\n", "not a readable"),
}  # fmt: skip


VICTIMS = {
    form: write(counting(12), 25, form=form, codec="mpeg1video" if form == "mpeg" else "libx264")
    for form in ("mp4", "matroska", "avi", "mpegts", "mpeg")
}


@pytest.mark.parametrize("name", BAD)
def test_bad_videos_are_refused(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(BadInput, match=reason):
        for _ in RawVideo(data, 4096).frames():
            pass


def test_a_build_that_meets_them_finishes_and_lists_them(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", {f"train/{name}": data for name, (data, _) in BAD.items()})
    put(raw, {"train/good.mp4": GOOD, "train/wrong_extension.avi": GOOD})
    source = {
        "kind": "video_folder",
        "root": str(raw),
        "splits": {"train": {"folder": "train", "labels": "none"}},
    }
    recipe = {"name": "bad", "source": source, "max_bad_share": 0.95, "shard_samples": 4}
    manifest = build_shards(parse_recipe(recipe, "bad"), tmp_path / "one")
    assert manifest.samples == 2
    assert manifest.built["skipped"] == {"train": len(BAD)}
    lines = [json.loads(line) for line in (tmp_path / "one" / "skipped.jsonl").read_text().splitlines()]
    assert {Path(line["input"]).name for line in lines} == set(BAD)
    build_shards(parse_recipe(recipe, "bad"), tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    with pytest.raises(MmsslError, match="inputs are unreadable so far"):
        build_shards(parse_recipe({**recipe, "max_bad_share": 0.5}, "bad"), tmp_path / "three")


def test_large_frames_can_be_allowed() -> None:
    assert RawVideo(BAD["eight_k.mp4"][0], 8192).width == 7680


def test_timestamps_that_go_back() -> None:
    """Two packets of one moment: the second frame's time is overwritten in the Matroska block."""
    data = write(counting(6), 10, form="matroska", bf="0")
    block = struct.pack(">BhB", 0x81, 300, 0)  # track 1, time 300 ms, no flags: frame 3
    assert data.count(block) == 1
    with pytest.raises(BadInput, match="broken timestamps"):
        RawVideo(data.replace(block, struct.pack(">BhB", 0x81, 200, 0)), 4096)


def test_a_wrong_extension_is_put_right_in_copies(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", {"a.avi": GOOD, "b.mp4": write(counting(5), 10, form="mpegts")})
    source = {
        "kind": "video_folder",
        "root": str(raw),
        "splits": {"train": {"labels": "none"}},
        "encoding": {"mode": "copy"},
    }
    recipe = parse_recipe({"name": "x", "source": source, "max_bad_share": 0.5}, "x")
    manifest = build_shards(recipe, tmp_path / "out")
    assert manifest.samples == 1
    assert b"a.video.mp4" in (tmp_path / "out" / "train" / "000000.tar").read_bytes()
    assert "a copy of mpegts has no place" in (tmp_path / "out" / "skipped.jsonl").read_text()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["mp4", "matroska", "avi", "mpegts", "mpeg"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
    st.floats(0.05, 1),
)
def test_damage_is_bad_input_or_goes_unnoticed(
    form: str, flips: list[tuple[float, int]], kept: float
) -> None:
    """Nothing but BadInput comes out, and nothing takes long, whatever bytes are changed or missing."""
    data = bytearray(VICTIMS[form])
    for place, value in flips:
        data[int(place * len(data))] = value
    try:
        raw = RawVideo(bytes(data[: int(kept * len(data))]), 4096)
        clips = convert(raw, VideoOptions(encoding=Encoding(short_side=16)))
    except BadInput:
        return
    assert all(clip.meta["frames"] > 0 for clip in clips)
