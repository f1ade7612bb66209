"""What is said and shown of trackers that were scored: scores, plots, tables, film strips, the report."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from tiny_tracking import sequence, shifted
from tiny_tracking import walks as make_walks

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.evaluation import TrackingConfig, judge, scores
from mmssl.evaluate.tracking.film import film
from mmssl.evaluate.tracking.presentation import per_attribute, per_sequence, plot, write_films, write_shown
from mmssl.evaluate.tracking.raw import Followed
from mmssl.evaluate.tracking.supervised import trajectory
from mmssl.report.collect import collect
from mmssl.report.page import write_report


@pytest.fixture
def walks():
    return make_walks()


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
