"""Stages that feed each other in turns: InfoNCE on each view, then co-training of each with the other."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmssl.errors import MmsslError
from mmssl.pipeline.plan import plan
from mmssl.pipeline.recipe import Pipeline, load_pipeline
from mmssl.pipeline.runner import run_pipeline

pytestmark = pytest.mark.usefixtures("one_thread")

SHARDS = """
name: tiny-clips
source:
  kind: miniworld_clips
  clips: {train: 12, val: 4}
  fields: [video, flow, label]
  world: {size: 32, frames: 8}
"""

RECIPE = """
name: cycle
stages:
  clips: {{kind: build, recipe: {folder}/shards.yaml, workers: 1}}
  rgb1:
    kind: train
    data: {{sources: [{{shards: clips}}], workers: 0}}
    method: {{name: coclr, queue: 8, dim: 8, encoder: {rgb}}}
    train: &train {{steps: 3, batch_size: 4, precision: fp32, optimizer: {{base_lr: 0.01}}, log_every: 1}}
  flow1:
    kind: train
    data: {{sources: [{{shards: clips}}], workers: 0}}
    method: {{name: coclr, queue: 8, dim: 8, encoder: {flow}}}
    train: *train
  rgb2:
    kind: train
    data: {{sources: [{{shards: clips}}], workers: 0}}
    method:
      name: coclr
      queue: 8
      dim: 8
      mine: 2
      encoder: {rgb_from_rgb1}
      sibling: {{encoder: {flow_from_flow1}}}
    train: *train
  flow2:
    kind: train
    data: {{sources: [{{shards: clips}}], workers: 0}}
    method:
      name: coclr
      queue: 8
      dim: 8
      mine: 2
      encoder: {flow_from_flow1}
      sibling: {{encoder: {rgb_from_rgb2}}}
    train: *train
  again:
    kind: evaluate
    encoders: flow2
    shards: clips
    workers: 0
    evaluations: {{pretext: {{batch_size: 4}}}}
"""


def net(sees: str, weights: str | None = None) -> str:
    settings: dict[str, Any] = {
        "kind": "video_net", "name": "r2d3d", "sees": sees, "frames": 4, "stride": 0.1, "image_size": 16,
        "stem": "small_stride2", "channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1], "weights": weights,
    }  # fmt: skip
    return json.dumps(settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shards.yaml").write_text(SHARDS)
    nets = {f"{view}_from_{stage}": net(view, stage) for view, stage in
            (("rgb", "rgb1"), ("flow", "flow1"), ("rgb", "rgb2"))}  # fmt: skip
    (tmp_path / "cycle.yaml").write_text(
        RECIPE.format(folder=tmp_path, rgb=net("rgb"), flow=net("flow"), **nets)
    )
    return tmp_path


def actions(pipeline: Pipeline, root: Path) -> dict[str, str]:
    return {step.stage: step.action for step in plan(pipeline, root)}


def weights(root: Path, stage: str, view: str) -> dict[str, torch.Tensor]:
    return load_file(root / stage / "encoders" / view / "encoder.safetensors")


def test_a_cycle_of_stages_runs_is_skipped_and_runs_again_from_where_it_changed(folder: Path) -> None:
    pipeline = load_pipeline(folder / "cycle.yaml")
    runs, root = folder / "runs", folder / "runs" / "cycle"
    assert pipeline.downstream("flow1") == {"flow1", "rgb2", "flow2", "again"}
    run_pipeline(pipeline, runs)
    assert set(actions(pipeline, root).values()) == {"skip"}

    # what each stage took in, and that the sibling it mined with is the one that was trained
    inputs = {
        stage: json.loads((root / stage / "stage.json").read_text())["inputs"] for stage in pipeline.stages
    }
    assert inputs["rgb2"].keys() == {"clips", "rgb1", "flow1"}
    assert inputs["flow2"].keys() == {"clips", "flow1", "rgb2"}
    for stage, sibling, view in (("rgb2", "flow1", "flow"), ("flow2", "rgb2", "rgb")):
        whole = load_file(next((root / stage).rglob("method.safetensors")))
        frozen = {key.removeprefix("sibling."): x for key, x in whole.items() if key.startswith("sibling.")}
        trained = weights(root, sibling, view)
        assert frozen.keys() == trained.keys()
        assert all(torch.equal(frozen[key], trained[key]) for key in trained)
        # twelve keys have gone through a queue of eight: the third step mined
        log = [json.loads(line) for line in (root / stage / "log.jsonl").read_text().splitlines()]
        assert [row["parts"]["mined"] for row in log] == [0, 0, 2]
    before, after = weights(root, "rgb1", "rgb"), weights(root, "rgb2", "rgb")
    assert any(not torch.equal(before[key], after[key]) for key in before)

    # longer training of one view's first stage runs what mined with it, and not the other view's first stage
    changed = load_pipeline(folder / "cycle.yaml", ["flow1.train.steps=4"])
    expected = dict.fromkeys(pipeline.stages, "re-run") | {"clips": "skip", "rgb1": "skip"}
    assert actions(changed, root) == expected
    changed = load_pipeline(folder / "cycle.yaml", ["flow2.method.mine=3"])
    assert actions(changed, root) == dict.fromkeys(pipeline.stages, "skip") | {
        "flow2": "re-run",
        "again": "re-run",
    }


def test_a_stage_that_waits_for_itself_is_refused(folder: Path) -> None:
    recipe = (folder / "cycle.yaml").read_text()
    (folder / "knot.yaml").write_text(recipe.replace(net("flow"), net("flow", "rgb2")))
    with pytest.raises(MmsslError, match=r"rgb2|flow1"):
        load_pipeline(folder / "knot.yaml")
