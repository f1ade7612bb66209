"""Views of clips: one geometry for all frames, colours as asked, padding, the configured decoder."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_videos import encode, numbered
from torchvision.transforms import v2

from mmssl.errors import MmsslError
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard
from mmssl.stream import Source, Stream, StreamConfig
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.decode import EncodedVideo
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import open_video, torchcodec
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.crops import draw_crops, draw_flips, resize_frames
from mmssl.stream.views.draws import Draws

PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
COUNT, HEIGHT, WIDTH = 20, 72, 96
SAMPLER = Blocks(blocks=2, frames=3, stride=0.1)


@pytest.fixture(scope="module")
def video() -> bytes:
    return encode(numbered(COUNT, HEIGHT, WIDTH))


@pytest.fixture(scope="module")
def still() -> bytes:
    """The same picture again and again."""
    return encode(numbered(1, HEIGHT, WIDTH) * 8, options={"qp": "0"})


def sample(data: bytes, id_: int) -> Sample:
    return Sample(id_, f"{id_}", "shard", 0, {"video": ("mp4", data)})


def draws(ids, name: str = "clip") -> Draws:
    ids = np.asarray(ids)
    return Draws(5, name, ids, np.zeros_like(ids))


def show(view: ClipView, data: bytes, ids):
    items = [view.read(sample(data, i), draws([i])) for i in ids]
    return view.finish(view.prepare(items, draws(ids)), draws(ids))


def test_all_frames_are_cut_alike_as_torchvision_cuts(video):
    quiet = ClipAugmentation(jitter=0, grey=0, blur=0)
    ids = list(range(6))
    shown = show(ClipView(SAMPLER, 32, *PLAIN, quiet), video, ids)
    assert shown["frames"].shape == (6, 6, 3, 32, 32)
    assert shown["frames"].dtype == torch.float32
    assert shown["times"].dtype == torch.float64
    with open_video(EncodedVideo(video, "mp4")) as opened:
        everything = opened.read(np.arange(COUNT))
    boxes = draw_crops(draws(ids), np.array([[HEIGHT, WIDTH]] * 6), quiet.scale, quiet.ratio)
    flips = draw_flips(draws(ids), quiet.flip)
    assert 0 < flips.sum() < 6
    for row, (box, flip) in enumerate(zip(boxes.tolist(), flips, strict=True)):
        numbers = torch.round(shown["times"][row] * 10).long()
        expected = v2.functional.resized_crop(everything[numbers], *box, [32, 32], antialias=True)
        expected = v2.functional.horizontal_flip(expected) if flip else expected
        difference = (shown["frames"][row] * 255 - expected).abs()
        assert difference.max() <= 1.01


def test_without_an_augmentation_the_largest_square_is_shown(video):
    shown = show(ClipView(SAMPLER, 48, *PLAIN), video, [3])
    with open_video(EncodedVideo(video, "mp4")) as opened:
        frames = opened.read(torch.round(shown["times"][0] * 10).long().numpy())
    square = v2.functional.center_crop(frames, [HEIGHT, HEIGHT])
    expected = v2.functional.resize(square, [48, 48], v2.InterpolationMode.BICUBIC, antialias=True)
    assert (shown["frames"][0] * 255 - expected).abs().max() <= 1.01


def test_colours_are_shared_by_a_clip_or_drawn_for_each_frame(still):
    frames = {
        colour: show(ClipView(SAMPLER, 32, *PLAIN, ClipAugmentation(colour=colour)), still, [0, 1, 2])[
            "frames"
        ]
        for colour in ("clip", "frame")
    }
    shared, own = frames["clip"], frames["frame"]
    assert (shared - shared[:, :1]).abs().max() < 1e-5
    assert (shared[0] - shared[1]).abs().mean() > 0.02
    for row in own:
        means = row.mean(dim=(2, 3))
        assert torch.cdist(means, means)[0, 1:].max() > 0.05


def test_a_sample_looks_the_same_in_every_batch(video):
    view = ClipView(SAMPLER, 32, *PLAIN, ClipAugmentation(colour="frame"))
    alone, among = show(view, video, [4]), show(view, video, [9, 4, 7])
    torch.testing.assert_close(alone["frames"][0], among["frames"][1], rtol=0, atol=1e-5)
    assert torch.equal(alone["times"][0], among["times"][1])


def test_short_videos_are_padded(video):
    short = encode(numbered(2, HEIGHT, WIDTH))
    shown = show(ClipView(SAMPLER, 32, *PLAIN), short, [0])
    np.testing.assert_allclose(shown["times"][0], [0, 0.1, 0.1, 0.1, 0.1, 0.1], atol=1e-6)
    assert torch.equal(shown["frames"][0, 1], shown["frames"][0, 5])


@pytest.mark.parametrize("size", [1, 16, 40, 90])
@pytest.mark.parametrize("flip", [False, True])
def test_frames_resized_at_once_are_those_resized_alone(size, flip):
    frames = torch.from_numpy(np.stack(numbered(4, 60, 80))).permute(0, 3, 1, 2)[:, :, 5:45, 7:67]
    together = resize_frames(frames, size, flip)
    alone = torch.cat([resize_frames(frame[None], size, flip) for frame in frames])
    assert torch.equal(together, alone)
    expected = v2.functional.resize(frames, [size, size], antialias=True)
    expected = expected.flip(3) if flip else expected
    assert (together.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_box_is_a_part_of_the_frames(video, decoder):
    for data in (video, encode(numbered(4, HEIGHT, WIDTH), turn=90)):
        if decoder == "decord" and data is not video:
            continue
        with open_video(EncodedVideo(data, "mp4"), decoder) as opened:
            whole = opened.read(np.array([3, 1]))
            part = opened.read(np.array([3, 1]), (11, 5, 41, 60))
        assert torch.equal(part, whole[:, :, 11:52, 5:65])


def test_what_cannot_be_read_names_field_and_reason():
    view = ClipView(SAMPLER, 32, *PLAIN)
    with pytest.raises(Unreadable, match="video: not a readable video"):
        view.read(sample(b"nothing", 0), draws([0]))
    with pytest.raises(MmsslError, match="size 0"):
        ClipView(SAMPLER, 0, *PLAIN)
    with pytest.raises(ValidationError):
        ClipAugmentation(colour="video")


def shard_set(root, videos: list[bytes]):
    members = (RawSample(f"{i}", {"video.mp4": data}) for i, data in enumerate(videos))
    written = write_shard(root / "0.tar", members)
    written.index.save(root / "0.index")
    count, size = len(written.index), written.index.tar_bytes
    shard = Shard(file="0.tar", index="0.index", samples=count, first_id=0, bytes=size, sha256=written.sha256)
    split = Split(samples=count, shards=(shard,))
    Manifest(name="v", splits={"train": split}, fields={"video": 1.0}, classes={}).save(root)
    return (Source(shards=str(root)),)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_configured_decoder_reaches_the_workers(tmp_path, video, workers):
    sources = shard_set(tmp_path, [video, encode(numbered(8, HEIGHT, WIDTH), "h265")])
    view = ClipView(SAMPLER, 32, *PLAIN)
    readable = {"pyav": {0, 1}, "decord": {0}}
    for decoder, ids in readable.items():
        config = StreamConfig(sources=sources, workers=workers, decoder=decoder)
        batch = next(iter(Stream(config, {"clip": view}, batch_size=4, seed=0).batches(0, 1)))
        assert set(batch.id.tolist()) == ids
        assert all("codec hevc" in fault.reason for fault in batch.faults)


def test_a_decoder_that_does_not_work_is_refused_before_training(tmp_path, video, monkeypatch):
    sources = shard_set(tmp_path, [video])
    monkeypatch.setattr(torchcodec, "available", lambda: "no libraries")
    config = StreamConfig(sources=sources, workers=0, decoder="torchcodec")
    with pytest.raises(MmsslError, match="decoder: torchcodec does not work on this machine: no libraries"):
        Stream(config, {"clip": ClipView(SAMPLER, 32, *PLAIN)}, batch_size=1, seed=0)
