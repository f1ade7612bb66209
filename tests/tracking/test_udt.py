"""UDT's objective against a second implementation in numpy, and the traps of its public code."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cycles import batch_of, noisy, textures, tiny_cycle
from torch.nn.parallel import DistributedDataParallel

from mmssl.errors import MmsslError
from mmssl.methods import parse_method
from mmssl.methods.tracking.cycle import Cycle, distances
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.models.correlation_filter import cut_off, peaks
from mmssl.models.dcfnet import PIXELS

pytestmark = pytest.mark.usefixtures("one_thread")


def filtered(x: np.ndarray, label: np.ndarray, z: np.ndarray, lam: float) -> np.ndarray:
    """The response to z (C, H, W) of the filter of x and its label, in full spectra."""
    fx, fz = np.fft.fft2(x), np.fft.fft2(z)
    alpha = np.fft.fft2(label) / ((np.abs(fx) ** 2).sum(0) / x.size + lam)
    return np.fft.ifft2(alpha * (fz * fx.conj()).sum(0) / x.size).real


def in_numpy(maps: np.ndarray, sigma: float, lam: float, drop: float) -> float:
    """The loss of T → S1 → S2 → T of maps (B, 3, C, H, W), sample by sample."""
    height, width = maps.shape[-2:]
    y = np.array(
        [
            [
                math.exp(-(min(i, height - i) ** 2 + min(j, width - j) ** 2) / (2 * sigma**2))
                for j in range(width)
            ]
            for i in range(height)
        ]
    )
    losses, motions = [], []
    for t, s1, s2 in maps:
        r1 = filtered(t, y, s1, lam)
        y1 = np.roll(y, np.unravel_index(r1.argmax(), y.shape), axis=(0, 1))
        r2 = filtered(s1, y1, s2, lam)
        y2 = np.roll(y, np.unravel_index(r2.argmax(), y.shape), axis=(0, 1))
        back = filtered(s2, y2, t, lam)
        losses.append((np.exp(y) * (back - y) ** 2).sum())
        motions.append(((r1 - y) ** 2).sum() + ((r1 - r2) ** 2).sum())
    kept = np.argsort(losses)[: len(losses) - int(drop * len(losses))]
    weights = np.array(motions)[kept] / np.array(motions)[kept].sum() * len(kept)
    return float((weights * np.array(losses)[kept]).sum() / len(kept))


@pytest.mark.parametrize(("size", "margin"), [(25, 2), (24, 2), (23, 0)])
def test_the_loss_is_the_papers(size: int, margin: int) -> None:
    method = tiny_cycle(size=size, margin=margin, drop=0.25)
    batch = noisy(method, 9)
    loss = method(batch)
    with torch.no_grad():
        maps = torch.stack([cut_off(method.look(x), margin) for x in batch.crops.unbind(1)], dim=1)
    cells = size - 2 * margin
    assert maps.shape == (9, 3, 6, cells, cells)
    expected = in_numpy(maps.double().numpy(), 0.1 * size / 3, method.config.lam, 0.25)
    assert loss.total.item() == pytest.approx(expected, rel=1e-3)
    assert loss.parts["dropped"].item() == pytest.approx(2 / 9)
    assert loss.embedding is not None
    assert loss.embedding.shape == (9, 6)


def test_only_the_way_back_has_a_gradient() -> None:
    """The same loss, with the forward passes' results put in as constants, has the same gradient."""
    method = tiny_cycle()
    batch = noisy(method, 4)
    method(batch).total.backward()
    found = [p.grad.clone() for p in method.parameters()]
    assert all(g.abs().max() > 0 for g in found)
    method.zero_grad()
    t, s1, s2 = (method.band.spectrum(method.look(x)) for x in batch.crops.unbind(1))
    with torch.no_grad():
        passed = method.forward_pass([t, s1, s2])
    constant = [x.detach().requires_grad_() for x in (t, s1, s2)]
    assert not any(x.requires_grad for x in method.forward_pass(constant))
    method.weighted(method.follow(s2, passed.labels[:, 1], t), passed.responses)[0].backward()
    for got, parameter in zip(found, method.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-4, atol=1e-4 * float(got.abs().max()))


@pytest.mark.parametrize("name", ["udt", "ludt"])
def test_content_that_is_only_shifted_comes_back_exactly(name: str) -> None:
    """Labels rolled in one axis, or not at all, would not lead back (trap 1 of the public code)."""
    method = tiny_cycle(name, size=27, margin=0)
    x = textures(16, 27)
    maps = [method.look(x).detach()]
    shifts = torch.zeros(16, 2, dtype=torch.long)
    generator = torch.Generator().manual_seed(3)
    expected = []
    for _ in range(method.search):
        shifts = shifts + torch.randint(-6, 7, (16, 2), generator=generator)
        expected.append(shifts)
        maps.append(
            torch.stack([m.roll(tuple(s), (1, 2)) for m, s in zip(maps[0], shifts.tolist(), strict=True)])
        )
    spectra = [method.band.spectrum(m) for m in maps]
    passed = method.forward_pass(spectra)
    for n, moved in enumerate(expected):
        wrapped = (moved + 13) % 27 - 13
        assert (peaks(passed.labels[:, n]) == wrapped).all()
        returned = method.follow(spectra[n + 1], passed.labels[:, n], spectra[0])
        assert (distances(returned) == 0).all()
    assert (passed.labels.flatten(2).argmax(2) == passed.responses.flatten(2).argmax(2)).all()
    figures = method.report(returned, passed)
    assert figures["cycle_error"] == 0
    assert figures["returned"] == 1


def test_figures_are_in_pixels_of_the_crop() -> None:
    method = tiny_cycle()
    returned = torch.zeros(2, 21, 21)
    returned[0, 3, 17] = 1.0  # 3 down, 4 left
    returned[1, 0, 1] = 1.0
    passed = method.forward_pass([method.band.spectrum(torch.rand(2, 6, 25, 25)) for _ in range(3)])
    figures = method.report(returned, passed)
    assert figures["cycle_error"] == pytest.approx(3.0)
    assert figures["returned"] == 0.5


def test_what_is_asked_of_held_out_clips() -> None:
    method = tiny_cycle(size=27)
    answers = method.pretext(noisy(method, 8))
    near, error = answers["cycles that return"], answers["cycle error"]
    assert near.values.shape == error.values.shape == (8,)
    assert ((error.values <= 2) == near.values.bool()).all()
    down, right = np.meshgrid(*[np.arange(-11, 12)] * 2)
    assert error.chance == pytest.approx(np.hypot(down, right).mean(), rel=1e-5)
    assert near.chance == pytest.approx(13 / 23**2, rel=1e-5)
    assert error.better == "lower"


def test_half_precision_stays_in_the_convolutions() -> None:
    method = tiny_cycle(size=31, encoder={"kwargs": {"width": 32}})
    batch = noisy(method, 4)
    exact = method(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert method.look(batch.crops[:, 0]).dtype == torch.bfloat16
        half = method(batch)
    assert half.total.dtype == torch.float32
    assert half.total.item() == pytest.approx(exact.total.item(), rel=0.1)
    half.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_what_pixels_become_is_kept_with_the_encoder(tmp_path: Path) -> None:
    """The mean is the same in training and online (trap 4)."""
    method = tiny_cycle()
    save_encoder(method.encoders()["image"], tmp_path, {})
    loaded, shown = load_encoder(tmp_path), method.views["crops"]
    assert (loaded.mean, loaded.std) == (shown.mean, shown.std)
    assert loaded.std == PIXELS
    assert loaded.feature_map(torch.ones(1, 3, 25, 25)).shape == (1, 6, 25, 25)


def test_any_stage_of_any_backbone_can_be_trained() -> None:
    net = {"name": "resnet10t", "image_size": 48, "kwargs": {"channels": [8, 8, 16, 16]}}
    method = tiny_cycle(encoder=net, stage=1, margin=1)
    assert method.stride == 4
    assert method.size == (10, 10)
    loss = method(noisy(method, 4))
    loss.total.backward()
    assert math.isfinite(loss.total.item())
    grads = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert any("layer1" in name for name in grads)


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"margin": 12}, "margin"), ({"stage": 3}, "stage"), ({"encoder": {"name": "dcf"}}, "dcf")],
)
def test_bad_settings_are_named(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(MmsslError, match=match):
        tiny_cycle(**settings)


def test_defaults_are_the_papers_and_stay_where_a_recipe_says_nothing() -> None:
    config = parse_method({"name": "udt", "encoder": {"image_size": 61}})
    assert config.encoder.name == "dcfnet"
    assert config.encoder.std == PIXELS
    assert config.encoder.image_size == 61
    assert (config.padding, config.lam, config.sigma, config.drop, config.within) == (2, 1e-4, 0.1, 0.1, 10)
    other = parse_method({"name": "udt", "encoder": {"name": "resnet18"}})
    assert other.encoder.std != PIXELS
    full = tiny_cycle(encoder={"image_size": 125})
    assert full.size == (121, 121)
    assert full.y[0, 4] == pytest.approx(math.exp(-(4**2) / (2 * (0.1 * 125 / 3) ** 2)))


def gradients(method: Cycle) -> list[torch.Tensor]:
    return [p.grad.clone() for p in method.parameters()]


def share_of_a_batch(rank: int, world: int, folder: str) -> None:
    method = tiny_cycle(drop=0.25)
    model = DistributedDataParallel(method)
    whole = noisy(method, 8)
    rows = slice(rank * 4, rank * 4 + 4)
    model(batch_of(whole.crops[rows])).total.backward()
    torch.save(gradients(method), f"{folder}/{rank}.pt")


def test_two_ranks_drop_and_weigh_as_one(ranks: Any, tmp_path: Path) -> None:
    ranks(share_of_a_batch, 2, str(tmp_path))
    alone = tiny_cycle(drop=0.25)
    alone(noisy(alone, 8)).total.backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for got, expected in zip(found, gradients(alone), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
