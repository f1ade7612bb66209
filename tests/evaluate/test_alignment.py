"""Alignment: closed forms, brute force and SciPy; nothing is dropped in silence."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from tiny_sequences import by_metric, circle, given, sequence, subject, track

from mmssl.errors import MmsslError
from mmssl.evaluate import EVALUATIONS
from mmssl.evaluate.alignment import misalignment
from mmssl.evaluate.matching import kendall, nearest, recall


def ask(monkeypatch, sequences, folder=None, **config):
    given(monkeypatch, "alignment", val=sequences)
    fields = sorted(sequences[0].tracks)
    evaluation = EVALUATIONS["alignment"]
    return by_metric(evaluation(evaluation.Config(**config)).run(subject(folder, fields)))


def cameras(x, y):
    return {"video": track(x), "video_right": track(y)}


def test_two_cameras_that_agree_have_no_error(monkeypatch):
    found = [sequence(i, cameras(circle(20), circle(20))) for i in range(5)]
    scores = ask(monkeypatch, found)
    headline = scores["alignment/cameras", "alignment error"]
    assert headline.value == pytest.approx(0, abs=1e-9)
    assert headline.better == "lower"
    assert headline.chance == pytest.approx(100 * (20**2 - 1) / (3 * 20**2))  # Σ|i-j| / n³
    assert headline.interval == pytest.approx((0, 0), abs=1e-9)


def test_a_constant_embedding_scores_exactly_chance(monkeypatch):
    found = [sequence(i, cameras(np.ones((n, 4)), np.ones((n + 3, 4)))) for i, n in enumerate((7, 12))]
    scores = ask(monkeypatch, found)
    for metric in ("alignment error", "video to video_right", "video_right to video"):
        score = scores["alignment/cameras", metric]
        assert score.value == pytest.approx(score.chance)


def test_a_reversed_camera(monkeypatch):
    n = 11
    found = [sequence(0, cameras(circle(n), circle(n, flip=True)))]
    error = np.abs(np.arange(n) - np.arange(n)[::-1]).mean() / n
    scores = ask(monkeypatch, found)
    assert scores["alignment/cameras", "alignment error"].value == pytest.approx(100 * error)
    assert (
        scores["alignment/cameras", "alignment error"].interval is None
    )  # one sequence tells nothing of others


def test_both_directions_by_brute_force_for_cameras_of_unequal_length(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 5)), rng.normal(size=(14, 5))

    def direction(x, y):
        errors, chances = [], []
        for i in range(len(x)):
            cosine = [x[i] @ y[j] / np.linalg.norm(x[i]) / np.linalg.norm(y[j]) for j in range(len(y))]
            errors.append(abs(i - int(np.argmax(cosine))) * 0.1 / 1.4)
            chances.append(np.mean([abs(i - j) * 0.1 / 1.4 for j in range(len(y))]))
        return 100 * np.mean(errors), 100 * np.mean(chances)

    scores = ask(monkeypatch, [sequence(0, cameras(a, b))])
    there, back = direction(a, b), direction(b, a)
    for metric, expected in (
        ("video to video_right", there),
        ("video_right to video", back),
        ("alignment error", np.mean([there, back], axis=0)),
    ):
        score = scores["alignment/cameras", metric]
        assert (score.value, score.chance) == pytest.approx(tuple(expected))


def test_the_figure_has_every_part_of_the_video(monkeypatch, tmp_path):
    ask(monkeypatch, [sequence(0, cameras(circle(30), circle(30)))], folder=tmp_path)
    figure = json.loads((tmp_path / "figures" / "alignment_cameras.json").read_text())
    assert figure["x"] == pytest.approx(list(range(5, 100, 10)))
    assert figure["series"]["trained"] == pytest.approx([0] * 10, abs=1e-9)
    assert figure["chance"][0] > figure["chance"][5] > 0.2  # a guess is worst at the ends


def test_one_moment_each():
    error, chance = misalignment(track(np.ones((1, 3))), track(np.ones((1, 3))), "cosine")
    assert (error.tolist(), chance.tolist()) == ([0.0], [0.0])


def test_distances_differ_where_lengths_do():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.5]])
    assert nearest(a, b, "cosine").argmax().item() == 0
    assert nearest(a, b, "euclidean").argmax().item() == 1


def test_no_neighbour_is_allowed():
    assert nearest(torch.ones(2, 3), torch.ones(4, 3), allowed=torch.zeros(2, 4, dtype=torch.bool)).sum() == 0


@settings(deadline=None, max_examples=200)
@forall(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_kendall_is_scipy_s(order):
    mine = kendall(torch.tensor(order))
    theirs = kendalltau(np.arange(len(order)), order).statistic if len(order) > 1 else math.nan
    assert mine == pytest.approx(theirs, nan_ok=True)


def test_tau_of_videos_in_order_and_reversed(monkeypatch):
    same = [sequence(i, track(circle(n)), {"action": 0}) for i, n in enumerate((10, 14))]
    score = ask(monkeypatch, same, process="action")["alignment/order", "Kendall's τ"]
    assert 0.97 < score.value <= 1  # ten moments meet fourteen, so a few pairs of the fourteen are tied
    equal = [sequence(i, track(circle(12)), {"action": 0}) for i in range(2)]
    assert ask(monkeypatch, equal, process="all")["alignment/order", "Kendall's τ"].value == pytest.approx(1)
    back = [equal[0], sequence(1, track(circle(12, flip=True)), {"action": 0})]
    assert ask(monkeypatch, back, process="all")["alignment/order", "Kendall's τ"].value == pytest.approx(-1)


def test_only_videos_of_one_class_are_compared_and_pairs_without_tau_count_as_nothing(monkeypatch):
    found = [
        sequence(0, track(circle(12)), {"action": 0}),
        sequence(1, track(circle(12)), {"action": 0}),
        sequence(2, track(np.ones((12, 8))), {"action": 1}),
        sequence(3, track(np.ones((12, 8))), {"action": 1}),
        sequence(4, track(circle(12, flip=True)), {"action": -1}),
    ]
    scores = ask(monkeypatch, found, process="action")
    assert scores["alignment/order", "Kendall's τ"].value == pytest.approx(0.5)  # two of four pairs
    assert scores["alignment/order", "pairs without τ"].value == pytest.approx(50)
    protocol = scores["alignment/order", "Kendall's τ"].protocol
    assert "over 4 ordered pairs of videos of the same action; 2 pairs without a value count as 0" in protocol


def test_so_many_pairs_and_no_more(monkeypatch):
    found = [sequence(i, track(circle(5))) for i in range(8)]
    score = ask(monkeypatch, found, process="all", pairs=10)["alignment/order", "Kendall's τ"]
    assert "over 10 ordered pairs of videos" in score.protocol


def phased(id_, x, cut):
    n = len(x)
    return sequence(id_, track(x), {"action": 0}, [(0, cut / 10, "a"), (cut / 10, n / 10, f"b{id_ % 2}")])


def test_phase_error_of_equal_videos_and_by_brute_force(monkeypatch):
    equal = [phased(i, circle(20), 8) for i in range(2)]
    assert ask(monkeypatch, equal, process="all")["alignment/phase", "phase error"].value == pytest.approx(0)
    rng = np.random.default_rng(1)
    videos = [(rng.normal(size=(n, 4)), cut) for n, cut in ((12, 4), (9, 6))]
    found = [phased(i, x, cut) for i, (x, cut) in enumerate(videos)]
    score = ask(monkeypatch, found, process="all", distance="euclidean")["alignment/phase", "phase error"]

    def position(i, n, cut):
        return (i / cut if i < cut else 1 + (i - cut) / (n - cut)) / 2

    errors = []
    for (x, cut), (y, other) in (videos, videos[::-1]):
        match = [int(np.argmin(((y - row) ** 2).sum(1))) for row in x]
        gaps = [abs(position(i, len(x), cut) - position(j, len(y), other)) for i, j in enumerate(match)]
        errors.append(np.mean(gaps))
    assert score.value == pytest.approx(100 * np.mean(errors))
    assert 20 < score.chance < 45


def test_no_phase_error_where_phases_cannot_be_compared(monkeypatch):
    found = [phased(0, circle(12), 4), sequence(1, track(circle(12)))]
    assert ("alignment/phase", "phase error") not in ask(monkeypatch, found, process="all")


def test_recall_counts_classes_that_are_never_found(monkeypatch):
    """Two classes found everywhere, one that lives in a single video and so never is: 2/3, not 1."""
    eye = np.eye(3)
    found = [
        sequence(i, track(np.repeat(eye, 4, axis=0)), {}, [(0, 0.4, "a"), (0.4, 0.8, "b"), (0.8, 1.2, last)])
        for i, last in enumerate(("c", "d", "d"))
    ]
    scores = ask(monkeypatch, found, attributes=("phase",))
    assert scores["alignment/recall phase", "recall@1"].value == pytest.approx(100 * 3 / 4 - 100 / 8)
    # d's moments meet c's and the other d's alike: half; c is never found
    never = scores["alignment/recall phase", "classes never found"]
    assert never.value == 1
    assert never.protocol.endswith("never found: c")


def test_recall_by_brute_force(monkeypatch):
    rng = np.random.default_rng(2)
    x, label = rng.normal(size=(6, 5, 4)), [0, 1, 0, 1, 1, -1]
    found = [sequence(i, track(x[i]), {"action": label[i]}) for i in range(6)]
    scores = ask(monkeypatch, found, attributes=("action",), distance="euclidean")
    hits, guesses = {0: [], 1: []}, {0: [], 1: []}
    for i in range(5):
        for row in x[i]:
            others = [(((row - y) ** 2).sum(), label[j]) for j in range(5) if j != i for y in x[j]]
            hits[label[i]].append(min(others)[1] == label[i])
            guesses[label[i]].append(np.mean([own == label[i] for _, own in others]))
    score = scores["alignment/recall action", "recall@1"]
    assert score.value == pytest.approx(50 * sum(np.mean(v) for v in hits.values()))
    assert score.chance == pytest.approx(50 * sum(np.mean(v) for v in guesses.values()))


def test_recall_of_classes_against_sklearn():
    from sklearn.metrics import recall_score

    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 80)
    answers = np.where(truth == 2, 0, np.where(rng.random(80) < 0.5, truth, rng.integers(0, 5, 80)))
    _, each = recall(torch.from_numpy(answers == truth), torch.from_numpy(truth))
    assert float(each.mean()) == pytest.approx(recall_score(truth, answers, average="macro"))


def test_bad_input(monkeypatch):
    one = [sequence(0, track(circle(5)), {"action": 0})]
    with pytest.raises(MmsslError, match="nothing to align: one camera"):
        ask(monkeypatch, one)
    with pytest.raises(MmsslError, match=r"no two videos share a class of 'motion'; expected .*\(action\)"):
        ask(monkeypatch, one, process="motion")
    with pytest.raises(MmsslError, match="'phase' is known in fewer than two videos"):
        ask(monkeypatch, one, attributes=("phase",))
