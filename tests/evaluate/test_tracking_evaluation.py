"""The evaluation ``tracking`` in a pipeline: a shard set of clips, an encoder, scores, a report."""

import json

import numpy as np
import pytest
from tiny_tracking import encoder, write_otb

from mmssl.errors import MmsslError
from mmssl.models.artifact import save_encoder
from mmssl.models.clip import build_clip_encoder
from mmssl.models.clip.video_net import VideoNetConfig
from mmssl.pipeline.plan import plan
from mmssl.pipeline.recipe import load_pipeline
from mmssl.pipeline.runner import run_pipeline
from mmssl.pipeline.schema import pipeline_schema

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = """
name: tiny_tracks
stages:
  clips:
    kind: build
    recipe: {folder}/clips.yaml
    workers: 1
  scores:
    kind: evaluate
    encoders: {folder}/encoder
    shards: clips
    workers: 0
    evaluations: {{tracking: {{}}}}
  report: {{kind: report}}
"""
CLIPS = """
name: little_clips
source:
  kind: miniworld_clips
  clips: {train: 1, val: 2}
  fields: [video, boxes, meta]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "clips.yaml").write_text(CLIPS)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(folder=tmp_path))
    save_encoder(encoder(), tmp_path / "encoder", {})
    return tmp_path


def test_an_evaluate_stage_tracks_the_objects_of_its_shard_set(folder):
    pipeline = load_pipeline(folder / "recipe.yaml")
    run_pipeline(pipeline, folder / "runs")
    root = folder / "runs" / "tiny_tracks"
    found = json.loads((root / "scores.json").read_text())["scores"]
    by = {score["metric"]: score for score in found}
    first = by["success AUC"]
    assert first["evaluation"] == "tracking/little_clips/otb"
    assert 5 < first["value"] <= first["ceiling"] == pytest.approx(100 * 20 / 21)
    assert first["untrained"] is not None
    assert "tracker udt, on features of dcfnet" in first["protocol"]
    assert by["speed"]["value"] > 0
    assert not by["speed"]["headline"]
    stage = root / "scores"
    boxes = sorted((stage / "results" / "little_clips" / "ope" / "trained").glob("*.txt"))
    table = json.loads((stage / "tables" / "tracking_little_clips_ope_otb.json").read_text())
    assert len(boxes) == len(table["rows"]) - 2 >= 2
    page = (root / "report.html").read_text()
    assert "success AUC" in page
    assert "ceiling 95.2" in page
    assert "trained by sequence: little_clips OPE, protocol otb" in page
    assert list(stage.glob("pictures/tracking_*.png"))
    # How many sequences advance together changes nothing, so nothing is run again.
    lanes = load_pipeline(folder / "recipe.yaml", ["scores.evaluations.tracking.lanes=1"])
    assert {step.action for step in plan(lanes, root)} == {"skip"}


def test_a_benchmark_on_disk_beside_another_tracker(folder):
    truths = write_otb(folder / "otb", {"Stroll": 8, "Saunter": 10})
    for name, boxes in truths.items():
        path = folder / "other" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "".join(",".join(f"{v:g}" for v in box + np.array([3, 1, 0, 0])) + "\n" for box in boxes)
        )
    settings = (
        f"{{benchmark: {{kind: otb, root: {folder}/otb}}, protocols: [otb, pysot], preset: dcfnet, "
        f"tracker: {{rate: 0.02}}, compare: {{KCF: {folder}/other}}, films: 1}}"
    )
    recipe = RECIPE.format(folder=folder).replace("tracking: {}", f"tracking: {settings}")
    (folder / "recipe.yaml").write_text(recipe)
    run_pipeline(load_pipeline(folder / "recipe.yaml"), folder / "runs")
    stage = folder / "runs" / "tiny_tracks" / "scores"
    found = json.loads((stage / "scores.json").read_text())["scores"]
    assert {score["evaluation"] for score in found} == {"tracking/otb/otb", "tracking/otb/pysot"}
    assert "tracker dcfnet, rate 0.02" in found[0]["protocol"]
    figure = json.loads((stage / "figures" / "tracking_otb_ope_otb_success.json").read_text())
    assert {name.partition(" ")[0] for name in figure["series"]} == {"trained", "KCF"}
    # KCF is 2 of 16 pixels to the right everywhere but in the first frame: IoU 7/9
    plain = json.loads((stage / "tracking_otb_ope_otb.json").read_text())
    hit = plain["trackers"]["KCF"]["sequences"]["Stroll"]["values"]["success AUC"]
    assert hit == pytest.approx(100 * (16 + 4 / 8) / 21)
    assert len(list(stage.glob("pictures/*.png"))) == 1


def test_encoders_of_whole_clips_are_refused():
    from mmssl.evaluate.tracking.evaluation import Tracking, TrackingConfig

    class Clips:
        folder = None

        def encoder(self, name):
            return build_clip_encoder(VideoNetConfig(name="r2d3d", frames=4, image_size=32))

    with pytest.raises(MmsslError, match=r"tracking: encoder: expected .* found one of clips \(video_net\)"):
        Tracking(TrackingConfig()).run(Clips())


def test_editors_know_the_settings():
    schema = pipeline_schema()
    properties = schema["$defs"]["TrackingConfig"]["properties"]
    assert {"benchmark", "experiment", "protocols", "preset", "compare"} <= properties.keys()
    assert "kind" in schema["$defs"]["OtbConfig"]["properties"]
