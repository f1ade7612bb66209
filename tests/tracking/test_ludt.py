"""LUDT's three trajectories, each against its definition."""

from itertools import pairwise

import pytest
import torch
from tiny_cycles import noisy, respond, tiny_cycle

from mmssl.methods import parse_method
from mmssl.models.correlation_filter import Band, cut_off, peaks, rolled

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_loss_is_the_sum_of_three_cycles() -> None:
    method = tiny_cycle("ludt", drop=0.25)
    batch = noisy(method, 8)
    loss = method(batch)
    with torch.no_grad():
        maps = [cut_off(method.look(x), method.config.margin) for x in batch.crops.unbind(1)]
    y, lam = method.y, method.config.lam
    band = Band(method.size, 1.0, tolerance=0)
    total = 0.0
    for length in (1, 2, 3):
        label, responses = y.expand(8, -1, -1), []
        for n in range(length):
            responses.append(respond(band, maps[n], maps[n + 1], label, lam))
            label = rolled(y, peaks(responses[-1]))
        returned = respond(band, maps[length], maps[0], label, lam)
        each = ((returned - y) ** 2 * y.exp()).sum((1, 2))
        motion = sum(((b - a) ** 2).sum((1, 2)) for a, b in pairwise([y, *responses]))
        kept = each.argsort()[:6]
        expected = float((motion[kept] / motion[kept].sum() * each[kept]).sum())
        assert loss.parts[f"loss_{length}"].item() == pytest.approx(expected, rel=1e-3)
        total += expected
    assert loss.total.item() == pytest.approx(total, rel=1e-3)
    loss.total.backward()
    assert all(p.grad.abs().max() > 0 for p in method.parameters())


def test_defaults_are_the_papers() -> None:
    config = parse_method({"name": "ludt"})
    assert (config.drop, config.within) == (0.2, 20)
    view = tiny_cycle("ludt").views["crops"]
    assert (view.start, view.sampler.count, view.padding) == ("textured", 4, 2.0)


def test_what_is_asked_names_the_whole_cycle() -> None:
    method = tiny_cycle("ludt")
    answers = method.pretext(noisy(method, 3))
    assert "T → S1 → S2 → S3 → T" in answers["cycle error"].protocol
