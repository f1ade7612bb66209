"""Probes and fine-tuning on several clips and crops: probabilities, planted tokens, untouched encoders."""

import copy

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny_actions import build, encoders
from torchvision.transforms import v2

from mmssl.errors import MmsslError
from mmssl.evaluate import Score, Subject, evaluate, parse_evaluation
from mmssl.evaluate.actions import over_splits
from mmssl.evaluate.attentive import AttentiveFit, fewer, fit_attentive
from mmssl.evaluate.classify import Answered, Task, within_pairs
from mmssl.evaluate.linear import LinearFit, fit, log_mean
from mmssl.models.clip import build_clip_encoder
from mmssl.models.clip.recurrent import RecurrentConfig
from mmssl.models.clip.video_vit import VideoViTConfig
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.models.layers import layer_scales
from mmssl.stream.clips.spread import SpreadClips
from mmssl.stream.views.clip_crops import CropsView, spatial_crops


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return build(tmp_path_factory.mktemp("actions"), {"train": 36, "val": 12})


def ask(subject, name, **options):
    scores = evaluate(subject, [parse_evaluation({"name": name, **options}, "x.yaml")])
    return {(score.evaluation, score.metric): score for score in scores}


@pytest.mark.parametrize("size", [(240, 320), (320, 256), (64, 64)])
def test_ten_crops_are_torchvision_s(size):
    picture = torch.arange(3 * size[0] * size[1]).view(3, *size)
    boxes, flips = spatial_crops(*size, 10)
    expected = v2.TenCrop(int(min(size) * 7 / 8))(picture)
    # torchvision cuts the mirrored picture: its left corner there is the mirror image of the right one here
    expected = [expected[n] for n in (0, 1, 2, 3, 4, 6, 5, 8, 7, 9)]
    for (top, left, h, w), flip, crop in zip(boxes.tolist(), flips, expected, strict=True):
        own = picture[:, top : top + h, left : left + w]
        assert torch.equal(own.flip(2) if flip else own, crop)


def test_three_crops_cover_the_longer_side():
    for size in ((240, 320), (320, 240)):
        boxes, flips = spatial_crops(*size, 3)
        assert not flips.any()
        assert (boxes[:, 2:] == 240).all()
        along = boxes[:, 1] if size[1] > size[0] else boxes[:, 0]
        assert along.tolist() == [0, 40, 80]
    with pytest.raises(MmsslError, match="expected 1, 3 or 10, found 5"):
        CropsView(SpreadClips(1, 2, 0.1), 8, (0,) * 3, (1,) * 3, crops=5)


def test_views_come_crop_by_crop_and_clip_by_clip(shards):
    subject = Subject(encoders(), shards, batch_size=8)
    look = subject.look(clips=2, crops=3)
    assert look.views == 6
    batch = next(subject.scan("val", look.view, "views", 2))
    frames = batch.input["frames"].unflatten(1, (3, 2, 3))  # crop, clip, frame
    mean, std = (torch.tensor(v)[:, None, None] for v in (look.encoder.mean, look.encoder.std))
    bright = (frames * std + mean)[0].amax(3).mean(3)  # of the brightest colour: (crop, clip, frame, column)
    black = (bright < 0.1).float().mean((1, 2, 3))
    assert black.tolist() == pytest.approx(
        [0, 1 / 4, 1 / 2], abs=0.05
    )  # 32 of 48 columns from 0, 8 and 16 on
    change = bright[0, :, :, 8]
    rising = change.diff(dim=1).sign()
    assert (rising == (1 if batch.label["change"][0] == 0 else -1)).all()
    assert (change[0] != change[1]).all()  # clips begin at different times
    with torch.no_grad():
        every = look.each(batch.input, torch.device("cpu"), look.clip_encoder)
        alone = look.clip_encoder(frames[:, 2, 1])
        torch.testing.assert_close(every[:, 5], alone)
        torch.testing.assert_close(look.features(batch.input, torch.device("cpu")), every.mean(1))


def test_probabilities_are_averaged_not_logits():
    logits = torch.tensor([[[9.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]]], dtype=torch.float64)
    by_hand = (torch.sigmoid(torch.tensor(9.0)) + 2 * torch.sigmoid(torch.tensor(-1.0))) / 3
    answer = log_mean(logits).exp()
    assert answer.dtype == torch.float32
    assert float(answer[0, 0]) == pytest.approx(float(by_hand), abs=1e-6)
    assert answer.argmax() == 0
    two = log_mean(torch.tensor([[[5.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]]]))
    assert two.argmax() == 1  # the mean of these logits is above 0


def test_views_of_a_sample_are_rows_that_stay_together():
    """Against scikit-learn on the same rows; held out are samples, so a leak between views would show."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.eye(3, 12)[y][:, None] + 0.7 * torch.randn(300, 4, 12, generator=generator)
    q = torch.eye(3, 12)[y][:, None] + 0.7 * torch.randn(300, 4, 12, generator=generator)
    probe = fit(x, y, 3, LinearFit(), 0)
    accuracy = float((log_mean(probe.logits(q)).argmax(1) == y).float().mean())
    scaler = StandardScaler().fit(x.flatten(0, 1))
    reference = LogisticRegression(C=0.1).fit(scaler.transform(x.flatten(0, 1)), y.repeat_interleave(4))
    averaged = reference.predict_proba(scaler.transform(q.flatten(0, 1))).reshape(300, 4, 3).mean(1)
    assert accuracy == pytest.approx((averaged.argmax(1) == y.numpy()).mean(), abs=0.02)
    own = 5 * torch.randn(60, 1, 40, generator=generator).expand(
        60, 4, 40
    )  # nothing but the sample's identity
    noise = fit(
        own + 0.01 * torch.randn(60, 4, 40, generator=generator),
        torch.randint(0, 2, (60,)),
        2,
        LinearFit(),
        0,
    )
    assert noise.held_out == 6


def planted(samples, seed):
    """Of 12 tokens one carries the class, and a mark that says so; the others carry any class, unmarked."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, (samples,), generator=generator)
    shown = torch.randint(0, 4, (samples, 12), generator=generator)
    place = torch.randint(0, 12, (samples,), generator=generator)
    rows = torch.arange(samples)
    shown[rows, place] = y
    tokens = torch.cat([torch.eye(4)[shown], torch.zeros(samples, 12, 4)], dim=2)
    tokens[rows, place, 4:] = 1.0
    return (tokens + 0.1 * torch.randn(tokens.shape, generator=generator))[:, None], y


def test_an_attentive_probe_finds_the_token_that_counts():
    (x, y), (q, truth) = planted(500, 0), planted(200, 1)
    config = AttentiveFit(lr=(3e-3, 1e-2), weight_decay=(0.01,), epochs=20)
    probe = fit_attentive(x, y, 4, config, 0)
    attentive = float((log_mean(probe.logits(q)).argmax(1) == truth).float().mean())
    pooled = fit(x.mean(2), y, 4, LinearFit(), 0)
    linear = float((log_mean(pooled.logits(q.mean(2))).argmax(1) == truth).float().mean())
    assert attentive > 0.9
    assert linear < 0.65
    again = fit_attentive(x, y, 4, config, 0)
    assert torch.equal(again.logits(q), probe.logits(q))


def test_fewer_tokens_are_means_of_neighbours():
    tokens = torch.arange(24.0).view(1, 12, 2)
    assert fewer(tokens, 12) is tokens
    torch.testing.assert_close(fewer(tokens, 3), tokens.view(1, 3, 4, 2).mean(2))


def test_pairs_are_decided_between_two():
    truth = torch.tensor([0, 1, 2, 0, 1, 2])
    task = Task("act", torch.zeros(6, 1), truth, torch.zeros(6, 1), truth, 3, "data")
    logits = torch.tensor(
        [[1, 0, 9], [0, 1, 9], [0, 0, 9], [0, 1, 9], [5, 7, 9], [3, 3, 9.0]]
    )  # class 2 always wins, and does not matter: three of the four others are right
    names = {"act": ["up", "down", "rest"]}
    pair, mean = within_pairs("linear", [Answered(task, logits, "how")], [("down", "up")], names)
    assert (pair.evaluation, mean.evaluation) == ("linear/pair/down-up", "linear/pairs")
    assert pair.value == mean.value == 75.0
    assert pair.chance == mean.chance == 50.0
    with pytest.raises(MmsslError, match="expected a label with the classes up and fly among act"):
        within_pairs("linear", [Answered(task, logits, "how")], [("up", "fly")], names)


def test_linear_and_attentive_probe_of_videos(shards):
    subject = Subject(encoders(), shards, batch_size=12)
    scores = ask(
        subject, "actions", clips=2, crops=3, pairs=[["brighten", "darken"]],
        attentive={"epochs": 15}, linear={"epochs": 40},
    )  # fmt: skip
    for probe in ("linear", "attentive"):
        assert scores[f"actions/{probe}/colour", "accuracy"].value == 100.0
    change = scores["actions/linear/pair/brighten-darken", "accuracy"]
    assert change.value == scores["actions/linear/change", "accuracy"].value >= 90
    for words in ("averaged in float32 over 6 views", "2 clips", "× 3 crops", "every 0.2 s (5 frames/s)"):
        assert words in change.protocol


def test_official_splits_of_one_shard_set_and_their_mean(shards):
    subject = Subject(encoders(), shards)
    part = subject.labels("official.2=test")
    assert part.keys == [f"clip{n:03}" for n in range(48) if n % 4 == 1]  # of both stored splits
    assert part.labels["colour"].tolist() == [n % 3 for n in range(48) if n % 4 == 1]
    assert torch.equal(subject.features("official.2=test").ids, part.ids)
    splits = [[f"official.{n}=train", f"official.{n}=test"] for n in (1, 2)]
    scores = ask(subject, "actions", clips=1, labels=["change"], attentive=None, splits=splits)
    mean = scores["actions/linear/change", "accuracy"]
    each = [scores["actions/linear/change", f"accuracy on official.{n}=test"] for n in (1, 2)]
    assert mean.value == pytest.approx(sum(score.value for score in each) / 2)
    assert "mean over 2 splits" in mean.protocol
    assert "gallery official.2=train (36), queries official.2=test (12)" in each[1].protocol
    assert not each[0].headline
    with pytest.raises(MmsslError, match=r"official\.4=test: no sample's metadata says so"):
        subject.labels("official.4=test")


def test_mean_over_splits_by_hand():
    given = {"a": (60.0, 10.0), "b": (70.0, 30.0)}
    splits = (("ta", "a"), ("tb", "b"))
    found = over_splits(
        None, splits, lambda _, test: [Score("x/y", "accuracy", given[test][0], "%", test, given[test][1])]
    )
    assert [(s.metric, s.value, s.chance) for s in found] == [
        ("accuracy", 65.0, 20.0), ("accuracy on a", 60.0, 10.0), ("accuracy on b", 70.0, 30.0),
    ]  # fmt: skip


def test_fine_tuning_learns_what_the_frozen_mean_cannot_and_leaves_the_encoder(shards):
    """The direction of change: invisible to the untrained mean of frames, learnt from frames side by side."""
    found = encoders()
    before = copy.deepcopy(found["clip"].state_dict())
    subject = Subject(found, shards, batch_size=24)
    state = torch.get_rng_state()
    options = {"clips": 2, "labels": ["change"], "batch_size": 12, "lr": 3e-3}
    short = ask(subject, "finetune", epochs=1, **options)["finetune/change", "accuracy"]
    score = ask(subject, "finetune", epochs=14, **options)["finetune/change", "accuracy"]
    assert score.value >= 90 > short.value
    assert "14 epochs, batch 12, AdamW lr=0.003" in score.protocol
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in found["clip"].state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not found["clip"].training


def test_layers_of_every_kind_of_encoder():
    vit = build_clip_encoder(
        VideoViTConfig(image_size=16, patch=8, frames=4, tubelet=2, width=24, depth=3, heads=2)
    )
    scales = layer_scales(vit, 0.5)
    assert scales[id(vit.norm.weight)] == 1
    assert scales[id(vit.blocks[2].mlp.fc1.weight)] == 0.5
    assert scales[id(vit.embed.weight)] == 0.5**4
    frames = encoders()["clip"]
    recurrent = build_clip_encoder(RecurrentConfig(blocks=2, block=frames.config, context=8))
    backbone = recurrent.g_enc.net.encoder.backbone
    scales = layer_scales(recurrent, 0.5)
    assert scales[id(backbone.conv1.weight)] < scales[id(backbone.layer4[0].conv2.weight)] <= 1
    assert id(recurrent.g_ar.weight_ih_l0) not in scales  # behind the backbone: at the full rate


def test_an_image_encoder_sees_frames_of_a_video(shards):
    image = build_encoder(EncoderConfig(name="resnet18", stem="small_stride4", image_size=16))
    look = Subject({"image": image}, shards).look()
    assert look.clip_encoder.frames == 16  # an image encoder averages over frames of a video
