"""What a predictor is asked of every sight: known pixels, errors in units, and what blind guessing scores."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.methods.multiview.targets import Target
from mmssl.sights import SIGHTS
from mmssl.stream.views.shown import Shown

GENERATOR = torch.Generator().manual_seed(0)


def target(sees: str, channels: int | None = None, size: int = 4, norm: str = "l1") -> Target:
    sight = SIGHTS[sees]
    count = channels or sight.channels or 2
    mean, std = (v if len(v) == count else v * count for v in (sight.mean, sight.std))
    return Target(Shown(sees, sight.modality, size, count, mean, std), norm)  # type: ignore[arg-type]


def normalised(one: Target, raw: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (one.shown.mean, one.shown.std))
    return (raw - mean) / std


def everywhere(x: Tensor) -> Tensor:
    return torch.ones(len(x), *x.shape[2:], dtype=torch.bool)


@pytest.mark.parametrize("sees", [name for name in SIGHTS if name not in ("segmentation", "depth")])
def test_physical_undoes_the_normalisation(sees: str) -> None:
    one = target(sees)
    raw = torch.randn(2, one.shown.channels, 4, 4, generator=GENERATOR)
    torch.testing.assert_close(one.physical(normalised(one, raw)), raw)


def test_depth_is_one_channel_and_known_by_the_other() -> None:
    one = target("depth")
    metres = torch.tensor([[[[1.0, 2.0], [4.0, 0.0]]]])
    known = metres > 0
    x = normalised(one, torch.cat([torch.where(known, metres, 1.0).log(), known.float()], dim=1))
    assert one.channels == 1
    assert torch.equal(one.known(x), known[:, 0])
    prediction = normalised(one, torch.zeros(1, 2, 2, 2))[:, :1]  # a metre everywhere
    answers = one.answers(prediction, x, one.known(x))
    assert answers.values.tolist() == pytest.approx([(0 + math.log(2) + math.log(4)) / 3])
    assert answers.unit == "ln m"
    assert answers.better == "lower"
    assert answers.chance == pytest.approx(np.abs(np.log([1, 2, 4]) - np.log([1, 2, 4]).mean()).mean())


def test_normals_are_scored_in_degrees() -> None:
    one = target("normals")
    x = torch.zeros(2, 3, 1, 2)
    x[:, 2] = 1.0  # towards z
    x[1, :, 0, 1] = 0.0  # missing
    prediction = torch.zeros_like(x)
    prediction[0, 0] = 5.0  # at a right angle, of any length
    prediction[1, 1:] = 0.3  # halfway between y and z
    known = one.known(x)
    assert known.tolist() == [[[True, True]], [[True, False]]]
    assert one.answers(prediction, x, known).values.tolist() == pytest.approx([90, 45], abs=1e-4)
    assert one.answers(prediction, x, known).chance == pytest.approx(0, abs=1e-4)  # all are alike


def test_small_angles_are_exact() -> None:
    one = target("normals")
    angle = 1e-4
    x = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    prediction = torch.tensor([math.sin(angle), 0.0, math.cos(angle)]).view(1, 3, 1, 1)
    values = one.answers(prediction, x, everywhere(x)).values
    assert float(values) == pytest.approx(math.degrees(angle), rel=1e-3)


def test_flow_is_scored_in_pixels_of_the_view() -> None:
    one = target("flow", channels=4, size=10)
    truth, guess = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    guess[:, 0], guess[:, 1] = 0.3, 0.4  # of a side: 5 pixels off in the first field, right in the second
    x = normalised(one, truth)
    answers = one.answers(normalised(one, guess), x, everywhere(x))
    assert answers.values.tolist() == pytest.approx([2.5], rel=1e-5)
    assert answers.unit == "px"


def test_segmentation_is_classified() -> None:
    one = target("segmentation", channels=3, size=2)
    ids = torch.tensor([[[0, 1], [1, 255]]])
    x = torch.stack([(ids == c).float() for c in range(3)], dim=1)
    logits = torch.randn(1, 3, 2, 2, generator=GENERATOR)
    logits[0, 1] += 20  # says 1 everywhere
    known = one.known(x)
    assert torch.equal(known, ids != 255)
    answers = one.answers(logits, x, known)
    assert (answers.unit, answers.better) == ("%", "higher")
    assert float(answers.values) == pytest.approx(2 / 3)
    assert answers.chance == pytest.approx(2 / 3)
    flat = logits.log_softmax(1).permute(0, 2, 3, 1)[0]
    expected = -float(flat[0, 0, 0] + flat[0, 1, 1] + flat[1, 0, 1]) / 3
    assert float(one.loss(logits, x, known)) == pytest.approx(expected, rel=1e-5)
    painted = one.painted(logits)
    assert torch.equal(painted.argmax(dim=1), torch.ones(1, 2, 2, dtype=torch.int64))
    assert painted.shape == x.shape


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_loss_is_in_normalised_units(norm: str, power: int) -> None:
    one = target("ab", norm=norm)
    x = torch.randn(3, 2, 4, 4, generator=GENERATOR)
    prediction = torch.randn(3, 2, 4, 4, generator=GENERATOR)
    expected = np.mean(np.abs(prediction.double().numpy() - x.double().numpy()) ** power)
    assert float(one.loss(prediction, x, everywhere(x))) == pytest.approx(expected, rel=1e-5)


def test_samples_without_a_known_pixel_are_not_asked_about() -> None:
    one = target("L")
    x, known = torch.zeros(3, 1, 4, 4), torch.ones(3, 4, 4, dtype=torch.bool)
    known[1] = False
    answers = one.answers(torch.ones_like(x), x, known)
    assert answers.values.tolist() == pytest.approx([25.0, 25.0])  # one standard deviation of L*
    nothing = one.answers(torch.ones_like(x), x, torch.zeros_like(known))
    assert len(nothing.values) == 0
    assert nothing.chance == 0


def test_painted_depth_is_known_everywhere() -> None:
    one = target("depth")
    painted = one.painted(torch.randn(2, 1, 4, 4, generator=GENERATOR))
    assert painted.shape == (2, 2, 4, 4)
    assert one.known(painted).all()
