"""Segmentation, depth and normals as evaluations: of pictures whose colours say everything."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_dense import DEPTHS, NAMES, NORMALS, colours, dense_shards, ids_of, members_of
from torchmetrics import JaccardIndex

from mmssl.errors import MmsslError
from mmssl.evaluate import EVALUATIONS, Subject, evaluate, parse_evaluation
from mmssl.evaluate.dense.segmentation import Segmentation, SegmentationConfig
from mmssl.evaluate.dense.view import DenseView, Truth
from mmssl.models.clip import build_clip_encoder
from mmssl.models.clip.video_net import VideoNetConfig
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.shards import encode
from mmssl.stream.sample import Sample
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.shown import Shown

pytestmark = pytest.mark.usefixtures("one_thread")
TRAIN, VAL = range(24), range(100, 108)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    splits = {
        "train": [members_of(ids_of(seed), seed) for seed in TRAIN],
        "val": [members_of(ids_of(seed, classes=3), seed) for seed in VAL],  # there is no cat
    }
    return dense_shards(tmp_path_factory.mktemp("dense"), splits)


def ask(subject, name, **options):
    config = parse_evaluation({"name": name, **options}, "x.yaml")
    found = evaluate(subject, [config])
    assert all(score.evaluation == f"{name}/{options.get('head', 'linear')}" for score in found)
    return {score.metric: score for score in found}


def true_ids(seed):
    """(n,) of the centre's known pixels."""
    ids, known = ids_of(seed, classes=3)[:, 8:40], np.ones((32, 32), bool)
    known[:4, :4] = False
    return ids[known]


def test_perfect_features_are_read_off_perfectly(shards, tmp_path):
    subject = Subject({"image": colours()}, shards, folder=tmp_path)
    found = ask(subject, "segmentation", points=4096)
    assert [found[name].value for name in ("mIoU", "pixel accuracy", "mean class accuracy")] == [
        100,
        100,
        100,
    ]
    assert found["mIoU"].ceiling == 100
    ids = np.concatenate([true_ids(seed) for seed in VAL])
    floor = (ids == 0).mean()
    assert found["pixel accuracy"].chance == pytest.approx(100 * floor)
    assert found["mIoU"].chance == pytest.approx(100 * floor / 3)
    assert found["mean class accuracy"].chance == pytest.approx(100 / 3)
    words = found["mIoU"].protocol
    assert f"one confusion matrix of {len(ids)} pixels, id 255 ignored" in words
    assert "means over 3 classes (absent and left out: cat)" in words
    assert "largest square in the centre" in words
    assert "170 known pixels of each of 24 of train" in words
    table = json.loads((tmp_path / "tables/segmentation.json").read_text())
    assert [row[0] for row in table["rows"]] == NAMES
    assert table["rows"][1][:3] == ["wall", 100, 100]
    assert table["rows"][1][3] == pytest.approx(100 * (ids == 1).mean())
    assert table["rows"][3] == ["cat", None, None, 0, 0]
    with Image.open(tmp_path / "pictures/segmentation.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[1] > 8 * 112
    truth, prediction = pixels[124:228, 72:176], pixels[240:344, 72:176]
    assert (truth[40:] == prediction[40:]).all(), "one scale and one palette"


def test_depth_of_perfect_features(shards, tmp_path):
    found = ask(Subject({"image": colours()}, shards, folder=tmp_path), "depth", l2=[0.0, 1.0])
    assert found["AbsRel"].value < 1e-4
    assert found["RMSE"].value < 1e-3
    assert found["SILog"].value < 0.1
    assert [found[f"δ<1.25{power}"].value for power in ("", "²", "³")] == [100, 100, 100]
    assert (found["RMSE"].better, found["RMSE"].unit, found["RMSE"].ceiling) == ("lower", "m", 0)
    drawn = float(found["AbsRel"].protocol.partition("chance says ")[2].partition(" m")[0])
    errors = [np.abs(drawn - DEPTHS[true_ids(seed)]) / DEPTHS[true_ids(seed)] for seed in VAL]
    want = np.mean([each.mean() for each in errors])
    assert found["AbsRel"].chance == pytest.approx(want, abs=0.01), "a mean over pictures"
    assert (tmp_path / "pictures/depth.png").is_file()


def test_normals_of_perfect_features(shards, tmp_path):
    found = ask(Subject({"image": colours()}, shards, folder=tmp_path), "normals", l2=[0.0, 1.0])
    assert found["mean"].value < 0.1
    assert found["median"].value < 0.1
    assert [found[f"<{limit}°"].value for limit in ("11.25", "22.5", "30")] == [100, 100, 100]
    words = found["mean"].protocol.partition("chance says (")[2].partition(")")[0]
    typical = np.array([float(number) for number in words.split(",")])
    truth = NORMALS[np.concatenate([true_ids(seed) for seed in VAL])]
    angles = np.degrees(np.arccos(np.clip(truth @ typical / np.linalg.norm(typical), -1, 1)))
    assert found["mean"].chance == pytest.approx(angles.mean(), abs=0.5)
    assert found["<30°"].chance == pytest.approx(100 * (angles < 30).mean(), abs=0.5)


@pytest.mark.parametrize("head", ["linear", "decoder"])
def test_the_score_is_torchmetrics_of_what_was_answered(shards, head, monkeypatch):
    kept = []
    compare = Segmentation.compare

    def keeping(self, answers, truth):
        kept.append((answers.argmax(0), truth[0].long()))
        compare(self, answers, truth)

    monkeypatch.setattr(Segmentation, "compare", keeping)
    decoder = {"width": 8, "epochs": 3}
    found = ask(Subject({"image": colours(8)}, shards), "segmentation", head=head, decoder=decoder)
    predicted, truth = (torch.cat(parts) for parts in zip(*kept, strict=True))
    assert (truth.numpy() == np.concatenate([true_ids(seed) for seed in VAL])).all()
    each = JaccardIndex("multiclass", num_classes=4, average="none")(predicted, truth)
    assert found["mIoU"].value == pytest.approx(100 * float(each[:3].mean()))
    if head == "linear":
        assert 40 < found["mIoU"].value < 100, "cells of 8 pixels blur the corners"
    low, high = found["mIoU"].interval
    assert low < found["mIoU"].value < high


def test_decoders_of_depth_and_normals(shards):
    subject = Subject({"image": colours(4)}, shards)
    decoder = {"width": 16, "epochs": 10, "lr": [1e-2]}
    depth = ask(subject, "depth", head="decoder", decoder=decoder)["AbsRel"]
    assert depth.value < 0.5 * depth.chance
    normals = ask(subject, "normals", head="decoder", decoder=decoder)["mean"]
    assert normals.value < 0.5 * normals.chance


def test_the_whole_picture_with_eigens_crop_cap_and_median_scaling(shards):
    """At 32 × 48 pixels Eigen's crop is rows 3 to 31 and columns 3 to 45."""
    subject = Subject({"image": colours(size=96)}, shards)
    whole = ask(subject, "segmentation", region="whole")
    ids = np.concatenate([ids_of(seed, classes=3).ravel() for seed in VAL])
    assert f"one confusion matrix of {len(ids) - 16 * len(VAL)} pixels" in whole["mIoU"].protocol
    assert whole["pixel accuracy"].value > 90
    options = {"region": "whole", "crop": "eigen", "cap": 3.0}
    depth = ask(subject, "depth", **options)
    assert "Eigen's crop, depths up to 3 m, no median scaling" in depth["AbsRel"].protocol
    guess = float(depth["AbsRel"].protocol.partition("chance says ")[2].partition(" m")[0])
    want = []
    for seed in VAL:
        true = DEPTHS[ids_of(seed, classes=3)]
        true[:4, 8:12] = 0
        true = true[3:31, 3:45]
        true = true[(true > 0) & (true <= 3)]
        want.append(np.sqrt(np.mean((guess - true) ** 2)))
    assert depth["RMSE"].chance == pytest.approx(np.mean(want), abs=0.01)
    scaled = ask(subject, "depth", median_scaling=True, **options)
    assert "scaled by medians" in scaled["AbsRel"].protocol
    assert scaled["AbsRel"].chance < depth["AbsRel"].chance


def test_two_encoders_side_by_side_know_what_one_does_not(shards):
    two = {
        "L": build_encoder(EncoderConfig(name="resnet10t", image_size=32, sees="L")),
        "image": colours(2),
    }
    both = ask(Subject(two, shards), "segmentation", encoder="L+image", points=2048)["mIoU"]
    assert "L of 32 px + rgb of 32 px" in both.protocol
    assert "16x16 predictions" in both.protocol
    assert both.value > ask(Subject(two, shards), "segmentation", encoder="L", points=2048)["mIoU"].value + 20
    stages = ask(Subject(two, shards), "segmentation", encoder="L", stages=[1, None], points=1024)["mIoU"]
    assert "stage 1+last" in stages.protocol
    assert "8x8 predictions" in stages.protocol


def test_samples_without_a_truth_and_of_other_sizes(tmp_path):
    """A batch of pictures that differ in size, one without depth, one without any known pixel."""
    some = [members_of(ids_of(seed, *size), seed) for seed, size in enumerate([(32, 48), (40, 40), (64, 64)])]
    del some[1]["depth.png"]
    none = members_of(ids_of(9), 9)
    none["depth.png"] = encode.depth_png(np.zeros((32, 48)))
    train = [members_of(ids_of(seed), seed) for seed in range(20, 30)]
    for member in ("depth.png", "normals.png", "segmentation.png"):
        train[3].pop(member)
    root = dense_shards(tmp_path, {"train": train, "val": [*some, none]})
    found = ask(Subject({"image": colours()}, root, folder=tmp_path / "out"), "depth", l2=[0.0])
    assert "each of 9 of train" in found["AbsRel"].protocol
    assert "2 of val scored once (2 without a known pixel left out)" in found["AbsRel"].protocol
    assert found["AbsRel"].interval is None
    assert found["AbsRel"].value < 0.1, "64 pixels are shown at 32, and scored at 64"


def test_a_large_gallery_is_thinned_out_and_batches_make_no_difference(shards):
    few = ask(Subject({"image": colours()}, shards), "segmentation", points=16 * 12)["mIoU"]
    assert "16 known pixels of each of 12 of train" in few.protocol
    again = ask(Subject({"image": colours()}, shards, batch_size=5), "segmentation", points=16 * 12)["mIoU"]
    assert again.value == pytest.approx(few.value)


def test_views_travel_to_workers():
    shown = {"image": Shown.to(colours(), video=False)}
    view = DenseView(shown, Truth("depth", cap=3.0), "whole", points=7)
    other = pickle.loads(pickle.dumps(view))
    assert (other.truth, other.region, other.points) == (view.truth, "whole", 7)
    members = {"image": ("png", members_of(ids_of(0))["image.png"])}
    members["depth"] = ("png", members_of(ids_of(0))["depth.png"])
    draws = Draws(0, "x", np.array([3]), np.array([0]))
    for one, two in zip(
        *(v.read(Sample(3, "a", "s", 0, members), draws)[1:] for v in (view, other)), strict=True
    ):
        assert torch.equal(one, two)
        assert one.shape in ((1, 7), (7, 2))


def test_bad_questions(shards, tmp_path):
    subject = Subject({"image": colours()}, shards)
    with pytest.raises(
        MmsslError, match="depth: field: 'depth_sensor', but shard set 'blocks' has depth, image"
    ):
        ask(subject, "depth", field="depth_sensor")
    with pytest.raises(MmsslError, match="crop: eigen is of whole pictures; expected region: whole"):
        ask(subject, "depth", crop="eigen")
    clip = build_clip_encoder(VideoNetConfig(name="r2d3d", frames=4, image_size=32))
    with pytest.raises(MmsslError, match=r"normals: encoder clip: expected .* found one of clips"):
        ask(Subject({"clip": clip}, shards), "normals")
    samples = [members_of(ids_of(seed), seed) for seed in range(4)]
    nameless = dense_shards(_new(tmp_path / "a"), {"train": samples, "val": samples}, classes=None)
    with pytest.raises(MmsslError, match="classes: segmentation: missing; expected the names of the classes"):
        ask(Subject({"image": colours()}, nameless), "segmentation")
    unknown = [{**one, "depth.png": encode.depth_png(np.zeros((32, 48)))} for one in samples]
    blind = dense_shards(_new(tmp_path / "b"), {"train": unknown, "val": samples})
    with pytest.raises(MmsslError, match="train: depth: 0 samples with a known pixel; expected at least two"):
        ask(Subject({"image": colours()}, blind), "depth")
    unasked = dense_shards(_new(tmp_path / "c"), {"train": samples, "val": unknown})
    with pytest.raises(MmsslError, match="val: depth: no known pixel; expected some to score"):
        ask(Subject({"image": colours()}, unasked), "depth")


def test_ids_beyond_the_declared_classes_are_named_and_left_out(tmp_path, capsys):
    samples = [members_of(ids_of(seed), seed) for seed in range(8)]
    wrong = ids_of(50)
    bad = {**members_of(wrong, 50), "segmentation.png": encode.segmentation_png(wrong + 7)}
    root = dense_shards(tmp_path, {"train": samples, "val": [*samples, bad]})
    found = ask(Subject({"image": colours()}, root), "segmentation")
    assert "8 of val scored once (1 unreadable left out)" in found["mIoU"].protocol


def test_all_three_are_in_the_table():
    assert SegmentationConfig().field == "segmentation"
    for name in ("segmentation", "depth", "normals"):
        assert EVALUATIONS[name].Config().name == name


def _new(folder):
    folder.mkdir()
    return folder
