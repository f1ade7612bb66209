"""CPC over time, DPC and CPC on images: what is predicted from what, on one process and on several."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_predictive import FRAMES, SIZE, TINY, batch_for, tiny
from torch import Tensor
from torch.nn.functional import conv2d

from mmssl.distributed import mean
from mmssl.errors import MmsslError
from mmssl.methods.image.cpc import crop_each, cut
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.models.clip.dense_recurrent import ConvGRUCell
from mmssl.models.row_context import RowContext
from mmssl.stream.batch import Batch


def float64(batch: Batch) -> Batch:
    def full(x: Tensor) -> Tensor:
        return x.double() if x.dtype == torch.float32 else x

    return Batch({key: {k: full(x) for k, x in v.items()} if key != "id" else v for key, v in batch.items()})


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_learns_and_every_k_is_logged(name: str) -> None:
    method = tiny(name)
    loss = method(batch_for(method))
    loss.total.backward()
    assert [key for key, p in method.named_parameters() if p.grad is None] == []
    steps = {"cpc": [1, 2, 3], "dpc": [1, 2], "cpc_image": [2, 3]}[name]
    expected = {f"{part}_{k}" for part in ("accuracy", "negatives", "bound") for k in steps}
    assert loss.parts.keys() == expected
    assert not any(value.requires_grad or value.ndim for value in loss.parts.values())
    assert loss.embedding is not None
    assert loss.embedding.shape == (6, next(iter(method.encoders().values())).dim)
    # log N − L, averaged over k with equal weights, gives the loss back
    negatives = torch.stack([loss.parts[f"negatives_{k}"] for k in steps])
    bounds = torch.stack([loss.parts[f"bound_{k}"] for k in steps])
    torch.testing.assert_close(((negatives + 1).log() - bounds).mean(), loss.total.detach())


@pytest.mark.parametrize("name", TINY)
def test_a_restored_method_gives_the_same_loss_and_answers(name: str) -> None:
    one, two = tiny(name), tiny(name)
    with torch.no_grad():
        for p in one.parameters():
            p.add_(0.01 * torch.randn_like(p))
    two.load_state_dict(one.state_dict())
    batch = batch_for(one)
    assert torch.equal(one(batch).total, two(batch).total)
    answers, again = one.eval().pretext(batch), two.eval().pretext(batch)
    assert answers.keys() == again.keys()
    for question, answer in answers.items():
        assert torch.equal(answer.values, again[question].values)
    assert len({answer.curve for answer in answers.values()}) == 4


def compare_with_one_process(rank: int, world: int, name: str, expected: dict[str, Tensor]) -> None:
    method = tiny(name).double()
    whole = float64(batch_for(method, 6, torch.tensor([0, 1, 2, 3, 1, 5])))
    method(whole.chunks(world)[rank]).total.backward()
    for key, p in method.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(mean(p.grad), expected[key], rtol=1e-6, atol=1e-9, msg=key)
    loss = method(whole.chunks(world)[rank])
    torch.testing.assert_close(mean(loss.total), expected["total"])
    for part, value in loss.parts.items():
        torch.testing.assert_close(mean(value), expected[f"part {part}"], msg=part)


@pytest.mark.parametrize("name", TINY)
def test_two_processes_are_one_batch(name: str, ranks: Callable[..., None]) -> None:
    method = tiny(name).double()
    # a sample appears on both ranks: it must be told from others there as here
    loss = method(float64(batch_for(method, 6, torch.tensor([0, 1, 2, 3, 1, 5]))))
    loss.total.backward()
    expected = {key: p.grad for key, p in method.named_parameters() if p.grad is not None}
    parts = {f"part {part}": value for part, value in loss.parts.items()}
    ranks(compare_with_one_process, 2, name, expected | parts | {"total": loss.total.detach()})


def test_negatives_are_those_of_the_global_batch() -> None:
    for policy, count in (("all", 29), ("other_sequences", 25), ("same_sequence", 4)):
        method = tiny("cpc", negatives=policy)
        parts = method(batch_for(method)).parts
        assert {float(parts[f"negatives_{k}"]) for k in (1, 2, 3)} == {float(count)}


def test_cpc_predicts_from_the_past_alone() -> None:
    method = tiny("cpc").eval()
    batch = batch_for(method)
    batch.clip["frames"].requires_grad_()
    c, _ = method.encode(batch)
    for k, predicted, target in method.predict(c):
        assert target.tolist() == list(range(k, 5))
        for t in range(5 - k):
            (grad,) = torch.autograd.grad(predicted[:, t].sum(), batch.clip["frames"], retain_graph=True)
            seen = grad.flatten(2).abs().sum(dim=(0, 2)) > 0
            assert seen.tolist() == [frame < 2 * (t + 1) for frame in range(FRAMES)]


def test_each_step_has_a_map_of_its_own_without_bias() -> None:
    method = tiny("cpc")
    assert [(W.weight.shape, W.bias) for W in method.W] == [((24, 20), None)] * 3
    c, pool = method.encode(batch_for(method))
    for index, (_, predicted, target) in enumerate(method.predict(c)):
        step = method.config.nce(predicted, target, pool)
        grads = torch.autograd.grad(
            step.loss, list(method.W.parameters()), retain_graph=True, allow_unused=True
        )
        assert [grad is not None for grad in grads] == [index == other for other in range(3)]


def test_the_gru_of_dpc_against_a_loop_over_places() -> None:
    cell, n = ConvGRUCell(3).double(), 3
    x, h = torch.randn(2, n, 2, 2).double(), torch.randn(2, n, 2, 2).double()
    found = cell(x, h).detach().numpy()
    gates, candidate = (conv.weight[:, :, 0, 0].detach().numpy() for conv in (cell.gates, cell.candidate))

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    for b, i, j in np.ndindex(2, 2, 2):
        xs, hs = x[b, :, i, j].numpy(), h[b, :, i, j].numpy()
        update, reset = sigmoid(gates @ np.concatenate([xs, hs])).reshape(2, n)
        new = np.tanh(candidate @ np.concatenate([xs, reset * hs]))
        np.testing.assert_allclose(found[b, :, i, j], (1 - update) * hs + update * new, rtol=1e-12)


def test_dpc_predicts_recursively_and_after_the_relu_what_lies_before_it() -> None:
    method = tiny("dpc").double().eval()
    batch = float64(batch_for(method))
    e = method.encoder
    z = e.encode(batch.clip["frames"]).detach()
    assert z.shape == (6, 5, 32, 2, 2)
    assert (z < 0).any()
    torch.testing.assert_close(
        e.f.net.before_relu(torch.zeros(1, 3, 2, SIZE, SIZE).double()).relu(),
        e.f.net(torch.zeros(1, 3, 2, SIZE, SIZE).double()),
    )
    c = torch.zeros(6, 32, 2, 2).double()
    for block in range(3):
        c = e.g(z[:, block].clamp(min=0), c)
    total = 0.0
    targets = z[:, 3:].permute(0, 1, 3, 4, 2).reshape(-1, 32)
    for k in range(2):
        hidden = conv2d(c, method.phi[0].weight, method.phi[0].bias).clamp(min=0)
        p = conv2d(hidden, method.phi[2].weight, method.phi[2].bias)
        for b, i, j in np.ndindex(6, 2, 2):
            scores = targets @ p[b, :, i, j]
            total += float((torch.logsumexp(scores, 0) - z[b, 3 + k, :, i, j] @ p[b, :, i, j]).detach())
        c = e.g(p.clamp(min=0), c)
    assert float(method(batch).total.detach()) == pytest.approx(total / (6 * 2 * 4), rel=1e-9)


def test_dpc_predicts_from_the_past_alone_and_keeps_running_statistics() -> None:
    method = tiny("dpc").eval()
    batch = batch_for(method)
    batch.clip["frames"].requires_grad_()
    aheads, _, _ = method.predict(batch)
    for ahead in aheads:
        (grad,) = torch.autograd.grad(ahead.predicted.sum(), batch.clip["frames"], retain_graph=True)
        assert (grad.flatten(2).abs().sum(dim=(0, 2)) > 0).tolist() == [frame < 6 for frame in range(FRAMES)]
    block = TINY["dpc"]["encoder"]["block"] | {"norm": "batch"}
    method = tiny("dpc", encoder=TINY["dpc"]["encoder"] | {"block": block}).train()
    before = {key: x.clone() for key, x in method.state_dict().items() if "running_mean" in key}
    method(batch_for(method))
    assert before
    assert all(not torch.equal(x, method.state_dict()[key]) for key, x in before.items())


@pytest.mark.parametrize("name", TINY)
def test_the_encoder_that_is_left_comes_back_from_its_folder(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    method = tiny(name).eval()
    ((key, encoder),) = method.encoders().items()
    assert key == ("image" if name == "cpc_image" else "clip")
    save_encoder(encoder, tmp_path, {})
    again = load_encoder(tmp_path).eval()
    x = torch.randn(2, 3, 48, 48) if key == "image" else torch.randn(2, FRAMES, 3, SIZE, SIZE)
    assert torch.equal(again(x), encoder(x))
    assert again(x).shape == (2, encoder.dim)


def test_a_row_of_context_sees_no_row_below() -> None:
    g_ar = RowContext(8, 4, depth=3)
    z = torch.randn(1, 8, 7, 7, requires_grad=True)
    c = g_ar(z)
    for row in range(7):
        (grad,) = torch.autograd.grad(c[:, :, row, 3].sum(), z, retain_graph=True)
        seen = (grad.abs().sum(dim=(0, 1, 3)) > 0).tolist()
        assert seen == [row - 3 <= other <= row for other in range(7)]


def test_no_prediction_shares_a_pixel_with_its_target() -> None:
    method = tiny("cpc_image").eval()
    batch = batch_for(method)
    pixels = batch.image["pixels"].requires_grad_()
    c, pool = method.encode(batch)
    for k, predicted, target in method.predict(c):
        for anchor in range(predicted.shape[1]):
            row, column = divmod(anchor, 5)
            assert target[anchor] == (row + k) * 5 + column
        for row in range(5 - k):
            own = predicted[0, 5 * row : 5 * row + 5].sum()
            (grad,) = torch.autograd.grad(own, pixels, retain_graph=True)
            seen = grad.abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]
            (grad,) = torch.autograd.grad(pool.z[0, 5 * (row + k)].sum(), pixels, retain_graph=True)
            aim = grad.abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]
            assert seen.max() < aim.min()
            assert seen.max() < 8 * (row + 2)


def test_patches_are_cut_before_the_encoder_and_cropped_each_by_itself() -> None:
    images, stride = torch.randn(2, 3, 48, 48), 8
    patches = cut(images, 16, stride)
    offsets = torch.randint(0, 4, (2, 25, 2), generator=torch.Generator().manual_seed(0))
    crops = crop_each(patches, offsets, 13)
    for b, i, j in np.ndindex(2, 5, 5):
        patch = images[b, :, 8 * i : 8 * i + 16, 8 * j : 8 * j + 16]
        assert torch.equal(patches[b, 5 * i + j], patch)
        y, x = offsets[b, 5 * i + j].tolist()
        expected = torch.zeros(3, 16, 16)
        expected[:, 1:14, 1:14] = patch[:, y : y + 13, x : x + 13]
        assert torch.equal(crops[b, 5 * i + j], expected)


def test_offsets_of_patches_cover_their_room_and_repeat() -> None:
    method = tiny("cpc_image")
    one, two = (batch_for(method, 40).image["offsets"] for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (40, 25, 2)
    assert one.unique().tolist() == [0, 1]  # 15 of 16 pixels are shown
    assert len({tuple(row) for row in one.flatten(1).tolist()}) == 40


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cpc", {"steps": 5}, r"steps: expected fewer than encoder.blocks \(5\)"),
        ("dpc", {"encoder": {"kind": "dense_recurrent", "block": {"name": "r3d_18"}}}, "expected r2d3d"),
        ("cpc_image", {"steps": 4}, "steps: expected at most grid - 2"),
        ("cpc_image", {"grid": 6}, r"image_size: expected a multiple of grid \+ 1 = 7"),
        (
            "cpc_image",
            {"grid": 7, "encoder": {"name": "vit_tiny_patch16_224"}},
            "vit_tiny_patch16_224 takes no patches of 56 px",
        ),
        ("cpc", {"negatives": "none"}, "negatives"),
    ],
)
def test_settings_that_do_not_fit_are_named(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        tiny(name, **settings)


def test_an_augmentation_in_a_recipe_is_on_top_of_the_default() -> None:
    changed = tiny("cpc", augmentation={"flip": 0.0}).config.augmentation
    default = tiny("cpc").config.augmentation
    assert (changed.flip, changed.colour) == (0.0, "frame")
    assert changed.model_copy(update={"flip": default.flip}) == default
    assert tiny("cpc", augmentation=None).views["clip"].augmentation is None
