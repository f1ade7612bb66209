"""Distillation between CLIPs: what the loss is, a teacher that rests and is not kept, whole stages."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from captioned_stills import CONTEXT, INFO, NET, SIZE, TEXT, seen, texts
from captioned_stills import made as built
from safetensors.torch import load_file
from test_clip_cached import Finished
from torch import Tensor

from mmssl.engine import TrainConfig, train
from mmssl.engine.cache import TwoPasses
from mmssl.engine.setup import prepare
from mmssl.errors import MmsslError
from mmssl.losses.distil import distil_loss
from mmssl.methods import DataInfo, build_method
from mmssl.methods.artifact import load_method, save_method
from mmssl.methods.language.distil import Distil
from mmssl.pipeline.recipe import load_pipeline
from mmssl.pipeline.runner import run_pipeline
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import load_recipe
from mmssl.stream import Source, Stream, StreamConfig
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ["a cat", "a dog", "two birds", "snow", "a red kite", "an old man reads"]
VIT = {
    "name": "vit_tiny_patch16_224",
    "image_size": SIZE,
    "kwargs": {"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2},
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A larger method, whose similarities are far from uniform."""
    folder = tmp_path_factory.mktemp("teacher")
    teacher = built("clip", text={**TEXT, "width": 48}, dim=24)
    with torch.no_grad():
        teacher.logit_scale.fill_(3.0)
    save_method(teacher, folder)
    return folder


def student(taught: Path, **settings: Any) -> Distil:
    method = built("distil", image=VIT, teacher={"weights": str(taught)}, **settings)
    assert isinstance(method, Distil)
    return method


def batch_of(method: Distil, words: list[str]) -> Batch:
    batch = seen(method, words)
    return Batch(batch | {"teacher_image": batch.image, "teacher_text": texts(method.teacher, words)})


def unit(rows: int, dim: int, seed: int) -> Tensor:
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1)


def test_the_loss_is_the_cross_entropy_of_both_softmaxes() -> None:
    image, text, their_image, their_text = (unit(5, dim, n) for n, dim in enumerate((4, 4, 7, 7)))
    s, t = torch.tensor(9.0, dtype=torch.float64), torch.tensor(20.0, dtype=torch.float64)
    ours, theirs = s * image @ text.T, t * their_image @ their_text.T
    expected = 0.0
    for q, p in ((ours, theirs), (ours.T, theirs.T)):
        for i in range(5):
            for j in range(5):
                p_ij = float(p[i, j].exp() / p[i].exp().sum())
                q_ij = float(q[i, j].exp() / q[i].exp().sum())
                expected -= p_ij * torch.tensor(q_ij).log().item() / 10
    found = distil_loss(image, text, s, their_image, their_text, t)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_who_says_what_the_teacher_says_has_nothing_to_learn() -> None:
    image, text = (unit(5, 4, n).requires_grad_() for n in range(2))
    s = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
    distil_loss(image, text, s, image.detach(), text.detach(), s.detach()).backward()
    for x in (image, text, s):
        assert x.grad is not None
        assert x.grad.abs().max() < 1e-12
    other = distil_loss(image, text, s, image.detach(), text.detach().roll(1, 0), s.detach())
    assert torch.autograd.grad(other, image)[0].abs().max() > 1e-3


@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_total_is_the_captions_loss_and_the_teachers(taught: Path, contrast: float) -> None:
    method = student(taught, contrast=contrast).eval()
    batch = batch_of(method, WORDS)
    loss = method(batch)
    z, scale = method.embed(batch), method.logit_scale.exp()
    clip = built("clip", image=VIT).eval()
    clip.load_state_dict(method.state_dict())
    alone = clip(batch).total
    taught_by = distil_loss(
        z["image"], z["text"], scale, z["teacher_image"], z["teacher_text"], torch.tensor(3.0).exp()
    )
    torch.testing.assert_close(loss.total, contrast * alone + taught_by)
    torch.testing.assert_close(loss.parts["contrast"], alone.detach())
    torch.testing.assert_close(loss.parts["taught"], taught_by.detach())


def test_the_teacher_rests_and_is_no_part_of_the_student(taught: Path) -> None:
    method = student(taught).train()
    assert method.state_dict().keys() == built("clip", image=VIT).state_dict().keys()
    assert not any(module.training for module in method.teacher.modules())
    before = {key: value.clone() for key, value in method.teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.1)
    method(batch_of(method, WORDS)).total.backward()
    optimizer.step()
    assert not any(p.requires_grad for p in method.teacher.parameters())
    for key, value in method.teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert method.double().teacher.image_head.weight.dtype == torch.float64


def test_the_students_first_weights_do_not_depend_on_the_teacher(taught: Path, tmp_path: Path) -> None:
    save_method(built("siglip", dim=8), tmp_path)
    one, other = student(taught), student(tmp_path)
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_a_student_in_its_folder_needs_no_teacher(taught: Path, tmp_path: Path) -> None:
    gone = shutil.copytree(taught, tmp_path / "gone")
    method = student(gone).eval()
    save_method(method, tmp_path / "student")
    shutil.rmtree(gone)
    again = load_method(tmp_path / "student")
    assert isinstance(again, Distil)
    batch = seen(method, WORDS)
    batch = Batch(batch | {"teacher_image": batch.image, "teacher_text": batch.text})
    for name, answers in again.eval().pretext(batch).items():
        assert torch.equal(answers.values, method.pretext(batch_of(method, WORDS))[name].values)
    assert set(again.views) == {"image", "text"}
    with pytest.raises(MmsslError, match=r"teacher\.weights: missing"):
        again(batch)


def test_only_what_tells_images_from_captions_can_teach(tmp_path: Path) -> None:
    with pytest.raises(MmsslError, match="has no method"):
        student(tmp_path)
    with pytest.raises(MmsslError, match=r"teacher\.weights: missing"):
        built("distil", teacher={})
    cmc = {"name": "cmc", "K": 8, "views": {"L": {"encoder": {**NET, "sees": "L"}}, "rgb": {"encoder": NET}}}
    save_method(build_method(cmc, INFO), tmp_path)
    with pytest.raises(MmsslError, match="has a cmc"):
        student(tmp_path)


def whole(taught: Path) -> tuple[Distil, Batch]:
    method = student(taught, contrast=0.5).double()
    batch = batch_of(method, WORDS)
    images = {name: batch[name].double() for name in ("image", "teacher_image")}
    return method, Batch(batch | images)


def gradients(method: Distil) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-12, msg=name)


def in_pieces(method: Distil, batch: Batch, accumulate: int) -> dict[str, Tensor]:
    cpu = torch.device("cpu")
    config = TrainConfig(steps=1, batch_size=len(WORDS), accumulate=accumulate, cached=True)
    TwoPasses(Finished(), accumulate, "fp32", cpu).forward_backward(prepare(method, config, cpu), batch)
    return gradients(method)


def on_a_rank(rank: int, world: int, taught: Path, expected: dict[str, Tensor]) -> None:
    share = len(WORDS) // world
    part = slice(rank * share, (rank + 1) * share)
    method, batch = whole(taught)
    config = TrainConfig(steps=1, batch_size=len(WORDS))
    model = prepare(method, config, torch.device("cpu"))  # has to live until gradients have travelled
    model(batch.rows(part)).total.backward()
    assert_equal(gradients(method), expected)
    method, batch = whole(taught)
    assert_equal(in_pieces(method, batch.rows(part), 3), expected)


def test_two_passes_have_the_gradient_of_the_whole_batch(taught: Path) -> None:
    method, batch = whole(taught)
    method(batch).total.backward()
    expected = gradients(method)
    assert expected.keys() == dict(method.named_parameters()).keys()
    assert_equal(in_pieces(method, batch, 3), expected)


def test_so_have_two_ranks_at_once_or_in_pieces(taught: Path, ranks: Callable[..., None]) -> None:
    method, batch = whole(taught)
    method(batch).total.backward()
    ranks(on_a_rank, 2, taught, gradients(method))


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stills")
    settings = ["source.clips.train=6", "source.clips.val=4", f"source.world.size={SIZE}"]
    build_shards(load_recipe("miniworld", settings), folder, workers=1)
    return folder


def stream_of(method: Distil, stills: Path) -> Stream:
    data = StreamConfig(sources=(Source(shards=str(stills)),), workers=0)
    return Stream(data, method.views, batch_size=8, seed=0)


def test_the_teacher_sees_the_same_crop_and_reads_the_same_caption(stills: Path, tmp_path: Path) -> None:
    save_method(built("clip", image={**NET, "image_size": SIZE // 2}, text={**TEXT, "context": 12}), tmp_path)
    method = student(tmp_path)
    batch = next(iter(stream_of(method, stills).batches(steps=1)))
    assert torch.equal(batch.text["which"], batch.teacher_text["which"])
    assert torch.equal(batch.text["tokens"][:, : CONTEXT - 1], batch.teacher_text["tokens"][:, : CONTEXT - 1])
    small = torch.nn.functional.interpolate(batch.image, scale_factor=0.5, mode="area")
    assert batch.teacher_image.shape == small.shape
    alike = torch.cdist(batch.teacher_image.flatten(1), small.flatten(1))
    assert alike.argmin(dim=1).tolist() == list(range(8))
    assert alike.diagonal().max() < 0.3 * alike[~torch.eye(8, dtype=torch.bool)].min()


def test_an_interrupted_run_goes_on_bit_for_bit(taught: Path, stills: Path, tmp_path: Path) -> None:
    config = TrainConfig(steps=4, batch_size=8, precision="fp32", checkpoint_every=2, keep=3)

    def run() -> dict[str, Tensor]:
        method = student(taught)
        train(method, stream_of(method, stills), config, tmp_path, provenance={})
        return load_file(tmp_path / "method.safetensors")

    once = run()
    (tmp_path / "finished.json").unlink()
    newest = max((tmp_path / "checkpoints").glob("*4*"))
    shutil.rmtree(newest) if newest.is_dir() else newest.unlink()
    again = run()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4
    assert once.keys() == again.keys()
    for key, value in once.items():
        assert torch.equal(value, again[key]), key


RECIPE = """
name: pair
stages:
  words: {{kind: tokenizer, shards: {stills}, split: train, vocabulary: 200}}
  shared:
    kind: train
    data: {{sources: [{{shards: {stills}}}], workers: 0}}
    method: {{name: ms_clip, dim: 16, image: {vit}, text: {{tokenizer: words, context: 16}}}}
    train: &train {{steps: 2, batch_size: 8, precision: fp32, optimizer: {{name: adamw, base_lr: 0.01}}}}
  small:
    kind: train
    data: {{sources: [{{shards: {stills}}}], workers: 0}}
    method: {{name: distil, dim: 8, image: {net}, text: {text}, teacher: {{weights: {teacher}}}}}
    train: *train
  asked:
    kind: evaluate
    encoders: small
    shards: {stills}
    workers: 0
    evaluations: {{pretext: {{batch_size: 8}}}}
"""


def recipe(folder: Path, stills: Path, teacher: str) -> Path:
    path = folder / "pair.yaml"
    nets = {name: json.dumps(value) for name, value in (("vit", VIT), ("net", NET), ("text", TEXT))}
    path.write_text(RECIPE.format(stills=stills, teacher=teacher, **nets))
    return path


def test_a_stage_teaches_the_next(stills: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(recipe(tmp_path, stills, "shared:method"))
    run_pipeline(pipeline, tmp_path / "runs")
    root = tmp_path / "runs" / "pair"
    inputs = json.loads((root / "small" / "stage.json").read_text())["inputs"]
    assert "shared" in inputs
    scores = json.loads((root / "asked" / "scores.json").read_text())["scores"]
    assert any(row["stage"] == "small" and "image_to_text" in json.dumps(row) for row in scores)
    moved = shutil.copytree(root / "shared", tmp_path / "elsewhere")  # with its tokenizer beside it
    pipeline = load_pipeline(recipe(tmp_path, stills, str(moved)))
    steps = {step.stage: step.action for step in run_pipeline(pipeline, tmp_path / "runs")}
    assert steps["shared"] == "skip"
    assert steps["small"] != "skip"
    student = load_method(root / "small")
    assert isinstance(student, Distil)
    assert DataInfo(24, student.data.fields).samples == student.data.samples
