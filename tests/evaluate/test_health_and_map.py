"""Health against closed forms; the map's files and what they promise."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from mmssl.errors import MmsslError
from mmssl.evaluate import EVALUATIONS, evaluate, parse_evaluation
from mmssl.evaluate.embedding_map import EmbeddingMap, MapConfig
from mmssl.evaluate.health import Health, HealthConfig, spaced
from mmssl.models.spectrum import effective_rank, rankme, spread, uniformity


def test_ranks_of_known_spectra():
    basis = torch.linalg.qr(torch.randn(64, 8, dtype=torch.float64)).Q
    assert rankme(basis) == pytest.approx(8)  # eight equal singular values
    assert rankme(torch.ones(50, 8)) == pytest.approx(1, abs=1e-6)
    values = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    share = (values / 8).numpy()
    assert rankme(basis[:, :4] * values) == pytest.approx(float(np.exp(-(share * np.log(share)).sum())))


def test_effective_rank_ignores_the_mean_and_squares_the_spectrum():
    x = torch.randn(500, 6, dtype=torch.float64) * torch.tensor([3.0, 1, 1, 0.5, 0.1, 0.1])
    eigenvalues = np.linalg.eigvalsh(np.cov(x.numpy().T))
    share = eigenvalues / eigenvalues.sum()
    expected = float(np.exp(-(share * np.log(share)).sum()))
    assert effective_rank(x) == pytest.approx(expected)
    assert effective_rank(x + 100) == pytest.approx(expected)


def test_spread_and_uniformity_of_collapse_and_of_a_sphere():
    assert spread(torch.ones(100, 16)) == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.ones(100, 16)) == pytest.approx(0, abs=1e-6)
    sphere = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    assert spread(sphere) == pytest.approx(1, abs=0.02)
    pairs = torch.nn.functional.normalize(sphere[:50].double(), dim=1).numpy()
    total = [np.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(pairs) for b in pairs[:i]]
    assert uniformity(sphere[:50]) == pytest.approx(float(np.log(np.mean(total))))


def test_spaced_rows_cover_the_split():
    rows = spaced(torch.arange(1000.0)[:, None], 11)[:, 0]
    assert rows.tolist() == [0, 100, 200, 300, 400, 500, 599, 699, 799, 899, 999]


def test_health_scores(blobs):
    scores = {score.evaluation: score for score in Health(HealthConfig()).run(blobs())}
    assert set(scores) == {f"health/{name}" for name in ("rankme", "effective_rank", "spread", "uniformity")}
    assert 3 < scores["health/rankme"].value < 12
    assert scores["health/rankme"].ceiling == 12
    assert "80 of val, dimension 12" in scores["health/rankme"].protocol


def test_map_keeps_neighbourhoods_and_pairs_points_with_thumbnails(blobs):
    subject = blobs()
    assert EmbeddingMap(MapConfig(points=60, thumbnail=8)).run(subject) == []
    written = json.loads((subject.folder / "map.json").read_text())
    places = np.stack([written["x"], written["y"]], 1)
    shape = np.array(written["labels"]["shape"])
    assert len(places) == len(shape) == len(written["keys"]) == 60
    assert KNeighborsClassifier(5).fit(places[::2], shape[::2]).score(places[1::2], shape[1::2]) > 0.9
    sheet = np.asarray(Image.open(io.BytesIO((subject.folder / written["sprite"]["file"]).read_bytes())))
    columns = written["sprite"]["columns"]
    for index, key in enumerate(written["keys"]):
        row, column = divmod(index, columns)
        assert abs(int(sheet[8 * row + 4, 8 * column + 4, 0]) - int(key.removeprefix("key"))) < 12
    assert written["classes"]["shape"][0] == "disc"
    assert "60 of val (80)" in written["protocol"]


def test_map_is_deterministic_and_skipped_without_a_folder(blobs):
    subject = blobs()
    EmbeddingMap(MapConfig(points=40)).run(subject)
    first = (subject.folder / "map.json").read_bytes()
    EmbeddingMap(MapConfig(points=40)).run(subject)
    assert (subject.folder / "map.json").read_bytes() == first
    subject.folder = None
    assert EmbeddingMap(MapConfig()).run(subject) == []


def test_table_and_parsing():
    for name, evaluation in EVALUATIONS.items():
        assert parse_evaluation({"name": name}, "x.yaml") == evaluation.Config()
    with pytest.raises(
        MmsslError, match=r"x.yaml: stages.e.evaluations.nkk.name: expected one of knn, linear"
    ):
        parse_evaluation({"name": "nkk"}, "x.yaml", "stages.e.evaluations.nkk")
    with pytest.raises(MmsslError, match=r"x.yaml: e.temprature: unknown key; did you mean 'temperature'"):
        parse_evaluation({"name": "knn", "temprature": 1}, "x.yaml", "e")


def test_evaluate_runs_every_question_in_order(blobs):
    names = [s.evaluation for s in evaluate(blobs(), [HealthConfig(), MapConfig(points=20)])]
    assert names[0] == "health/rankme"
    assert len(names) == 4
