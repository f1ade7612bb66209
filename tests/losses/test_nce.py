"""NCE against noise and its softmax variant, against loops in float64, gradient checks, and several ranks."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.distributed import mean
from mmssl.losses.info_nce import info_nce
from mmssl.losses.nce import Scores, log_normaliser, nce, softmax_nce

TAU, SAMPLES = 0.2, 40


def cosines(n: int = 5, m: int = 9, seed: int = 0) -> Scores:
    """Of random unit vectors; two negatives are none, and the third anchor has no second view."""
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> Tensor:
        return normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)

    q, k, others = unit(n, 8), unit(n, 8), unit(m, 8)
    noise = q @ others.T
    noise[0, 3] = noise[2, 0] = -torch.inf
    weight = torch.ones(n, dtype=torch.float64)
    weight[2] = 0
    return Scores((q * k).sum(1), noise, weight / weight.sum())


def by_loops(scores: Scores, z: float) -> dict[str, float]:
    """The formulas of the papers, one exponential at a time."""
    found: dict[str, list[float]] = {"nce": [], "softmax": [], "probability": [], "effective": [], "top1": []}
    for i in (0, 1, 3, 4):
        noise = [float(s) for s in scores.noise[i] if s > -1.5]
        m_pn = scores.noise.shape[1] / SAMPLES

        def h(s: float, m_pn: float = m_pn) -> float:
            return math.exp(s / TAU) / z / (math.exp(s / TAU) / z + m_pn)

        own = float(scores.positive[i])
        found["nce"].append(-math.log(h(own)) - sum(math.log(1 - h(s)) for s in noise))
        found["probability"].append(h(own))
        share = [h(s) / sum(h(t) for t in noise) for s in noise]
        found["effective"].append(math.exp(-sum(p * math.log(p) for p in share)))
        total = math.exp(own / TAU) + sum(math.exp(s / TAU) for s in noise)
        found["softmax"].append(-math.log(math.exp(own / TAU) / total))
        found["top1"].append(own > max(noise))
    return {name: sum(values) / 4 for name, values in found.items()}


def test_both_losses_against_loops() -> None:
    scores = cosines()
    expected = by_loops(scores, 60.0)
    found = nce(scores, TAU, torch.tensor(60.0, dtype=torch.float64).log(), SAMPLES)
    assert float(found.loss) == pytest.approx(expected["nce"], rel=1e-12)
    assert float(found.positive_probability) == pytest.approx(expected["probability"])
    assert float(found.effective_negatives) == pytest.approx(expected["effective"])
    assert float(found.top1) == pytest.approx(expected["top1"])
    assert float(found.negatives) == pytest.approx((8 + 9 + 9 + 9) / 4)
    present = [0, 1, 3, 4]
    assert float(found.positive_similarity) == pytest.approx(float(scores.positive[present].mean()))
    means = [float(row[row > -1.5].mean()) for row in scores.noise[present]]
    assert float(found.negative_similarity) == pytest.approx(sum(means) / 4)
    assert float(softmax_nce(scores, TAU).loss) == pytest.approx(expected["softmax"], rel=1e-12)


def test_the_normaliser_is_n_times_the_mean_of_all_candidates() -> None:
    scores = cosines()
    means = []
    for i in (0, 1, 3, 4):
        each = [math.exp(float(s) / TAU) for s in scores.noise[i] if s > -1.5]
        each.append(math.exp(float(scores.positive[i]) / TAU))
        means.append(sum(each) / len(each))
    found = log_normaliser(scores, TAU, SAMPLES)
    assert float(found.exp()) == pytest.approx(SAMPLES * sum(means) / 4)
    nobody = scores._replace(weight=torch.zeros(5, dtype=torch.float64))
    assert log_normaliser(nobody, TAU, SAMPLES).isnan()


def test_the_softmax_variant_is_info_nce_where_nothing_is_left_out() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, others = (normalize(torch.randn(n, 8, generator=generator), dim=1) for n in (6, 6, 20))
    plain = info_nce(q, k, others, TAU)
    found = softmax_nce(Scores((q * k).sum(1), q @ others.T, torch.full((6,), 1 / 6)), TAU)
    for name, value in plain._asdict().items():
        torch.testing.assert_close(getattr(found, name), value, msg=name)


@pytest.mark.parametrize("loss", ["nce", "softmax"])
def test_gradients(loss: str) -> None:
    scores = cosines(3, 4)
    kept = scores.noise > -torch.inf

    def run(positive: Tensor, noise: Tensor) -> Tensor:
        given = Scores(positive, noise.masked_fill(~kept, -torch.inf), scores.weight)
        log_z = torch.tensor(3.0, dtype=torch.float64)
        return (nce(given, TAU, log_z, SAMPLES) if loss == "nce" else softmax_nce(given, TAU)).loss

    positive = scores.positive.clone().requires_grad_()
    noise = scores.noise.masked_fill(~kept, 0.0).requires_grad_()
    assert torch.autograd.gradcheck(run, (positive, noise))
    run(positive, noise).backward()
    assert noise.grad is not None
    assert not noise.grad[~kept].any()
    assert not noise.grad[2].any()  # its second view is absent
    assert noise.grad[1].all()


@pytest.mark.parametrize("tau", [0.07, 0.005])
def test_float32_under_autocast_and_finite_at_low_temperatures(tau: float) -> None:
    scores = Scores(*(x.float() for x in cosines()))
    narrow = Scores(*(x.bfloat16() for x in scores))
    log_z = log_normaliser(scores, tau, SAMPLES).float()
    plain = nce(scores, tau, log_z, SAMPLES).loss
    assert plain.isfinite()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nce(scores, tau, log_z, SAMPLES).loss, plain)
        assert nce(narrow, tau, log_z, SAMPLES).loss.dtype == torch.float32
        assert softmax_nce(narrow, tau).loss.dtype == torch.float32


def test_a_perfect_anchor_costs_nothing_and_chance_costs_its_entropy() -> None:
    equal = Scores(torch.zeros(2), torch.zeros(2, 7), torch.full((2,), 0.5))
    assert float(softmax_nce(equal, 1.0).loss) == pytest.approx(math.log(8))
    apart = Scores(torch.ones(2), -torch.ones(2, 7), torch.full((2,), 0.5))
    assert float(softmax_nce(apart, 0.01).loss) < 1e-6


def on_ranks(rank: int, world: int, expected: dict[str, Any]) -> None:
    """Anchors spread over ranks unevenly, once those without a second view are left out."""
    whole = cosines(4 * world)
    mine = slice(4 * rank, 4 * rank + 4)
    part = Scores(whole.positive[mine], whole.noise[mine], whole.weight[mine] * world)
    log_z = log_normaliser(part, TAU, SAMPLES)
    torch.testing.assert_close(log_z, expected["log_z"])
    torch.testing.assert_close(mean(nce(part, TAU, log_z, SAMPLES).loss), expected["loss"])


@pytest.mark.parametrize("world", [2, 4])
def test_the_mean_over_ranks_is_the_loss_of_the_whole_batch(world: int, ranks: Callable[..., None]) -> None:
    whole = cosines(4 * world)
    log_z = log_normaliser(whole, TAU, SAMPLES)
    ranks(on_ranks, world, {"log_z": log_z, "loss": nce(whole, TAU, log_z, SAMPLES).loss})
