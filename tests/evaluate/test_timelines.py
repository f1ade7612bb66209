"""Videos walked from a shard set: every moment sees its own past, each video is decoded once."""

import pickle

import pytest
import torch
from tiny_sequences import FPS, by_metric, video_shards

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation, untrained
from mmssl.evaluate.timelines import Phase, Sequenced, Walk, timelines
from mmssl.models.clip import FramesConfig
from mmssl.models.clip.frame_net import FrameNetConfig
from mmssl.models.encoder import EncoderConfig
from mmssl.stream.video import open_video
from mmssl.stream.views.centre import CentreCrop
from mmssl.stream.views.photometric import normalise

IMAGE = EncoderConfig(
    name="resnet18",
    stem="small_stride4",
    image_size=32,
    kwargs={"layers": [1, 1, 1, 1], "channels": [64, 64, 64, 64], "norm_layer": "groupnorm"},
)
CLIP = FramesConfig(net=FrameNetConfig(encoder=IMAGE), frames=3, stride=2 / FPS, fuse="concat")
LENGTHS = {"train": (12, 10, 9, 12), "val": (14, 1, 11)}
RIGHT = {"train": (12, 10, 9, 12), "val": (9, 1, 11)}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return video_shards(tmp_path_factory.mktemp("moving"), LENGTHS, RIGHT)


def make(shards, config=CLIP, **more):
    return Subject(untrained({"clip": config}, seed=1), shards, **more)


def test_every_video_at_regular_moments(shards):
    found = timelines(make(shards), "val", fields=("video", "video_right"), step=0.2)
    assert [one.key for one in found] == ["val000", "val001", "val002"]
    assert [len(one.tracks["video"]) for one in found] == [7, 1, 6]  # ⌈duration / step⌉
    assert [len(one.tracks["video_right"]) for one in found] == [5, 1, 6]
    track = found.sequences[0].tracks["video"]
    assert track.duration == pytest.approx(1.4)
    torch.testing.assert_close(track.times, torch.arange(7, dtype=torch.float64) * 0.2)
    assert track.x.shape == (7, 3 * 64)
    assert [one.labels["action"] for one in found] == [0, 1, 0]
    assert found.sequences[0].phases == (Phase(0, 0.7, "begin"), Phase(0.7, 1.4, "end"))  # in order of time
    assert "3 videos of val every 0.2 s, 3 frames every 0.2 s up to the moment, 32 px" in found.words


def test_windows_end_at_their_moment_and_repeat_the_first_frame_before_it(shards):
    """An independent path: single frames through the same network, put side by side by hand."""
    from mmssl.stream.reader import ShardReader

    subject = make(shards)
    track = timelines(subject, "val", step=0.1).sequences[0].tracks["video"]
    with open_video(ShardReader(shards, "val").sample(0)["video"]) as video:
        frames = video.read(torch.arange(14).numpy())
    encoder = subject.encoder()
    cut = CentreCrop(32, encoder.mean, encoder.std, resize=32).prepare(list(frames), None)
    with torch.inference_mode():
        each = encoder.net(normalise(cut, encoder.mean, encoder.std))
    for moment in range(14):
        past = [max(0, moment - 4), max(0, moment - 2), moment]
        torch.testing.assert_close(track.x[moment], each[past].flatten(), rtol=1e-3, atol=1e-4)


def test_an_image_encoder_sees_the_frame_of_the_moment(shards):
    image = timelines(make(shards, IMAGE), "val", step=0.1)
    assert "one frame, 32 px centre crop" in image.words
    assert image.sequences[0].tracks["video"].x.shape == (14, 64)


def test_the_same_for_any_batches(shards):
    one = timelines(make(shards, batch_size=128), "train", step=0.1)
    other = timelines(make(shards, batch_size=4), "train", step=0.1)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a.tracks["video"].x, b.tracks["video"].x, rtol=1e-4, atol=1e-5)


def test_workers_take_the_view_without_the_network():
    view = Walk(("video",), untrained({"clip": CLIP})["clip"], 0.1)
    sent = pickle.dumps(view)
    assert len(sent) < 2000
    assert pickle.loads(sent).before.tolist() == pytest.approx([-0.4, -0.2, 0])


def test_videos_are_walked_once_for_all_evaluations(shards, monkeypatch):
    subject = make(shards)
    first = timelines(subject, "val", step=0.1)
    monkeypatch.setattr(Subject, "scan", None)
    assert timelines(subject, "val", step=0.1) is first


def test_moments_know_their_phase():
    one = Sequenced(0, "k", {}, {}, (Phase(0.1, 0.3, "a"), Phase(0.3, 0.5, "b")))
    number, gone = one.phase_at(torch.tensor([0.0, 0.1, 0.2, 0.3, 0.5], dtype=torch.float64))
    assert number.tolist() == [-1, 0, 0, 1, -1]
    torch.testing.assert_close(gone[1:4], torch.tensor([0.0, 0.5, 0.0], dtype=torch.float64))
    assert gone[[0, 4]].isnan().all()


def test_alignment_and_phases_from_shards_to_scores(shards, tmp_path):
    configs = [
        parse_evaluation({"name": "alignment", "process": "all", "attributes": ["phase", "action"]}, "test"),
        parse_evaluation({"name": "phases", "shares": [1.0]}, "test"),
    ]
    scores = by_metric(evaluate(make(shards, folder=tmp_path), configs))
    assert {evaluation for evaluation, _ in scores} == {
        "alignment/cameras", "alignment/order", "alignment/phase", "alignment/recall phase",
        "alignment/recall action", "phases/classification", "phases/progression",
    }  # fmt: skip
    error = scores["alignment/cameras", "alignment error"]
    assert error.value < error.chance / 2  # where both cameras have equal lengths they see the same
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "alignment_cameras.json",
        "phases_classification.json",
    ]


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"start": 0, "name": "a"}, r"expected a list of start, end and name \('end'\)"),
        ({"start": 2, "end": 1, "name": "a"}, r"'a' from 2\.0 to 1\.0 s; expected start ≤ end"),
    ],
)
def test_bad_phases_are_named(tmp_path, phase, message):
    broken = video_shards(tmp_path, {"val": (4,)}, stored=[phase])
    with pytest.raises(MmsslError, match=rf"val000: meta\.phases: {message}"):
        timelines(make(broken), "val")


def test_unreadable_videos_are_counted(tmp_path, monkeypatch):
    from mmssl.shards import encode

    whole = encode.h264
    damaged = iter([False, True, False])
    monkeypatch.setattr(encode, "h264", lambda *a, **k: whole(*a, **k)[: 300 if next(damaged) else None])
    found = timelines(make(video_shards(tmp_path, {"val": (5, 5, 5)})), "val")
    assert [one.key for one in found] == ["val000", "val002"]
    assert found.words.endswith("1 unreadable and left out")
