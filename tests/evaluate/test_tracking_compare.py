"""Result files of any tracker under any protocol, and what is shown of them."""

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_tracking import sequence, shifted
from tiny_tracking import walks as make_walks

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.evaluation import TrackingConfig
from mmssl.evaluate.tracking.experiments import RUNS, anchored
from mmssl.evaluate.tracking.protocols import PROTOCOLS
from mmssl.evaluate.tracking.raw import Followed, write_followed
from mmssl.evaluate.tracking.readers import read_benchmark
from mmssl.evaluate.tracking.readers.otb import OtbConfig
from mmssl.evaluate.tracking.readers.vot import VotConfig
from mmssl.evaluate.tracking.results import LAYOUTS, write_boxes, write_trajectory
from mmssl.evaluate.tracking.scoring import interval, outcome, read_results, rule
from mmssl.evaluate.tracking.supervised import trajectory

OTB = LAYOUTS["otb"]


@pytest.fixture
def walks():
    return make_walks()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_truth_as_result_files_scores_the_ceiling(tmp_path, walks, name):
    for one in walks:
        write_boxes(tmp_path / "text" / f"{one.name}.txt", one.truth)
        write_boxes(tmp_path / "folders" / one.name / f"{one.name}_001.txt", one.truth)
    by = rule(name, "ope")
    best = by.ceiling(walks)
    assert best.values == pytest.approx(PROTOCOLS[name].ceiling(walks).values)
    for layout in ("text", "folders"):
        its = outcome(by, walks, read_results(tmp_path / layout, walks, "ope", OTB))
        assert its.total.values == pytest.approx(best.values)
        assert its.seconds is None, "nobody measured"
    if name == "otb":
        assert best.values["success AUC"] == pytest.approx(100 * 20 / 21)


@pytest.mark.parametrize("experiment", ["tre", "sre", "vot_reset", "vot_anchor"])
def test_the_truth_in_every_other_experiment(tmp_path, walks, experiment):
    walks = [anchored(one) for one in walks]
    by = rule({"vot_reset": "vot2018", "vot_anchor": "vot_anchor"}.get(experiment, "otb"), experiment)
    for one in walks:
        if experiment == "vot_reset":
            runs = {"001": trajectory(one.truth)}
        else:
            keep = trajectory if experiment == "vot_anchor" else np.asarray
            runs = {run.name: keep(run.sequence.truth) for run in RUNS[experiment](one)}
        write_followed(tmp_path, one, Followed(runs), OTB)
    its = outcome(by, walks, read_results(tmp_path, walks, experiment, OTB))
    np.testing.assert_equal(its.total.values, by.ceiling(walks).values)
    first = next(iter(its.each.values()))
    assert first.counts["frames"] > 0
    if experiment == "sre":
        assert its.total.counts["frames"] == 12 * sum(map(len, walks))


def test_tre_pools_the_frames_of_all_runs(walks):
    """One number from all frames of all runs, not the mean of the runs' numbers."""
    one = sequence(60, 3)
    runs = {run.name: run.sequence.truth.copy() for run in RUNS["tre"](one)}
    late = list(runs)[-1]
    runs[late][1:] = [0, 0, 4, 4]
    judged = rule("otb", "tre").judge(runs, one)
    frames = sum(map(len, runs.values()))
    assert judged.values["success at 0.5"] == pytest.approx(100 * (1 - (len(runs[late]) - 1) / frames))


def test_repetitions_of_vots_toolkit_are_all_read(tmp_path, walks):
    one = walks[0]
    for number in (1, 2, 3):
        path = tmp_path / "baseline" / one.name / f"{one.name}_{number:03d}.txt"
        write_trajectory(path, trajectory(one.truth + number))
    found = read_results(tmp_path, [one], "vot_reset", OTB)[one.name]
    assert list(found.runs) == ["001", "002", "003"]
    assert found.runs["002"].regions[1, 0] == one.truth[1, 0] + 2


def test_missing_and_short_results_are_named(tmp_path, walks):
    with pytest.raises(MmsslError, match="nowhere: no such folder"):
        read_results(tmp_path / "nowhere", walks, "ope", OTB)
    write_boxes(tmp_path / "walk0.txt", walks[0].truth)
    with pytest.raises(MmsslError, match=r"walk1.txt: no such file"):
        read_results(tmp_path, walks, "ope", OTB)
    write_boxes(tmp_path / "walk1.txt", walks[1].truth[:-2])
    with pytest.raises(MmsslError, match=r"walk1.txt: 23 lines, fewer than the 25 frames"):
        read_results(tmp_path, walks, "ope", OTB)
    with pytest.raises(MmsslError, match="no result of walk5"):
        outcome(rule("otb", "ope"), walks, {one.name: Followed({"ope": one.truth}) for one in walks[:5]})


def test_a_protocol_of_another_experiment_is_refused():
    with pytest.raises(MmsslError, match=r"experiment vot_reset: expected vot2013.*found 'otb'"):
        rule("otb", "vot_reset")
    with pytest.raises(MmsslError, match=r"experiment ope: expected otb.*found 'vot2018'"):
        rule("vot2018", "ope")


def test_the_interval_is_a_bootstrap_over_sequences(walks):
    """Of a mean of per-sequence values it is what resampling those values gives."""
    results = shifted(walks, 0)
    for by, one in enumerate(walks):
        results[one.name].runs["ope"][1:, 0] += 2 * by
    otb = rule("otb", "ope")
    its = outcome(otb, walks, results)
    each = np.array([its.each[one.name].values["success AUC"] for one in walks])
    rng = np.random.default_rng(0)
    means = each[rng.integers(0, len(each), (20_000, len(each)))].mean(axis=1)
    low, high = interval(otb, its.each, walks, "success AUC", 0).interval
    spread = np.std(means)
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.3 * spread)
    assert high == pytest.approx(np.quantile(means, 0.975), abs=0.3 * spread)
    assert interval(otb, its.each, walks[:4], "success AUC", 0) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"preset": "kcf"}, "preset: expected one of"),
        ({"protocols": ["vot2018"]}, "experiment ope: expected otb"),
        ({"tracker": {"padding": -1}}, "padding"),
        ({"tracker": {"pading": 1}}, "pading"),
        ({"compare": {"trained": "x"}}, "is what our own are called"),
        ({"experiment": "opee"}, "experiment"),
    ],
)
def test_settings_that_do_not_fit(settings, expected):
    with pytest.raises(ValueError, match=expected):
        TrackingConfig.model_validate(settings)


def test_defaults_are_the_benchmarks_own():
    asked = {
        kind: TrackingConfig.model_validate({"benchmark": {"kind": kind, "root": "x"}}).asked
        for kind in ("otb", "lasot", "got10k", "trackingnet", "uav123")
    }
    assert asked == {
        "otb": ("otb",), "lasot": ("lasot",), "got10k": ("got10k",), "trackingnet": ("trackingnet",),
        "uav123": ("otb",),
    }  # fmt: skip
    assert TrackingConfig(experiment="vot_anchor").asked == ("vot_anchor",)


@pytest.mark.real
@pytest.mark.skipif("MMSSL_REAL_DATA" not in os.environ, reason="MMSSL_REAL_DATA: no folder of real data")
def test_real_ground_truth_files_are_perfect_result_files(tmp_path):
    """Of real OTB sequences, with their ranges and their second targets, under each protocol."""
    root = Path(os.environ["MMSSL_REAL_DATA"]) / "tracking"
    for path in sorted(root.glob("*/groundtruth_rect*.txt")):
        target = path.stem.removeprefix("groundtruth_rect")
        (tmp_path / f"{path.parent.name}{target}.txt").write_bytes(path.read_bytes())
    sequences = read_benchmark(OtbConfig(root=str(root)))
    assert {"Jogging.1", "Jogging.2", "David", "Diving"} <= {one.name for one in sequences}
    results = read_results(tmp_path, sequences, "ope", OTB)
    for name in PROTOCOLS:
        by = rule(name, "ope")
        its = outcome(by, sequences, results)
        assert its.total.values == pytest.approx(by.ceiling(sequences).values)
    bag = read_benchmark(VotConfig(root=str(root), sequences=("vot_bag",)))
    for experiment, name in (("vot_reset", "vot2018"), ("vot_anchor", "vot_anchor")):
        one = [anchored(sequence) for sequence in bag]
        best = rule(name, experiment).ceiling(one).values
        assert best["accuracy"] > 99
