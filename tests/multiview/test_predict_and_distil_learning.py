"""On miniworld: depth is seen in lightness, and a student of lightness learns from a teacher of depth."""

from pathlib import Path
from typing import Any

import pytest
import torch
from easy_world import NET, SIZE, build_easy, held_out, info, learn
from torch import nn
from torch.nn.functional import cross_entropy

from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.methods import Method, build_method
from mmssl.models.artifact import save_encoder
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.stream import Source, Stream, StreamConfig
from mmssl.stream.views.aligned import AlignedViews, CropFlip
from mmssl.stream.views.shown import Shown

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

TRAIN, VAL = 600, 200
CROP = {"scale": [0.7, 1.0]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_easy(tmp_path_factory.mktemp("easy") / "world", TRAIN, VAL)


def sees(sight: str, **settings: Any) -> dict[str, Any]:
    return {"encoder": {**NET, "sees": sight, **settings}}


def error(method: Method, world: Path) -> tuple[float, float]:
    """Of depth over held-out samples, and that of its mean, in ln m."""
    with torch.no_grad():
        answers = method.eval().pretext(held_out(method, world, VAL))["depth"]
    assert answers.chance is not None
    return float(answers.values.mean()), answers.chance


def test_depth_is_predicted_from_lightness(world: Path) -> None:
    torch.manual_seed(0)
    views = {"L": sees("L"), "depth": sees("depth")}
    config = {"name": "cross_view", "core": "L", "views": views, "augmentation": CROP}
    method = build_method({**config, "target_size": SIZE // 2, "decoder_width": 64}, info(TRAIN))
    before, _ = error(method, world)
    learn(method, world, 100, 3e-3)
    after, chance = error(method, world)
    assert before > chance
    assert after < 0.8 * chance, f"{after:.3f} ln m, {chance:.3f} by the mean, {before:.3f} untrained"


def teach(world: Path, folder: Path, steps: int) -> Path:
    """An encoder of depth that was taught shapes; of no steps one that was taught nothing."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(sees="depth", **NET))
    head = nn.Linear(encoder.dim, 8)
    view = AlignedViews({"depth": Shown.to(encoder, video=False)}, CropFlip(scale=(0.7, 1.0)))
    data = StreamConfig(sources=(Source(shards=str(world)),), workers=0)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps or 1)
    if steps:
        for batch in Stream(data, {"views": view}, batch_size=32, seed=0).batches(steps=steps):
            loss = cross_entropy(head(encoder(batch.views["depth"])), batch.label["shape"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    save_encoder(encoder, folder, {})
    return folder


def shapes(method: Method, world: Path) -> float:
    """Percent of held-out shapes that the student's 10 nearest neighbours tell."""
    config = parse_evaluation({"name": "knn", "labels": ["shape"], "k": [10]}, "test")
    return evaluate(Subject(method.encoders(), world), [config])[0].value


def test_a_student_of_lightness_learns_shapes_from_a_teacher_of_depth(world: Path, tmp_path: Path) -> None:
    found: dict[str, tuple[float, float]] = {}
    for name, steps in (("untaught", 0), ("taught", 200)):
        weights = str(teach(world, tmp_path / name, steps))
        torch.manual_seed(1)
        config = {"name": "crd", "views": {"L": sees("L")}, "augmentation": CROP, "head": [64]}
        fast = {"negatives": "batch", "loss": "info_nce", "temperature": 0.1}
        teacher = {"views": {"depth": sees("depth", weights=weights)}}
        student = build_method({**config, **fast, "teacher": teacher}, info(TRAIN))
        before = shapes(student, world)
        learn(student, world, 200, 3e-3, batch_size=32)
        found[name] = before, shapes(student, world)
    (untrained, of_untaught), (_, of_taught) = found["untaught"], found["taught"]
    said = f"{untrained:.1f} % untrained, {of_untaught:.1f} % of an untaught teacher, {of_taught:.1f} %"
    assert of_taught > untrained + 6, said
    assert of_taught > of_untaught + 3, said
