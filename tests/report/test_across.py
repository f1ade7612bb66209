"""Figures over stages: which scores they take, the mean and range of seeds, gaps; and what is wide."""

import struct

import pytest

from mmssl.report.across import across
from mmssl.report.collect import Run, Stage
from mmssl.report.page import wide
from mmssl.report.plots import lines


def stage(name, kind="evaluate", config=None, scores=()):
    return Stage(name, kind, "done", config or {}, {}, "0", "", "", 1.0, {}, scores=list(scores))


def score(of, value, untrained=20.0, evaluation="segmentation", **more):
    return {
        "stage": of, "evaluated_by": f"{of}_scores", "evaluation": evaluation, "metric": "miou",
        "value": value, "unit": "%", "untrained": untrained, "chance": 10.0, "protocol": "p",
    } | more  # fmt: skip


def run(series, scores, name="segmentation/miou"):
    figure = {"title": "t", "x_label": "views", "score": name, "series": series}
    return Run("r", [stage("s", scores=scores), stage("report", "report", {"figures": [figure]})])


def test_means_ranges_and_gaps():
    scores = [
        score("a1", 40.0), score("a2", 50.0, 30.0), score("b", 35.0), score("c", 60.0, 40.0),
        score("b", 99.0, metric="other"), score("b", 98.0, evaluation="segmentation/x"),
    ]  # fmt: skip
    series = {"contrastive": {"3": ["c"], "2": ["a1", "a2"]}, "predictive": {"2": "b_scores", "4": "later"}}
    (figure,) = across(run(series, scores))
    assert figure["x"] == [2, 3, 4]
    assert figure["series"] == {"contrastive": [45, 60, None], "predictive": [35, None, None]}
    assert figure["range"] == {"contrastive": [[40, 50], None, None], "predictive": [None, None, None]}
    assert figure["untrained"] == [pytest.approx(70 / 3), 40, None]
    assert figure["chance"] == [10, 10, None]
    assert figure["y_label"] == "miou, %"
    assert "mean over up to 2 trainings" in figure["protocol"]
    drawn = lines(figure)["data"]
    assert [one["name"] for one in drawn] == ["contrastive", "predictive", "untrained", "chance"]
    assert list(drawn[0]["error_y"]["array"]) == [5, 0, 0]
    assert list(drawn[0]["error_y"]["arrayminus"]) == [5, 0, 0]
    assert "error_y" not in drawn[1] or "array" not in drawn[1]["error_y"]


def test_nothing_is_drawn_before_there_is_a_score():
    assert across(run({"a": {"2": "later"}}, [score("b", 1.0)])) == []
    (figure,) = across(run({"a": {"2": "b"}}, [score("b", 1.0, None, chance=None)]))
    assert (figure["untrained"], figure["chance"]) == (None, None)


@pytest.mark.parametrize(("size", "whole"), [((320, 100), False), ((900, 600), True), ((300, 60), True)])
def test_what_would_lose_pixels_in_a_column_is_wide(size, whole):
    assert wide(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + struct.pack(">II", *size)) is whole
