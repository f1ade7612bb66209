"""A whole pipeline on pictures made here: skipped, changed, interrupted, forced, locked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmssl.errors import MmsslError, Preempted
from mmssl.files import only_writer
from mmssl.models.artifact import load_encoder
from mmssl.pipeline import runner, stages
from mmssl.pipeline.plan import plan
from mmssl.pipeline.recipe import Pipeline, load_pipeline
from mmssl.pipeline.runner import run_pipeline


def actions(pipeline: Pipeline, root: Path, **options: Any) -> dict[str, str]:
    return {step.stage: step.action for step in plan(pipeline, root, **options)}


def why(pipeline: Pipeline, root: Path, stage: str) -> str:
    return next(step.why for step in plan(pipeline, root) if step.stage == stage)


def record(root: Path, stage: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / stage / "stage.json").read_text())
    return content


def test_the_life_of_a_pipeline(folder: Path) -> None:
    """One test, as every part goes on from the folder that the part before left."""
    pipeline = load_pipeline(folder / "tiny.yaml")
    runs, root = folder / "runs", folder / "runs" / "tiny"
    everything = set(pipeline.stages)

    assert set(actions(pipeline, root).values()) == {"run"}
    assert not runs.exists(), "a plan leaves nothing behind"
    run_pipeline(pipeline, runs)
    assert actions(pipeline, root) == dict.fromkeys(pipeline.order(), "skip")

    # What is left, and that it says how it came to be.
    for name in everything:
        its = record(root, name)
        assert (its["status"], its["kind"]) == ("done", pipeline.stages[name].kind)
        assert its["started"] <= its["finished"]
        assert its["seconds"] >= 0
        assert {"command", "versions", "git", "device", "peak_memory_gb"} <= its["provenance"].keys()
        assert 0.05 < its["provenance"]["peak_memory_gb"] < 64
        assert its["provenance"]["versions"]["torch"] in torch.__version__
    assert record(root, "scores")["inputs"].keys() == {"images", "simclr"}
    assert (root / "report.html").stat().st_size > 10_000
    trained = load_file(root / "simclr" / "encoders" / "image" / "encoder.safetensors")
    exported = load_file(root / "for_timm" / "image" / "model.safetensors")
    assert all(torch.equal(trained[name], exported[name]) for name in trained)
    assert load_encoder(root / "again" / "encoders" / "image").config.image_size == 16
    started_from = json.loads((root / "again" / "encoders" / "image" / "encoder.json").read_text())
    assert started_from["started_from"] == str(root / "simclr" / "encoders" / "image")

    # Scores are merged, with the untrained network's beside them.
    scores = json.loads((root / "scores.json").read_text())["scores"]
    knn = [score for score in scores if score["evaluation"] == "knn/class"]
    assert [(score["stage"], score["evaluated_by"]) for score in knn] == [("simclr", "scores")]
    assert all(0 <= score["untrained"] <= 100 for score in knn)
    assert all(score["untrained"] is not None for score in scores)

    # A change that alters no result is none; another one runs what depends on it and says why.
    same = load_pipeline(folder / "tiny.yaml", ["simclr.train.keep=5", "simclr.data.workers=1"])
    assert set(actions(same, root).values()) == {"skip"}
    changed = load_pipeline(folder / "tiny.yaml", ["simclr.train.steps=2"])
    assert actions(changed, root) == {
        name: "skip" if name == "images" else "re-run" for name in pipeline.order()
    }
    assert "train.steps: 3 → 2" in why(changed, root, "simclr")
    assert why(changed, root, "for_timm") == "changed: input simclr"
    old = record(root, "simclr")["fingerprint"]
    run_pipeline(changed, runs)
    assert len((root / "simclr" / "log.jsonl").read_text().splitlines()) == 2
    kept = root / f"simclr.old-{old}"
    assert len((kept / "log.jsonl").read_text().splitlines()) == 3
    assert load_encoder(kept / "encoders" / "image").dim > 0

    # Asked for again: it, and what depends on it.
    assert actions(changed, root, start="again") == {
        name: "re-run" if name in {"again", "report"} else "skip" for name in pipeline.order()
    }
    assert actions(changed, root, only="again", start="again") == {"again": "re-run"}

    # A training that was repeated is noticed by what depends on it, even in a later run.
    run_pipeline(changed, runs, only="scores")
    other = record(root, "simclr") | {"finished": "2001-01-01T00:00:00+00:00"}
    (root / "simclr" / "stage.json").write_text(json.dumps(other))
    again = actions(changed, root)
    assert (again["simclr"], again["scores"], again["images"]) == ("skip", "re-run", "skip")
    assert "trained again" in why(changed, root, "scores")


def test_interrupted_training_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = load_pipeline(folder / "tiny.yaml", ["simclr.train.checkpoint_every=1"])
    runs, root = folder / "runs", folder / "runs" / "tiny"
    run_pipeline(pipeline, runs, only="images")
    real = stages.RUN["train"]

    def preempted(stage: Any, place: Any) -> None:
        real(stage.model_copy(update={"train": stage.train}), place)
        raise Preempted("a signal came")

    monkeypatch.setitem(stages.RUN, "train", preempted)
    with pytest.raises(Preempted):
        run_pipeline(pipeline, runs, only="simclr")
    assert record(root, "simclr")["status"] == "running"
    started = record(root, "simclr")["started"]
    assert actions(pipeline, root)["simclr"] == "resume"
    monkeypatch.setitem(stages.RUN, "train", real)
    before = (root / "simclr" / "log.jsonl").read_text()
    run_pipeline(pipeline, runs, only="simclr")
    assert (root / "simclr" / "log.jsonl").read_text() == before, "its checkpoints were used"
    assert (record(root, "simclr")["status"], record(root, "simclr")["started"]) == ("done", started)
    assert not list(root.glob("simclr.old-*"))


def test_failed_stage_says_so_and_is_tried_again(folder: Path) -> None:
    (folder / "raw" / "val").rename(folder / "raw" / "elsewhere")
    pipeline = load_pipeline(folder / "tiny.yaml")
    with pytest.raises(MmsslError, match="val"):
        run_pipeline(pipeline, folder / "runs")
    root = folder / "runs" / "tiny"
    assert record(root, "images")["status"] == "failed"
    assert why(pipeline, root, "images") == "failed"
    with pytest.raises(MmsslError, match="needs stage 'images', which is failed"):
        plan(pipeline, root, only="simclr")
    (folder / "raw" / "elsewhere").rename(folder / "raw" / "val")
    run_pipeline(pipeline, folder / "runs", only="images")
    assert record(root, "images")["status"] == "done"


def test_second_run_on_a_stage_is_refused(folder: Path) -> None:
    pipeline = load_pipeline(folder / "tiny.yaml")
    runs = folder / "runs"
    with (
        only_writer(runs / "tiny" / ".running" / "images"),
        pytest.raises(MmsslError, match=r"images: another run .* is writing here"),
    ):
        run_pipeline(pipeline, runs)
    assert not (runs / "tiny" / "images").exists()


def test_shard_recipe_and_path_inputs_count(folder: Path) -> None:
    pipeline = load_pipeline(folder / "tiny.yaml")
    root = folder / "runs" / "tiny"
    run_pipeline(pipeline, folder / "runs", only="images")
    recipe = folder / "shards.yaml"
    recipe.write_text(recipe.read_text() + "shuffle_seed: 5\n")
    assert "shard_recipe.shuffle_seed: 0 → 5" in why(pipeline, root, "images")
    changed = load_pipeline(folder / "tiny.yaml", ["images.set.shuffle_seed=0"])
    assert "set.shuffle_seed: absent → 0" in why(changed, root, "images")

    outside = load_pipeline(folder / "tiny.yaml", [f"scores.shards={root}/images", "name=outside"])
    (before,) = [step for step in plan(outside, folder / "none") if step.stage == "scores"]
    assert before.action == "run"
    missing = load_pipeline(folder / "tiny.yaml", ["scores.shards=./nowhere"])
    with pytest.raises(MmsslError, match=r"stages.scores.shards: .*nowhere/manifest.json: no such file"):
        plan(missing, root)


def test_unknown_stage_on_the_command_line(folder: Path) -> None:
    with pytest.raises(MmsslError, match="no stage 'simcrl'; expected one of images, simclr"):
        plan(load_pipeline(folder / "tiny.yaml"), folder, only="simcrl")


def test_put_aside_never_overwrites(tmp_path: Path) -> None:
    for content in "abc":
        (tmp_path / "stage").mkdir()
        (tmp_path / "stage" / "file").write_text(content)
        runner._put_aside(tmp_path / "stage", "f")
    kept = [
        (tmp_path / name / "file").read_text() for name in ("stage.old-f", "stage.old-f-2", "stage.old-f-3")
    ]
    assert kept == ["a", "b", "c"]
