"""Losses over known pixels, against plain loops in float64, finite differences, and what is unknown."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from mmssl.losses.pixel_prediction import pixel_cross_entropy, pixel_distance


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 3, 2, 4, 5, generator=generator, dtype=torch.float64)
    known = torch.rand(3, 4, 5, generator=generator) < 0.6
    known[1] = False  # a sample of which nothing is known
    return prediction, target, known


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_distance_is_the_mean_over_known_pixels(
    norm: str, power: int, pictures: tuple[Tensor, Tensor, Tensor]
) -> None:
    prediction, target, known = pictures
    target = target.masked_fill(~known[:, None], math.nan)
    errors = [
        abs(float(prediction[b, c, y, x]) - float(target[b, c, y, x])) ** power
        for b, y, x in known.nonzero().tolist()
        for c in range(2)
    ]
    found = pixel_distance(prediction, target, known, norm)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(sum(errors) / len(errors), rel=1e-12)


def test_cross_entropy_is_the_mean_over_known_pixels(pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, _, known = pictures
    target = torch.randint(0, 2, known.shape, generator=torch.Generator().manual_seed(1))
    losses = []
    for b, y, x in known.nonzero().tolist():
        scores = [float(value) for value in logits[b, :, y, x]]
        losses.append(math.log(sum(map(math.exp, scores))) - scores[int(target[b, y, x])])
    found = pixel_cross_entropy(logits, target, known)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_gradients(pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    prediction, target, known = pictures
    prediction = prediction.requires_grad_()
    for norm in ("l1", "l2"):
        assert gradcheck(lambda p, norm=norm: pixel_distance(p, target, known, norm), prediction)
    classes = target.argmax(dim=1)
    assert gradcheck(lambda p: pixel_cross_entropy(p, classes, known), prediction)
    pixel_distance(prediction, target, known, "l1").backward()
    assert prediction.grad is not None
    assert (prediction.grad[~known[:, None].expand_as(prediction)] == 0).all()
    assert (prediction.grad[known[:, None].expand_as(prediction)] != 0).all()


@pytest.mark.parametrize("kind", ["distance", "classes"])
def test_nothing_known_is_no_loss_and_no_gradient(kind: str) -> None:
    prediction = torch.randn(2, 3, 4, 4, requires_grad=True)
    nothing = torch.zeros(2, 4, 4, dtype=torch.bool)
    if kind == "distance":
        loss = pixel_distance(prediction, torch.full((2, 3, 4, 4), math.nan), nothing, "l2")
    else:
        loss = pixel_cross_entropy(prediction, torch.zeros(2, 4, 4, dtype=torch.int64), nothing)
    loss.backward()
    assert float(loss.detach()) == 0
    assert prediction.grad is not None
    assert (prediction.grad == 0).all()


def test_float32_under_autocast() -> None:
    prediction, known = torch.full((1, 1, 2, 2), 1.0, dtype=torch.bfloat16), torch.ones(1, 2, 2).bool()
    target = torch.full((1, 1, 2, 2), 1.001)
    assert float(pixel_distance(prediction, target, known, "l1")) == pytest.approx(0.001, rel=1e-3)
