"""Retrieval against brute force and exact chance; films that show the right moments of the right videos."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import hypergeom
from tiny_actions import FRAMES, LEVELS, build, encoders

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.evaluate.strips import Strip, sheet
from mmssl.evaluate.video_retrieval import neighbours, recall_at, recall_by_chance


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return build(tmp_path_factory.mktemp("retrieval"), {"train": 13, "val": 7}, damaged=(15,))


def ask(subject, **options):
    scores = evaluate(subject, [parse_evaluation({"name": "retrieval", **options}, "x.yaml")])
    return {(score.evaluation, score.metric): score for score in scores}


@pytest.mark.parametrize("own", [False, True])
def test_neighbours_and_recall_are_those_of_brute_force(own):
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(37, 6))
    queries = gallery if own else rng.normal(size=(11, 6))
    y, truth = rng.integers(0, 5, 37), rng.integers(0, 5, 11)
    truth = y if own else truth
    rows = torch.arange(37) if own else None
    found = neighbours(torch.tensor(gallery), torch.tensor(queries), 50, rows)
    hits = dict.fromkeys((1, 5, 50), 0)
    for q, query in enumerate(queries):
        cosine = [g @ query / np.linalg.norm(g) / np.linalg.norm(query) for g in gallery]
        order = [g for g in np.argsort(cosine)[::-1] if not (own and g == q)]
        assert found[q].tolist() == order
        for k in hits:
            hits[k] += any(y[g] == truth[q] for g in order[:k])
    right = torch.tensor(y)[found] == torch.tensor(truth)[:, None]
    for k, count in hits.items():
        assert recall_at(right, k) == pytest.approx(count / len(queries))


def test_chance_is_hypergeometric_and_what_random_draws_give():
    gallery = torch.tensor([0] * 5 + [1] * 2 + [2] * 13)
    queries = torch.tensor([0, 1, 1, 2, 3])  # of class 3 the gallery has none: always a miss
    rng = np.random.default_rng(1)
    for k in (1, 3, 10, 50):
        n = min(k, 20)
        exact = np.mean([hypergeom.sf(0, 20, int((gallery == q).sum()), n) for q in queries])
        assert recall_by_chance(gallery, queries, k) == pytest.approx(exact)
        drawn = [gallery.numpy()[rng.permutation(20)[:n]] for _ in range(4000)]
        simulated = np.mean([[(one == int(q)).any() for q in queries] for one in drawn])
        assert recall_by_chance(gallery, queries, k) == pytest.approx(simulated, abs=0.02)
    own = torch.tensor([0, 0, 1])  # without itself a query of class 1 finds none, one of class 0 one of two
    assert recall_by_chance(own, own, 1, excluded=True) == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_every_readable_video_counts_and_protocol_says_how(shards, tmp_path):
    subject = Subject(encoders(), shards, folder=tmp_path, batch_size=4)
    scores = ask(subject, clips=2, labels=["colour"], k=[1, 5, 50], shown=3)
    first = scores["retrieval/colour", "R@1"]
    assert first.value == 100.0  # colour survives random weights
    assert first.headline
    assert not scores["retrieval/colour", "R@5"].headline
    for words in ("gallery train (13)", "queries val (6)", "1 of val unreadable", "mean over 2 clips"):
        assert words in first.protocol
    assert "13 (all; asked for 50) nearest" in scores["retrieval/colour", "R@50"].protocol
    picture = Image.open(tmp_path / "pictures" / "retrieval_colour.png")
    assert picture.width > picture.height > 3 * 64


def test_a_query_does_not_find_itself(shards):
    subject = Subject(encoders(), shards, gallery="train", queries="train")
    scores = ask(subject, clips=1, labels=["change"], k=[1])
    assert "does not find itself" in scores["retrieval/change", "R@1"].protocol
    assert scores["retrieval/change", "R@1"].chance == pytest.approx(100 * (7 * 6 + 6 * 5) / 12 / 13)


def test_films_show_the_videos_that_were_asked_for(shards):
    subject = Subject(encoders(), shards, batch_size=4)
    films = subject.film("train", [11, 2], FRAMES // 2, 16)
    assert set(films) == {2, 11}
    for number, film in films.items():
        assert film.shape == (FRAMES // 2, 3, 16, 16)
        seen = film[:, number % 3, :, 4].mean(1) * 255
        levels = LEVELS if number % 2 == 0 else LEVELS[::-1]
        np.testing.assert_allclose(seen.numpy(), levels[1::2], atol=12)  # the second of every two frames
    with pytest.raises(MmsslError, match="no readable sample of id 2"):
        subject.film("val", [1, 2], 1, 16)


def test_a_sheet_has_a_row_for_each_query_and_marks_what_is_right():
    grey = torch.full((2, 3, 16, 16), 0.5)
    rows = [[Strip(grey, "up"), Strip(grey, "up", True), Strip(grey, "down", False)]] * 2
    pixels = np.asarray(Image.open(io.BytesIO(sheet(rows))))
    marks = {mark: (pixels == np.array(mark)).all(2) for mark in ((0, 114, 178), (213, 94, 0))}
    right, wrong = (np.nonzero(mark) for mark in marks.values())
    assert right[1].max() < wrong[1].min()  # the second strip is the right one
    assert len(np.unique(right[0])) == 2 * (16 + 6)  # in both rows of strips
