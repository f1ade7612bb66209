"""Result files of any tracker under any protocol, and what is shown of them."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_tracking import sequence

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.evaluation import TrackingConfig, judge, scores
from mmssl.evaluate.tracking.experiments import RUNS, anchored
from mmssl.evaluate.tracking.film import film
from mmssl.evaluate.tracking.presentation import per_attribute, per_sequence, plot, write_films, write_shown
from mmssl.evaluate.tracking.protocols import PROTOCOLS
from mmssl.evaluate.tracking.raw import Followed, write_followed
from mmssl.evaluate.tracking.readers import read_benchmark
from mmssl.evaluate.tracking.readers.otb import OtbConfig
from mmssl.evaluate.tracking.readers.vot import VotConfig
from mmssl.evaluate.tracking.results import LAYOUTS, write_boxes, write_trajectory
from mmssl.evaluate.tracking.scoring import interval, outcome, read_results, rule
from mmssl.evaluate.tracking.supervised import trajectory
from mmssl.report.collect import collect
from mmssl.report.page import write_report

OTB, GOT10K = LAYOUTS["otb"], LAYOUTS["got10k"]


@pytest.fixture
def walks():
    return [sequence(20 + 5 * seed, seed, attributes=("SV", "IV")[: 1 + seed % 2]) for seed in range(6)]


def shifted(walks, by):
    """A tracker that is off to the right by so many pixels, after the first frame."""
    runs = {}
    for one in walks:
        boxes = one.truth.copy()
        boxes[1:, 0] += by
        runs[one.name] = Followed({"ope": boxes}, {"ope": np.full(len(one), 0.01)})
    return runs


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


def shown_of(walks):
    results = {"trained": shifted(walks, 4), "good": shifted(walks, 1)}
    return judge(TrackingConfig(), "walks", walks, results, "on features of nothing")[0], results


def test_scores_name_their_protocol_and_their_ceiling(walks):
    shown, _ = shown_of(walks)
    first, *others = scores(shown, "trained", 0)
    assert (first.evaluation, first.metric, first.unit) == ("tracking/walks/otb", "success AUC", "%")
    assert first.ceiling == pytest.approx(100 * 20 / 21)
    assert first.interval[0] <= first.value <= first.interval[1]
    for word in (
        "protocol otb",
        "IoU > t",
        "first frame replaced",
        "OPE",
        "6 sequences, 195 frames",
        "tracker udt",
    ):
        assert word in first.protocol
    assert first.protocol.endswith("95 % interval by bootstrap over sequences")
    assert "interval" not in others[0].protocol
    speed = others[-1]
    assert (speed.metric, speed.unit, speed.headline) == ("speed", "frames/s", False)
    assert speed.value == pytest.approx(100)
    # a shift by 4 of 16 pixels: IoU 0.6 but for the first frame of each
    shares = np.mean([1 / len(one) for one in walks])
    assert first.value == pytest.approx(100 * (12 + shares * 8) / 21)


def test_hidden_truth_is_said_to_be_hidden():
    hidden = sequence(10)
    hidden.truth[1:] = np.nan
    config = TrackingConfig(protocols=("got10k",))
    results = {"trained": {hidden.name: Followed({"ope": np.tile(hidden.truth[:1], (10, 1))})}}
    with pytest.raises(MmsslError, match="hand the result files in"):
        scores(judge(config, "got10k", [hidden], results, "")[0], "trained", 0)


def test_failures_are_better_lower(walks):
    results = {"trained": {one.name: Followed({"001": trajectory(one.truth)}) for one in walks}}
    config = TrackingConfig(experiment="vot_reset")
    found = {
        score.metric: score for score in scores(judge(config, "vot", walks, results, "")[0], "trained", 0)
    }
    assert (found["failures"].unit, found["failures"].better, found["failures"].value) == ("", "lower", 0)
    assert found["accuracy"].better == "higher"
    assert found["accuracy"].evaluation == "tracking/vot/vot_reset/vot2018"


def test_plots_have_the_best_tracker_first_with_its_score(walks):
    shown, _ = shown_of(walks)
    lines = plot(shown, "success")
    assert [name.partition(" ")[0] for name in lines.series] == ["good", "trained"]
    value = shown.outcomes["good"].total.values["success AUC"]
    assert next(iter(lines.series)) == f"good [{value / 100:.3f}]"
    assert len(lines.x) == 21
    precision = plot(shown, "precision")
    assert set(precision.series) == {"good [1.000]", "trained [1.000]"}


def test_tables_by_sequence_and_attribute(walks):
    shown, _ = shown_of(walks)
    table = per_sequence(shown)
    assert table.columns[:3] == ["sequence", "frames", "success AUC"]
    assert table.columns[-2:] == ["good: success AUC", "attributes"]
    assert [row[0] for row in table.rows] == [*(one.name for one in walks), "all", "ceiling"]
    assert table.rows[-2][2] == pytest.approx(np.mean([row[2] for row in table.rows[:6]]))
    assert table.rows[-1][2] == pytest.approx(100 * 20 / 21)
    by_attribute = per_attribute(shown)
    rows = {row[0]: row for row in by_attribute.rows}
    assert list(rows) == ["IV", "SV"]
    assert (rows["IV"][1], rows["SV"][1]) == (3, 6)
    having = [row[2] for row, one in zip(table.rows, walks, strict=False) if "IV" in one.attributes]
    assert rows["IV"][2] == pytest.approx(np.mean(having))


def test_everything_is_written_and_the_report_shows_it(tmp_path, walks):
    shown, results = shown_of(walks)
    stage = tmp_path / "run" / "scores"
    write_shown(stage, shown)
    each = shown.outcomes["trained"].each
    ranks = {name: its.values["success AUC"] for name, its in each.items()}
    write_films(stage, walks, results, ranks, "ope", 3)
    (stage / "stage.json").write_text(json.dumps({"kind": "evaluate", "status": "done"}))
    plain = json.loads((stage / "tracking_walks_ope_otb.json").read_text())
    assert plain["trackers"]["good"]["sequences"].keys() == {one.name for one in walks}
    assert plain["ceiling"]["values"]["success AUC"] == pytest.approx(100 * 20 / 21)
    rows = list(csv.reader(io.StringIO((stage / "tracking_walks_ope_otb.csv").read_text())))
    assert rows[0][0] == "sequence"
    assert len(rows) == 9
    pictures = sorted(stage.glob("pictures/*.png"))
    assert len(pictures) == 3
    (collected,) = collect(tmp_path / "run").stages
    drawn = collected.figures["tracking_walks_ope_otb_success"]["series"]
    assert [name.partition(" ")[0] for name in drawn] == ["good", "trained"], "the best first, also from disk"
    assert len(collected.tables) == 2
    assert len(collected.figures) == 2
    page = write_report(tmp_path / "run").read_text()
    assert "trained by sequence: walks OPE, protocol otb" in page
    assert "<td>walk5</td>" in page
    assert page.count('class="strip"') == 3


def test_a_broken_table_is_named(tmp_path, walks):
    shown, _ = shown_of(walks)
    write_shown(tmp_path / "scores", shown)
    (tmp_path / "scores" / "stage.json").write_text("{}")
    path = tmp_path / "scores" / "tables" / "tracking_walks_ope_otb.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps(table | {"rows": [["walk0"]]}))
    with pytest.raises(MmsslError, match=r"tracking_walks_ope_otb.json: rows: expected as many cells"):
        collect(tmp_path)


def test_a_film_draws_the_boxes_where_they_are():
    one = sequence(5, 1)
    content = film(
        one,
        {"ours": one.truth + np.array([6, 0, 0, 0]), "lost": np.full((5, 4), np.nan)},
        frames=2,
        width=192,
    )
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] == 2 * 196 + 4
    x, y, _, _ = (one.truth[0] * 2).astype(int)  # frames of 96 pixels are shown at 192
    assert pixels[4 + y + 20, 4 + x].tolist() == [0, 158, 115], "truth"
    assert pixels[4 + y + 20, 4 + x + 12].tolist() == [213, 94, 0], "ours"


def test_films_of_runs_that_were_restarted(tmp_path, walks):
    results = {"trained": {one.name: Followed({"001": trajectory(one.truth)}) for one in walks}}
    write_films(tmp_path, walks, results, {one.name: 1.0 for one in walks}, "vot_reset", 2)
    assert len(list(tmp_path.glob("pictures/*.png"))) == 2


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
