"""The linear probe against scikit-learn's logistic regression."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from mmssl.errors import MmsslError
from mmssl.evaluate.linear import Linear, LinearConfig, fit, hold_out, train_grid


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    x, y = torch.from_numpy(data.data).float(), torch.from_numpy(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    return x[order], y[order]


@pytest.mark.parametrize(("l2", "epochs"), [(1e-3, 800), (1e-2, 200), (1e-1, 100)])
def test_reaches_the_optimum_that_scikit_learn_finds(digits, l2, epochs):
    x, y = digits
    fitted, tested = slice(0, 1200), slice(1200, None)
    # scikit-learn minimises C · Σ CE + ½‖W‖²; dividing by N·C gives mean CE + λ/2 ‖W‖² with λ = 1 / (N·C)
    oracle = LogisticRegression(C=1 / (1200 * l2), max_iter=5000, tol=1e-8).fit(
        x[fitted].numpy(), y[fitted].numpy()
    )
    weight, bias = train_grid(
        x[fitted],
        y[fitted],
        10,
        torch.tensor([0.05]),
        torch.tensor([l2]),
        epochs,
        256,
        torch.Generator().manual_seed(0),
    )
    logits = x @ weight[0] + bias[0]

    def objective(w, b):
        z = x[fitted].double() @ w.double() + b.double()
        return float(nn.functional.cross_entropy(z, y[fitted]) + l2 / 2 * w.double().square().sum())

    best = objective(torch.from_numpy(oracle.coef_.T), torch.from_numpy(oracle.intercept_))
    assert best <= objective(weight[0], bias[0]) + 1e-9
    assert objective(weight[0], bias[0]) <= best * 1.01 + 1e-3
    ours = float((logits[tested].argmax(1) == y[tested]).float().mean())
    assert ours == pytest.approx(oracle.score(x[tested].numpy(), y[tested].numpy()), abs=0.01)


def test_members_of_the_grid_are_what_torch_trains_one_by_one(digits):
    x, y = digits[0][:200], digits[1][:200]
    rates, penalties = [0.01, 0.1], [0.0, 0.01]
    weight, bias = train_grid(
        x, y, 10, torch.tensor(rates), torch.tensor(penalties), 3, 64, torch.Generator().manual_seed(5)
    )
    for member, (rate, l2) in enumerate(zip(rates, penalties, strict=True)):
        layer = nn.Linear(64, 10)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        groups = [
            {"params": [layer.weight], "weight_decay": l2},
            {"params": [layer.bias], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.SGD(groups, lr=rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3 * 4)
        generator = torch.Generator().manual_seed(5)
        for _ in range(3):
            for rows in torch.randperm(200, generator=generator).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(layer(x[rows]), y[rows]).backward()
                optimiser.step()
                schedule.step()
        torch.testing.assert_close(weight[member], layer.weight.T, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(bias[member], layer.bias, rtol=1e-3, atol=1e-5)


def test_held_out_part_is_stratified_and_disjoint():
    y = torch.tensor([0] * 100 + [1] * 10 + [2] * 2 + [3])
    train, held_out = hold_out(y, 0.1, torch.Generator().manual_seed(0))
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(113))
    assert torch.bincount(y[held_out], minlength=4).tolist() == [10, 1, 1, 0]


def test_nothing_to_hold_out_is_refused():
    with pytest.raises(MmsslError, match="no class has two labelled samples"):
        hold_out(torch.tensor([0, 1, 2]), 0.1, torch.Generator())


def test_chooses_on_held_out_data_not_on_the_queries(digits):
    """A useless member must never be chosen, whatever the grid's order."""
    x, y = digits
    config = LinearConfig(lr=(1e-9, 0.03), l2=(1e-3,), epochs=10)
    assert fit(x, y, 10, config).lr == pytest.approx(0.03)


def test_same_seed_same_probe_other_scale_same_answers(digits):
    x, y = digits
    config = LinearConfig(lr=(0.03,), l2=(1e-3,), epochs=5)
    first, again, scaled = (
        fit(x, y, 10, config, 1),
        fit(x, y, 10, config, 1),
        fit(1000 * x + 5, y, 10, config, 1),
    )
    assert torch.equal(first.weight, again.weight)
    assert float((first.predict(x) == scaled.predict(1000 * x + 5)).float().mean()) > 0.995


def test_scores_name_their_protocol(blobs):
    shape, texture = Linear(LinearConfig(epochs=20)).run(blobs(missing=30))
    assert (shape.evaluation, shape.metric, shape.unit) == ("linear/shape", "accuracy", "%")
    assert shape.value > 97
    assert texture.value < 70
    for words in (
        "5 learning rates × 4 L2 penalties at once",
        "chosen lr=",
        "held out of the gallery",
        "train (270)",
        "val (80)",
        "30 without",
    ):
        assert words in shape.protocol


@pytest.mark.slow
def test_ten_thousand_features_take_seconds():
    import time

    x, y = torch.randn(10_000, 512), torch.randint(0, 10, (10_000,))
    start = time.perf_counter()
    fit(x, y, 10, LinearConfig())
    assert time.perf_counter() - start < 20
