"""Encoders of other sights than colours, and several side by side: common samples, weights of cosines."""

import numpy as np
import pytest
import torch
from tiny_actions import ENCODER
from tiny_rooms import WITHOUT_DEPTH, build_clips, build_rooms, encoders, net
from torch.nn.functional import normalize

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation, untrained
from mmssl.evaluate.features import Features, all_tokens, joined, side_by_side
from mmssl.stream import Source, StreamConfig, scan
from mmssl.stream.views.aligned import AlignedViews
from mmssl.stream.views.shown import Shown

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    return build_rooms(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return build_clips(tmp_path_factory.mktemp("clips"))


def ask(subject, name, **options):
    scores = evaluate(subject, [parse_evaluation({"name": name, **options}, "x.yaml")])
    return {(score.evaluation, score.metric): score for score in scores}


def test_a_sight_is_seen_as_in_training_but_unaugmented(rooms):
    both = encoders("L", "depth")
    subject = Subject(both, rooms, batch_size=5)
    shown = {name: Shown.to(encoder, video=False, optional=True) for name, encoder in both.items()}
    source = StreamConfig(sources=(Source(shards=str(rooms), split="val"),), workers=0)
    seen = next(iter(scan(source, {"views": AlignedViews(shown, None)}, batch_size=14)))
    for name, encoder in both.items():
        present = seen.views["present"][:, list(both).index(name)]
        features = subject.features("val", name)
        assert features.ids.tolist() == seen.id[present].tolist()
        with torch.no_grad():
            expected = encoder(seen.views[name][present])
        torch.testing.assert_close(features.x, expected, rtol=1e-4, atol=1e-5)
    assert "L of image, largest square in the centre, 16 px" in subject.about("val", encoder="L")
    assert subject.features("val", "depth").unreadable == len(WITHOUT_DEPTH)


def test_several_stand_side_by_side_for_the_samples_that_all_could_read(rooms):
    subject = Subject(encoders("L", "depth", "rgb"), rooms)
    alone = {name: subject.features("val", name) for name in ("L", "depth", "rgb")}
    both = subject.features("val", "L+depth")
    kept = [row for row in range(14) if row not in WITHOUT_DEPTH]
    assert both.ids.tolist() == kept
    assert both.keys == [f"val{row:03}" for row in kept]
    assert both.unreadable == len(WITHOUT_DEPTH)
    assert torch.equal(both.x, torch.cat([alone["L"].x[kept], alone["depth"].x], dim=1))
    assert torch.equal(both.labels["colour"], alone["L"].labels["colour"][kept])
    turned = subject.features("val", "depth+L").x
    assert torch.equal(turned[:, 16:], both.x[:, :16])
    assert subject.features("val", "rgb+L+depth").widths == (16, 16, 16)
    about = subject.about("val", encoder="L+depth")
    assert "features of L and depth side by side (for cosines each of unit length)" in about
    assert "2 of val unreadable and left out" in about


def test_nothing_is_extracted_twice(rooms, monkeypatch):
    subject = Subject(encoders("L", "ab"), rooms)
    subject.features("val", "L"), subject.features("val", "ab")
    monkeypatch.setattr("mmssl.evaluate.subject.scan", None)
    assert subject.features("val", "ab+L").x.shape == (14, 32)


def test_cosines_weigh_each_encoder_alike():
    rng = torch.Generator().manual_seed(0)
    small, large = torch.randn(9, 3, generator=rng), 1000 * torch.randn(9, 5, generator=rng)
    parts = [Features(x, {}, torch.arange(9), [str(i) for i in range(9)]) for x in (small, large)]
    x = joined(parts).directions.x
    cosine = normalize(x, dim=1) @ normalize(x, dim=1).T
    each = [np.corrcoef(np.hstack([p, -p])) for p in (small.numpy(), large.numpy())]  # mean 0: cosines
    np.testing.assert_allclose(cosine.numpy(), (each[0] + each[1]) / 2, atol=1e-5)
    assert parts[0].directions.x is small  # a single encoder's features stay as they are


def test_knn_of_both_is_the_mean_of_cosines_and_linear_the_plain_features(rooms):
    subject = Subject(encoders("L", "depth"), rooms)
    (score,) = ask(subject, "knn", encoder="L+depth", labels=["far"], k=[1]).values()
    cosine = 0
    for name in ("L", "depth"):
        gallery, queries = (subject.features(split, "L+depth").x for split in ("train", "val"))
        own = slice(0, 16) if name == "L" else slice(16, 32)
        g, q = gallery[:, own].double().numpy(), queries[:, own].double().numpy()
        cosine = (
            cosine + (q / np.linalg.norm(q, axis=1)[:, None]) @ (g / np.linalg.norm(g, axis=1)[:, None]).T
        )
    y, truth = (subject.features(split, "L+depth").labels["far"].numpy() for split in ("train", "val"))
    assert score.value == pytest.approx(100 * float((y[cosine.argmax(1)] == truth).mean()))
    assert score.value > 40  # chance is 25: depth says how far, random weights or not
    (linear,) = ask(subject, "linear", encoder="L+depth", labels=["far"], epochs=20).values()
    assert "side by side" in linear.protocol


@pytest.mark.parametrize("name", ["retrieval", "map", "health", "folds"])
def test_every_evaluation_of_features_takes_both(rooms, tmp_path, name):
    options = {
        "retrieval": {"labels": ["far"], "shown": 2}, "map": {"points": 10}, "health": {},
        "folds": {"group": "timestamp", "labels": ["far"], "k": [1], "c": [1.0], "resamples": 50},
    }[name]  # fmt: skip
    subject = Subject(encoders("L", "ab"), rooms, folder=tmp_path)
    scores = ask(subject, name, encoder="L+ab", **options)
    assert bool(scores) == (name != "map")
    assert all("side by side" in score.protocol for score in scores.values())
    if name == "map":
        assert (tmp_path / "map.json").is_file()


def test_colour_and_flow_of_videos_side_by_side(clips):
    """Random weights see colour in the video and the side in the flow: together, both."""
    flow = net("flow", channels=4)
    both = untrained({"rgb": net(), "flow": flow, "clip": ENCODER})
    subject = Subject(both, clips, clips=2, frames=3, batch_size=4)
    assert subject.features("train", "flow").x.shape == (12, 16)
    for label, chosen in (("colour", "rgb"), ("side", "flow")):
        for encoder in (chosen, "rgb+flow"):
            scores = ask(subject, "knn", encoder=encoder, labels=[label], k=[1])
            assert scores[f"knn/{label}", "accuracy"].value == 100, (label, encoder)
    retrieved = ask(subject, "retrieval", encoder="rgb+flow", labels=["side"], k=[1])
    assert "mean over 3 moments, evenly spread over the video; flow of flow" in (
        retrieved["retrieval/side", "R@1"].protocol
    )
    probes = {"linear": {"epochs": 60}, "attentive": {"epochs": 20, "validation": 0.2}}
    scores = ask(subject, "actions", encoder="clip+flow", labels=["side", "colour"], clips=2, **probes)
    assert set(scores) == {
        (f"actions/{probe}/{label}", "accuracy") for probe in probes for label in ("side", "colour")
    }
    assert scores["actions/linear/side", "accuracy"].value == 100
    assert scores["actions/attentive/side", "accuracy"].value > 80
    assert "fitted on 2 centre crop clips" in scores["actions/linear/side", "accuracy"].protocol


def test_one_view_beside_several_and_tokens_in_dimensions_of_their_own():
    a, b = torch.randn(3, 1, 2), torch.randn(3, 4, 5)
    x = side_by_side([a, b])
    assert x.shape == (3, 4, 7)
    assert torch.equal(x[:, 2, :2], a[:, 0])
    assert torch.equal(x[:, 2, 2:], b[:, 2])
    one, other = torch.randn(3, 1, 6, 2), torch.randn(3, 4, 2, 5)
    tokens = all_tokens([one, other])
    assert tokens.shape == (3, 4, 8, 7)
    assert torch.equal(tokens[:, 3, :6, :2], one[:, 0])
    assert torch.equal(tokens[:, :, 6:, 2:], other)
    assert not tokens[:, :, :6, 2:].any()
    assert not tokens[:, :, 6:, :2].any()


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        ("L+x", "expected one of L, ab, or several of them with . between, found 'x'"),
        ("L+L", "expected each encoder once, found 'L.L'"),
        (None, "expected one of L, ab, .* found None"),
    ],
)
def test_bad_names(rooms, encoder, told):
    with pytest.raises(MmsslError, match=told):
        Subject(encoders("L", "ab"), rooms).features("val", encoder)


def test_what_takes_a_single_encoder_of_colours_says_so(rooms, clips):
    with pytest.raises(MmsslError, match=r"expected a single encoder here, found .L\+ab."):
        Subject(encoders("L", "ab"), rooms).look("L+ab")
    flow = untrained({"flow": net("flow", channels=4)})
    with pytest.raises(MmsslError, match="crops: 3 of an encoder that sees flow; expected 1"):
        ask(Subject(flow, clips), "actions", crops=3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alignment", {"attributes": ["contact"]}),
        ("finetune", {}),
        ("phases", {}),
        ("propagation", {}),
        ("tracking", {}),
    ],
)
def test_what_shows_frames_of_colours_refuses_other_sights(clips, name, options):
    subject = Subject(untrained({"flow": net("flow", channels=4)}), clips)
    with pytest.raises(MmsslError, match="encoder: it sees flow; expected one that sees rgb"):
        ask(subject, name, **options)
