"""Grouped folds against scikit-learn and scipy; nothing of a group is seen before it is asked about."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold
from tiny_actions import build, encoders

from mmssl.errors import MmsslError
from mmssl.evaluate import Features, Subject, evaluate, parse_evaluation
from mmssl.evaluate.grouped import Pool, assign, balanced_accuracy, interval, logistic, nested
from mmssl.evaluate.knn import knn_votes


def knn(x, y, queries, classes, k):
    return knn_votes(x, y, queries, (k,), 0.07, classes)[k]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=12, unique=True), st.integers(2, 6))
def test_folds_are_those_of_group_k_fold(sizes, folds):
    groups = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes)))
    folds = min(folds, len(sizes))
    found = assign(groups, folds)
    expected = {tuple(test) for _, test in GroupKFold(folds).split(groups, groups=groups)}
    assert {tuple((found == fold).nonzero()[:, 0].tolist()) for fold in range(folds)} == expected


@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=50))
def test_balanced_accuracy_is_scikit_learn_s(pairs):
    truth, answers = (torch.tensor(values) for values in zip(*pairs, strict=True))
    expected = balanced_accuracy_score(truth, answers)
    assert balanced_accuracy(answers, truth) == pytest.approx(expected)


def test_logistic_regression_minimises_the_balanced_objective():
    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([0] * 40 + [1] * 12 + [3] * 8)  # of class 2 there is nothing to fit on
    x = torch.randn(60, 3, generator=generator) + y[:, None] * torch.tensor([0.6, 0.0, -0.3])
    z = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
    of = np.searchsorted([0, 1, 3], y.numpy())
    weight = 60 / (3 * np.bincount(of)[of])

    def objective(flat):
        w, b = flat[:9].reshape(3, 3), flat[9:]
        logits = z @ w.T + b
        log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -0.1 * (weight * log[np.arange(60), of]).sum() + 0.5 * (w**2).sum()

    best = minimize(objective, np.zeros(12), method="BFGS", options={"gtol": 1e-7}).x
    logits = z @ best[:9].reshape(3, 3).T + best[9:]
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = logistic(x, y, x, 4, 0.1).exp().numpy()
    np.testing.assert_allclose(found[:, [0, 1, 3]], expected, atol=2e-3)
    assert (found[:, 2] == 0).all()


def test_a_part_of_one_class_answers_with_it():
    assert (
        logistic(torch.randn(4, 2), torch.full((4,), 1), torch.randn(3, 2), 3, 1.0).argmax(1).tolist()
        == [1] * 3
    )


def test_what_only_the_group_tells_is_worth_nothing():
    """Features name the group, every group has mostly one class: plain folds see through it, these do not."""
    generator = torch.Generator().manual_seed(1)
    groups = torch.arange(12).repeat_interleave(10)
    y = torch.arange(12)[groups] % 2
    x = 4 * torch.eye(12)[groups] + 0.1 * torch.randn(120, 12, generator=generator)
    pool = Pool(x, y, groups, 2)
    grouped, _ = nested(pool, (5, 1), knn, 4)
    plain, _ = nested(Pool(x, y, torch.arange(120), 2), (5, 1), knn, 4)
    assert balanced_accuracy(plain.argmax(1), y) == 1.0
    assert balanced_accuracy(grouped.argmax(1), y) < 0.7


def test_nested_choice_against_loops():
    generator = torch.Generator().manual_seed(2)
    sizes = [13, 11, 9, 7, 5, 4, 3]
    groups = torch.arange(7).repeat_interleave(torch.tensor(sizes))
    y = torch.randint(0, 3, (len(groups),), generator=generator)
    x = torch.eye(3, 6)[y] + 0.9 * torch.randn(len(groups), 6, generator=generator)
    grid = (1, 3, 9, 15)
    logits, chosen = nested(Pool(x, y, groups, 3), grid, knn, 3)
    fold = assign(groups, 3)
    for number in range(3):
        fit = (fold != number).nonzero()[:, 0]
        names = {int(g): i for i, g in enumerate(groups[fit].unique())}
        inner = assign(torch.tensor([names[int(g)] for g in groups[fit]]), 3)
        right = {}
        for k in grid:
            answers = torch.empty(len(fit), dtype=torch.int64)
            for part in range(3):
                out = inner == part
                answers[out] = knn(x[fit[~out]], y[fit[~out]], x[fit[out]], 3, k).argmax(1)
            right[k] = balanced_accuracy_score(y[fit], answers)
        best = max(grid, key=lambda k: right[k])
        assert chosen[number] == best
        torch.testing.assert_close(logits[fold == number], knn(x[fit], y[fit], x[fold == number], 3, best))


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_interval_is_that_of_resampled_groups():
    generator = torch.Generator().manual_seed(3)
    groups = torch.tensor([4, 7, 7, 9, 9, 9, 12, 12, 15, 15, 15, 15]).repeat(5)
    truth = torch.randint(0, 3, (60,), generator=generator)
    answers = torch.where(torch.rand(60, generator=generator) < 0.6, truth, (truth + 1) % 3)
    drawn = torch.randint(5, (400, 5), generator=torch.Generator().manual_seed(8))
    names, values = groups.unique(), []
    for row in drawn:
        taken = torch.cat([(groups == names[g]).nonzero()[:, 0] for g in row])
        values.append(balanced_accuracy_score(truth[taken], answers[taken]))
    expected = np.quantile(values, [0.025, 0.975])
    np.testing.assert_allclose(interval(answers, truth, groups, 400, 8), expected, atol=1e-9)


class Given:
    """Three classes in 8 recordings; class 2 is rare and looks like class 0."""

    gallery, queries, seed, folder = "train", "test", 0, None

    def __init__(self):
        self.classes = {"action": ["standup", "sitdown", "lie", "never"], "room": list("abcdefgh")}

    def features(self, split, encoder=None):
        n = 60 if split == "train" else 30
        generator = torch.Generator().manual_seed(n)
        y = torch.arange(n) % 2
        x = 3 * torch.eye(2, 8)[y] + torch.randn(n, 8, generator=generator)
        y[5::15], y[7] = 2, -1
        room = torch.arange(n) // 2 % 4 + (4 if split == "test" else 0)
        return Features(x, {"action": y, "room": room}, torch.arange(n), [str(i) for i in range(n)])

    def groups(self, split, name):
        return dict(enumerate(self.features(split).labels["room"].add(1000).tolist()))

    def about(self, *splits, encoder=None):
        return "given features"


def ask(subject, **options):
    scores = evaluate(subject, [parse_evaluation({"name": "folds", **options}, "x.yaml")])
    return {score.evaluation: score for score in scores}


def test_scores_intervals_pairs_and_protocol():
    by_label = ask(Given(), group="room", pairs=[["standup", "sitdown"]], c=[1e-2, 0.1], resamples=300)
    score = by_label["folds/linear/action"]
    assert score.metric == "balanced accuracy"
    assert score.chance == pytest.approx(100 / 3)
    low, high = score.interval
    assert low < score.value < high
    pair = by_label["folds/linear/pair/standup-sitdown"]
    assert pair.value > 90
    assert pair.chance == 50
    assert "88 samples of train and test, 3 classes, 8 groups by room" in score.protocol
    assert "2 of other classes or without label left out" in score.protocol
    by_meta = ask(Given(), group="recording", labels=["action"], c=[0.1], k=[5], resamples=300)
    same = ask(Given(), group="room", c=[0.1], k=[5], resamples=300)
    assert by_meta["folds/linear/action"].value == same["folds/linear/action"].value
    two = ask(Given(), group="room", classes=["sitdown", "standup"], c=[0.1], resamples=300)[
        "folds/knn/action"
    ]
    assert two.value > 90
    assert "2 classes" in two.protocol


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["verb"]}, "labels: expected some of action; found verb"),
        ({"classes": ["standup", "fly"]}, "expected a label with samples of standup, fly"),
        ({"pairs": [["standup", "never"]]}, "no label that is asked for has samples of standup and never"),
    ],
)
def test_what_cannot_be_asked_is_named(options, message):
    with pytest.raises(MmsslError, match=message):
        ask(Given(), group="room", **options)


def test_groups_from_metadata_of_a_shard_set(tmp_path):
    subject = Subject(encoders(), build(tmp_path, {"train": 18, "val": 12}), clips=1)
    train, val = (subject.groups(split, "recording") for split in ("train", "val"))
    recordings = [list(groups.values()) for groups in (train, val)]
    assert [Counter(own).most_common() for own in recordings] == [
        [(own[at], 6) for at in range(0, len(own), 6)] for own in recordings
    ]
    assert not set(recordings[0]) & set(recordings[1])
    score = ask(subject, labels=["colour"], resamples=200)["folds/linear/colour"]
    assert score.value == 100.0
    assert "5 groups by recording" in score.protocol
    with pytest.raises(MmsslError, match=r"18 samples have no meta\.room"):
        subject.groups("train", "room")


def test_one_group_is_refused():
    with pytest.raises(MmsslError, match="all samples are of one group"):
        assign(torch.zeros(5, dtype=torch.int64), 3)
