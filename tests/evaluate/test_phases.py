"""Phases: planted ones are found, sklearn's metrics agree, and nothing is left out in silence."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, r2_score
from tiny_sequences import by_metric, given, sequence, subject, track

from mmssl.errors import MmsslError
from mmssl.evaluate import EVALUATIONS
from mmssl.evaluate.phases import Moments, balanced, confusion, r_squared, some
from mmssl.evaluate.resample import bootstrap, mean


def ask(monkeypatch, train, val, folder=None, **config):
    given(monkeypatch, "phases", train=train, val=val)
    evaluation = EVALUATIONS["phases"]
    return by_metric(evaluation(evaluation.Config(**config)).run(subject(folder)))


def planted(id_, noise=0.05, names=("begin", "middle", "end"), progress=True):
    """Each phase has its own direction; one more dimension says how much of the phase has gone by."""
    rng = np.random.default_rng(id_)
    lengths = rng.integers(6, 14, 3)
    rows, phases, at = [], [], 0
    for number, (length, name) in enumerate(zip(lengths, names, strict=True)):
        gone = np.arange(length) / length
        x = np.zeros((length, 6))
        x[:, number] = 1
        x[:, 4] = gone if progress else 0
        rows.append(x + rng.normal(0, noise, x.shape))
        phases.append((at / 10, (at + length) / 10, name))
        at += length
    return sequence(id_, track(np.concatenate(rows)), {}, phases)


def test_planted_phases_and_progress_are_read_off(monkeypatch, tmp_path):
    scores = ask(monkeypatch, [planted(i) for i in range(10)], [planted(i) for i in range(20, 26)], tmp_path)
    full = scores["phases/classification", "balanced accuracy, 100 % of labels"]
    assert full.value > 99
    assert full.chance == pytest.approx(100 / 3)
    assert full.headline
    tenth = scores["phases/classification", "balanced accuracy, 10 % of labels"]
    assert not tenth.headline
    assert "from 1 labelled videos (10 %, mean of 3 draws)" in tenth.protocol
    progress = scores["phases/progression", "R²"]
    assert 0.9 < progress.interval[0] < progress.value < progress.interval[1] < 1
    figure = json.loads((tmp_path / "figures" / "phases_classification.json").read_text())
    assert figure["x"] == [10, 50, 100]
    assert figure["series"]["trained"][2] == full.value
    assert figure["untrained"][2] == ["phases/classification", "balanced accuracy, 100 % of labels"]


def test_noise_is_near_chance_and_has_no_progress(monkeypatch):
    def noise(i):
        whole = planted(i)
        x = np.random.default_rng(100 + i).normal(size=(len(whole.tracks["video"]), 6))
        return sequence(i, track(x), {}, [(p.start, p.end, p.name) for p in whole.phases])

    scores = ask(monkeypatch, [noise(i) for i in range(12)], [noise(i) for i in range(20, 40)], shares=(1.0,))
    score = scores["phases/classification", "balanced accuracy, 100 % of labels"]
    assert score.interval[0] < score.chance < score.interval[1]
    assert -0.2 < scores["phases/progression", "R²"].value < 0.1


def test_phases_by_their_number(monkeypatch):
    train = [planted(i, names=("a", "b", f"c{i}")) for i in range(6)]
    val = [planted(i, names=("a", "b", f"c{i}")) for i in range(20, 24)]
    named = ask(monkeypatch, train, val, shares=(1.0,))
    numbered = ask(monkeypatch, train, val, shares=(1.0,), by="number")
    metric = ("phases/classification", "balanced accuracy, 100 % of labels")
    assert named[metric].chance == pytest.approx(50)
    last = sum(len(one.tracks["video"]) - round(one.phases[2].start * 10) for one in val)
    assert f"{last} of phases that the gallery has not left out" in named[metric].protocol
    assert numbered[metric].chance == pytest.approx(100 / 3)
    assert numbered[metric].value > 99


def test_the_metrics_are_sklearn_s():
    rng = np.random.default_rng(0)
    y, said = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    owner = np.sort(rng.integers(0, 9, 200)) * 2  # videos without a moment have no row
    nothing = torch.zeros(200, 1)
    moments = Moments(nothing, torch.from_numpy(y), nothing[:, 0], torch.from_numpy(owner), 0)
    counts = confusion(moments, torch.from_numpy(said), 5)
    assert counts.shape == (len(set(owner)), 5, 5)
    assert float(balanced(counts.sum(0))) == pytest.approx(balanced_accuracy_score(y, said))
    u, guess = rng.random(50), rng.random(50)
    sums = torch.tensor([50, u.sum(), (u**2).sum(), ((u - guess) ** 2).sum()])
    assert float(r_squared(sums[None, None])) == pytest.approx(r2_score(u, guess))


def test_a_share_is_of_whole_videos_and_shares_are_nested():
    owner = torch.arange(10).repeat_interleave(3)
    moments = Moments(owner[:, None].float(), owner, owner.double(), owner, 0)
    few, more = (some(moments, share, 0)[1] for share in (0.2, 0.5))
    assert len(few) == 2 * 3
    assert set(few.tolist()) < set(more.tolist())
    assert len(some(moments, 0.01, 0)[1]) == 3  # one video at least


def test_one_phase_and_videos_of_one_moment(monkeypatch):
    train = [sequence(i, track(np.eye(6)[: i + 1]), {}, [(0, 0.6, "a")]) for i in range(4)]
    scores = ask(monkeypatch, train, train[:1] + train[2:], shares=(1.0,))
    assert scores["phases/classification", "balanced accuracy, 100 % of labels"].value == 100
    assert scores["phases/progression", "R²"].value > 0.5


def test_phases_that_cannot_be_scored_are_counted(monkeypatch):
    train = [planted(i, names=("a", "b", "rare" if i == 0 else "c")) for i in range(6)]
    scores = ask(monkeypatch, train, [planted(i, names=("a", "b", "c")) for i in range(9, 13)], shares=(1.0,))
    assert "mean over 3 phases, without 1 that too few" in scores["phases/progression", "R²"].protocol


def test_the_penalty_keeps_noise_from_scoring_below_nothing(monkeypatch):
    """Moments of one video are alike: leaving out one moment, not its video, would choose a penalty of 0."""

    def drift(i):
        whole = planted(i)
        rng = np.random.default_rng(300 + i)
        x = np.repeat(rng.normal(size=(1, 60)), len(whole.tracks["video"]), axis=0)
        x += np.linspace(0, 1, len(x))[:, None] * rng.normal(size=60)  # this video's own way through time
        return sequence(i, track(x), {}, [(p.start, p.end, p.name) for p in whole.phases])

    scores = ask(monkeypatch, [drift(i) for i in range(8)], [drift(i) for i in range(20, 32)], shares=(1.0,))
    assert scores["phases/progression", "R²"].value > -0.35


def test_bad_input(monkeypatch):
    bare = [sequence(0, track(np.ones((4, 2))))]
    with pytest.raises(MmsslError, match="split 'train': no moment with a known phase"):
        ask(monkeypatch, bare, bare)
    with pytest.raises(MmsslError, match="split 'val': no moment with a known phase"):
        ask(monkeypatch, [planted(0)], bare)
    with pytest.raises(MmsslError, match="expected a smaller `step`"):
        short = [sequence(0, track(np.eye(2)), {}, [(0, 0.1, "a"), (0.1, 0.2, "b")])]
        ask(monkeypatch, short, short)


def test_bootstrap_of_a_mean_has_the_textbook_standard_error():
    values = torch.from_numpy(np.random.default_rng(1).normal(size=400))
    spread = bootstrap(torch.stack([values, torch.ones_like(values)], dim=1), mean, seed=0)
    expected = float(values.std(correction=0)) / 20
    assert spread.error == pytest.approx(expected, rel=0.1)
    low, high = spread.interval
    assert high - low == pytest.approx(2 * 1.96 * expected, rel=0.15)
    assert bootstrap(torch.ones(4, 2), mean, seed=0) is None


def test_groups_are_drawn_whole():
    """Ten videos of a hundred equal moments: as uncertain as ten values, not as a thousand."""
    values = torch.arange(10, dtype=torch.float64)
    spread = bootstrap(torch.stack([100 * values, torch.full((10,), 100.0)], dim=1), mean, seed=0)
    assert spread.error == pytest.approx(float(values.std(correction=0)) / 10**0.5, rel=0.1)
