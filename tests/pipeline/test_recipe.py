"""Pipelines as people write them, and what they are told when it is wrong."""

from pathlib import Path

import pytest
import yaml

from mmssl.errors import MmsslError
from mmssl.pipeline.recipe import encoder_configs, load_pipeline, references, split_weights

RECIPES = sorted(Path(__file__).parents[2].glob("pipelines/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_right(path: Path) -> None:
    pipeline = load_pipeline(path)
    assert pipeline.name == path.stem
    trained = {name for name, stage in pipeline.stages.items() if stage.kind == "train"}
    scored = {stage.encoders for stage in pipeline.stages.values() if stage.kind == "evaluate"}
    own = {name for name in scored if "/" not in name}  # the others are folders of other pipelines
    assert trained == own, "every encoder is compared with the untrained one"


def test_there_are_the_promised_recipes() -> None:
    promised = {"quickstart", "cifar10", "imagenet_simclr", "imagenet_moco_v3", "imagenet_mae"}
    assert promised <= {path.stem for path in RECIPES}


def test_order_puts_inputs_first(folder: Path) -> None:
    pipeline = load_pipeline(folder / "tiny.yaml")
    order = pipeline.order()
    assert sorted(order) == sorted(pipeline.stages)
    for name in order:
        assert all(order.index(other) < order.index(name) for other in pipeline.inputs(name).values())
    assert pipeline.inputs("again") == {
        "data.sources.0.shards": "images",
        "method.encoder.weights": "simclr",
    }
    assert pipeline.downstream("simclr") == {"simclr", "scores", "again", "for_timm", "report"}
    assert pipeline.downstream("again") == {"again", "report"}


def test_overrides_in_short_and_in_full(folder: Path) -> None:
    pipeline = load_pipeline(
        folder / "tiny.yaml", ["simclr.train.steps=7", "stages.again.train.steps=5", "name=other"]
    )
    assert (pipeline.stages["simclr"].train.steps, pipeline.stages["again"].train.steps) == (7, 5)
    assert pipeline.name == "other"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("simclr.train.pases=3", ["stages.simclr.train.pases", "unknown key", "did you mean 'passes'"]),
        ("simclr.train.steps=many", ["stages.simclr.train.steps", "valid integer", "'many'"]),
        ("simclr.method.temprature=1", ["stages.simclr.method.temprature", "did you mean 'temperature'"]),
        ("simclr.method.name=simcrl", ["stages.simclr.method.name", "did you mean 'simclr'"]),
        ("simclr.method.encoder.stem=big", ["stages.simclr.method.encoder.stem", "'small'", "'big'"]),
        ("scores.evaluations.kn={}", ["stages.scores.evaluations.kn", "knn", "linear"]),
        ("scores.evaluations.knn.t=1", ["stages.scores.evaluations.knn.t", "unknown key"]),
        ("scores.evaluations.knn=3", ["stages.scores.evaluations.knn", "expected a mapping", "3"]),
        ("scores.encoders=simcrl", ["stages.scores.encoders", "no stage 'simcrl'", "did you mean 'simclr'"]),
        ("scores.encoders=images", ["stages.scores.encoders", "kind build", "expected a train stage"]),
        ("scores.shards=simclr", ["stages.scores.shards", "kind train", "expected a build stage"]),
        ("simcrl.train.steps=3", ["stages.simcrl.kind", "missing", "did you mean 'simclr'"]),
        (
            "report.kind=rapport",
            ["stages.report.kind", "expected one of build, tokenizer, train", "did you mean 'report'"],
        ),
        ("stagess.x=1", ["stages.stagess", "kind"]),
        ("again=5", ["again", "unknown key"]),
        ("simclr.method.encoder.weights=again", ["stages", "wait for each other", "simclr", "again"]),
        ("simclr.train", ["expected key=value"]),
        ("simclr.train.cached=true", ["stages.simclr.train", "cached: expected accumulate > 1"]),
    ],
)
def test_what_is_wrong_is_said(folder: Path, override: str, told: list[str]) -> None:
    with pytest.raises(MmsslError) as error:
        load_pipeline(folder / "tiny.yaml", [override])
    for words in told:
        assert words in str(error.value)
    if "=" in override:
        assert str(folder / "tiny.yaml") in str(error.value)


def test_only_methods_that_can_are_cached(folder: Path) -> None:
    cached = ["simclr.train.accumulate=2", "simclr.train.cached=true"]
    assert load_pipeline(folder / "tiny.yaml", cached).stages["simclr"].train.cached
    moco = [*cached, "simclr.method.name=moco_v3"]
    said = r"tiny.yaml: stages.simclr.*train\.cached: expected one of simclr, clip, .*, found moco_v3"
    with pytest.raises(MmsslError, match=said):
        load_pipeline(folder / "tiny.yaml", moco)


def test_missing_pipeline_names_the_known_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "one.yaml").write_text("name: one")
    with pytest.raises(MmsslError, match=r"no such pipeline.*: one$"):
        load_pipeline("two")
    with pytest.raises(MmsslError, match=r"one.yaml: stages: missing"):
        load_pipeline("one")


def test_unset_environment_variable_is_named(folder: Path) -> None:
    with pytest.raises(MmsslError, match="MMSSL_SURELY_UNSET"):
        load_pipeline(folder / "tiny.yaml", ["description=${oc.env:MMSSL_SURELY_UNSET}"])


def test_references_of_encoders() -> None:
    assert split_weights("simclr") == ("simclr", None)
    assert split_weights("cmc:depth") == ("cmc", "depth")
    assert split_weights("./a:b/c") == ("./a:b/c", None)


def test_weights_inside_a_method_are_found(folder: Path) -> None:
    stage = load_pipeline(folder / "tiny.yaml").stages["again"]
    assert [(key, encoder.weights) for key, encoder in encoder_configs(stage.method, "method")] == [
        ("method.encoder", "simclr")
    ]
    assert ("method.encoder.weights", "simclr", "train") in list(references(stage))


def test_paths_are_not_stages(folder: Path) -> None:
    data = yaml.safe_load((folder / "tiny.yaml").read_text())
    data["stages"]["scores"]["shards"] = "s3://bucket/set"
    (folder / "paths.yaml").write_text(yaml.safe_dump(data))
    assert "shards" not in load_pipeline(folder / "paths.yaml").inputs("scores")
