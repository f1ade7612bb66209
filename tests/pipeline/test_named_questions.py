"""One evaluation asked twice in a stage, and figures over stages: from the recipe to the report."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmssl.cli import main
from mmssl.errors import MmsslError
from mmssl.pipeline.identity import identities
from mmssl.pipeline.plan import plan
from mmssl.pipeline.recipe import load_pipeline, parse_evaluations
from mmssl.pipeline.runner import run_pipeline
from mmssl.report.collect import collect

pytestmark = pytest.mark.usefixtures("one_thread")

NAMED = """
name: named
stages:
  images: {{kind: build, recipe: {folder}/shards.yaml, workers: 1}}
  small:
    kind: train
    data: {{sources: [{{shards: images}}], workers: 0}}
    method: {{name: simclr, projector: [16, 8], encoder: {{name: test_resnet, image_size: 16}}}}
    train: {{steps: 2, batch_size: 8, precision: fp32, optimizer: {{base_lr: 0.1}}}}
  asked:
    kind: evaluate
    encoders: small
    shards: images
    workers: 0
    evaluations:
      knn: {{k: [1]}}
      near: {{name: knn, k: [3]}}
      pictured: {{name: retrieval, k: [1], clips: null, shown: 2}}
      drawn: {{name: map, points: 10}}
  report:
    kind: report
    figures:
      - title: Neighbours
        x_label: trainings
        score: near/class/accuracy
        series: {{one: {{1: small}}, same: {{1: [asked, small], 2.5: [asked]}}}}
"""


@pytest.fixture
def recipe(folder: Path) -> Path:
    (folder / "named.yaml").write_text(NAMED.format(folder=folder))
    return folder / "named.yaml"


def test_from_the_recipe_to_the_report(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = load_pipeline(recipe)
    runs, root = recipe.parent / "runs", recipe.parent / "runs" / "named"
    run_pipeline(pipeline, runs)
    scores = {
        score["evaluation"]: score for score in json.loads((root / "scores.json").read_text())["scores"]
    }
    assert set(scores) == {"knn/class", "near/class", "pictured/class"}
    assert "k=1," in scores["knn/class"]["protocol"]
    assert "k=3," in scores["near/class"]["protocol"]
    assert all(score["untrained"] is not None for score in scores.values())
    left = root / "asked" / "questions"
    assert (left / "pictured" / "pictures" / "retrieval_class.png").is_file()
    assert (left / "drawn" / "map.json").is_file()
    assert not (root / "asked" / "map.json").exists()

    stage = next(stage for stage in collect(root).stages if stage.name == "asked")
    assert set(stage.pictures) == {"pictured: retrieval_class"}
    assert set(stage.maps) == {"drawn"}
    html = (root / "report.html").read_text()
    assert "near · class" in html
    assert "pictured: retrieval class" in html
    assert '"stage":"asked: drawn"' in html

    (figure,) = json.loads((root / "figures.json").read_text())["figures"]
    value, untrained = scores["near/class"]["value"], scores["near/class"]["untrained"]
    assert (figure["x"], figure["series"]) == ([1, 2.5], {"one": [value, None], "same": [value, value]})
    assert figure["untrained"] == [untrained, untrained]
    assert figure["chance"] == [50, 50]
    assert figure["y_label"] == "accuracy, %"
    assert 'data-lines="/0"' in html

    assert {step.action for step in plan(load_pipeline(recipe), root)} == {"skip"}
    fewer = load_pipeline(recipe, ["report.figures=[]"])
    run_pipeline(fewer, runs)
    assert not (root / "figures.json").exists()

    out = recipe.parent / "out"
    shards = str(root / "images")
    asked = ["--evaluation", "near=knn", "--set", "near.k=[3]", "--workers", "0", "--out", str(out)]
    for folder in (root / "small", root / "small" / "encoders" / "image"):
        with pytest.raises(SystemExit) as end:
            main(["evaluate", str(folder), "--shards", shards, *asked])
        assert end.value.code == 0
        (row,) = json.loads((out / "scores.json").read_text())["scores"]
        assert (row["evaluation"], row["value"]) == ("near/class", pytest.approx(value))
    assert "near/class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("figures=[{title: t, x_label: x, score: near/class/accuracy, series: {a: {1: smal}}}]",
         ["figures.0.series.a.1", "no train or evaluate stage 'smal'", "'near': small, asked"]),
        ("figures=[{title: t, x_label: x, score: near/class/accuracy, series: {a: {1: [small, images]}}}]",
         ["no train or evaluate stage 'images'"]),
        ("figures=[{title: t, x_label: x, score: far/class/accuracy, series: {a: {1: small}}}]",
         ["asked 'far'", "nobody asks it of 'small'"]),
        ("figures=[{title: t, x_label: x, score: near/class/accuracy, series: {a: {many: small}}}]",
         ["figures.0.series.a.many", "number"]),
        ("figures=[{title: t, x_label: x, score: near, series: {a: {1: small}}}]",
         ["figures.0.score", "pattern"]),
        ("figures=[{title: t, x_label: x, score: near/class/accuracy, series: {a: {1: []}}}]",
         ["figures.0.series.a.1"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_figure_is_said_before_work_starts(
    recipe: Path, change: str, told: list[str]
) -> None:
    with pytest.raises(MmsslError) as error:
        load_pipeline(recipe, [f"report.{change}"])
    for words in told:
        assert words in str(error.value)


def test_two_askers_of_one_training_are_named(recipe: Path) -> None:
    recipe.write_text(
        recipe.read_text()
        + "  again: {kind: evaluate, encoders: small, shards: images, evaluations: {near: {name: knn}}}\n"
    )
    with pytest.raises(MmsslError, match="'small' is asked 'near' by asked, again; expected one of these"):
        load_pipeline(recipe)


@pytest.mark.parametrize(
    ("evaluations", "told"),
    [
        ({"both": {}}, "both.name: expected one of knn, .* found 'both'"),
        ({"both": {"name": "kn"}}, "both.name: expected one of knn, .* found 'kn'"),
        ({"both": {"name": "knn", "t": 1}}, "both.t: unknown key"),
        ({"linear": {"name": "knn"}}, "linear: a name for evaluation knn that is an evaluation itself"),
    ],
)
def test_bad_names(evaluations: dict[str, Any], told: str) -> None:
    with pytest.raises(MmsslError, match=told):
        parse_evaluations(evaluations, "x.yaml")


def test_names_are_names(recipe: Path) -> None:
    with pytest.raises(MmsslError, match=r"stages.asked.evaluations.*"):
        load_pipeline(recipe, ['asked.evaluations={"a/b": {name: knn}}'])


def test_what_changes_no_result_of_a_named_question_is_harmless(recipe: Path) -> None:
    def content(lanes: int) -> str:
        settings = f"{{name: tracking, lanes: {lanes}}}"
        return identities(load_pipeline(recipe, [f"asked.evaluations.follows={settings}"]))[
            "asked"
        ].fingerprint

    assert content(1) == content(3)
