"""Weighted kNN against scikit-learn's classifier and a plain loop."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from mmssl.errors import MmsslError
from mmssl.evaluate import knn
from mmssl.evaluate.knn import KNN, KNNConfig, weighted_knn


def oracle(gallery, labels, queries, k, temperature):
    """scikit-learn: cosine distance is 1 − similarity."""
    classifier = KNeighborsClassifier(
        k,
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: torch.exp((1 - torch.tensor(distance)) / temperature).numpy(),
    )
    classifier.fit(gallery.double().numpy(), labels.numpy())
    return torch.from_numpy(classifier.predict(queries.double().numpy()))


@pytest.mark.parametrize("queries", [1, 37, 99, 300])
def test_same_predictions_as_scikit_learn(queries):
    generator = torch.Generator().manual_seed(queries)
    gallery, asked = torch.randn(500, 16, generator=generator), torch.randn(queries, 16, generator=generator)
    labels = torch.randint(0, 7, (500,), generator=generator)
    answers = weighted_knn(gallery, labels, asked, (20, 10, 100, 200), 0.07, 7)
    for k, found in answers.items():
        assert torch.equal(found, oracle(gallery, labels, asked, k, 0.07))


def test_chunks_do_not_change_the_answer(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    gallery, asked = torch.randn(200, 8, generator=generator), torch.randn(101, 8, generator=generator)
    labels = torch.randint(0, 4, (200,), generator=generator)
    whole = weighted_knn(gallery, labels, asked, (20,), 0.07, 4)[20]
    monkeypatch.setattr(knn, "CHUNK", 7)
    assert torch.equal(whole, weighted_knn(gallery, labels, asked, (20,), 0.07, 4)[20])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.sampled_from([0.005, 0.07, 1.0]), st.integers(0, 10_000))
def test_same_votes_as_a_plain_loop(samples, k, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    gallery, query = torch.randn(samples, 5, generator=generator), torch.randn(1, 5, generator=generator)
    labels = torch.randint(0, 3, (samples,), generator=generator)
    similarity = torch.cosine_similarity(gallery.double(), query.double(), dim=1).tolist()
    votes = [0.0, 0.0, 0.0]
    for near, label in sorted(zip(similarity, labels.tolist(), strict=True), reverse=True)[:k]:
        votes[label] += math.exp((near - 1) / temperature)
    found = int(weighted_knn(gallery, labels, query, (k,), temperature, 3)[k])
    assert votes[found] >= max(votes) * (1 - 1e-3)  # float32 may decide a near tie either way


def test_scores_name_their_protocol(blobs):
    scores = KNN(KNNConfig(k=(5, 5000))).run(blobs(missing=30))
    assert [(s.evaluation, s.metric) for s in scores] == [
        ("knn/shape", "accuracy"), ("knn/shape", "accuracy k=5000"),
        ("knn/texture", "accuracy"), ("knn/texture", "accuracy k=5000"),
    ]  # fmt: skip
    shape, every, texture, _ = scores
    assert shape.value == 100.0
    assert shape.chance == pytest.approx(25.0, abs=3)
    assert texture.value < 75  # texture is noise in these features
    for words in (
        "k=5,",
        "T=0.07",
        "gallery train (270)",
        "queries val (80)",
        "4 classes",
        "30 without label",
    ):
        assert words in shape.protocol
    assert "k=270 (all; asked for 5000)" in every.protocol


def test_chance_is_the_commonest_class_where_classes_are_uneven(blobs):
    subject = blobs()
    for split in ("train", "val"):
        labels = subject.features(split).labels["texture"]
        labels[: len(labels) * 3 // 4] = 1
    texture = KNN(KNNConfig(labels=("texture",))).run(subject)[0]
    share = (subject.features("val").labels["texture"] == 1).float().mean()
    assert texture.chance == pytest.approx(100 * float(share))


def test_unknown_label_is_named(blobs):
    with pytest.raises(MmsslError, match="labels: motion expected on both splits; they share shape, texture"):
        KNN(KNNConfig(labels=("motion",))).run(blobs())


def test_class_that_only_the_queries_have(blobs):
    subject = blobs()
    subject.features("val").labels["shape"][:10] = 9
    score = KNN(KNNConfig(labels=("shape",))).run(subject)[0]
    assert score.value == pytest.approx(100 * 70 / 80)
    assert "10 classes" in score.protocol
