"""Linear classification of frozen features, with a grid of hyper-parameters trained in one pass.

The protocol is the usual one (He et al., "Momentum Contrast", CVPR 2020, section 4.1; the affine-free
normalisation before the classifier is that of "Masked Autoencoders", CVPR 2022, appendix A.1). Training the
whole grid at once, as DINOv2's evaluation does, costs little more than training one classifier: all of them
see the same batch through a single matrix product.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import nll_loss

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.classify import Answered, Pair, tasks, within_pairs

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

MOMENTUM = 0.9


class LinearFit(Config):
    """How a linear probe is fitted: every learning rate with every L2 penalty."""

    lr: tuple[PositiveFloat, ...] = Field(default=(0.001, 0.003, 0.01, 0.03, 0.1), min_length=1)
    """Peak learning rates of SGD on standardised features."""
    l2: tuple[NonNegativeFloat, ...] = Field(default=(0.0, 1e-4, 1e-3, 1e-2), min_length=1)
    """λ in mean cross-entropy + λ/2 · ‖W‖²; biases are not penalised."""
    epochs: PositiveInt = 100
    batch_size: PositiveInt = 256
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the fitted split that is held out, class by class, to choose from the grid."""


class LinearConfig(EvaluationConfig, LinearFit):
    """Linear probe on cached features: every learning rate with every L2 penalty."""

    name: Literal["linear"] = "linear"
    encoder: str | None = None
    """By the name of the view it reads, or ``A+B`` for both; by default the only one there is."""
    labels: tuple[str, ...] = ()
    """Label names to classify by; empty = every label that both splits have."""
    pairs: tuple[Pair, ...] = ()
    """Pairs of class names that are also decided by themselves: ``[[left, right]]``."""


class Linear(Evaluation):
    """One score for each label name: fitted and chosen on the gallery split, scored once on the queries."""

    Config = LinearConfig

    def run(self, subject: "Subject") -> list[Score]:
        config = self.config
        answers = []
        for task in tasks(subject, config.encoder, config.labels):
            probe = fit(task.x, task.y, task.classes, config, subject.seed)
            answers.append(Answered(task, probe.logits(task.queries), protocol(config, probe)))
        scores = [answered.score("linear") for answered in answers]
        return scores + within_pairs("linear", answers, config.pairs, subject.classes)


def protocol(config: LinearFit, probe: "Probe") -> str:
    """How the probe was fitted and chosen."""
    return (
        f"linear probe, standardised features, SGD {config.epochs} epochs, "
        f"batch {config.batch_size}; {len(config.lr)} learning rates × {len(config.l2)} L2 penalties "
        f"at once, chosen lr={probe.lr:g}, l2={probe.l2:g} at {100 * probe.validation:.1f} % on "
        f"{probe.held_out} held out of the gallery; queries scored once"
    )


@dataclass(frozen=True)
class Probe:
    """The classifier that was chosen, and how."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    """(d, C)."""
    bias: Tensor
    lr: float
    l2: float
    validation: float
    """Its accuracy on the held-out part, 0..1."""
    held_out: int

    def logits(self, x: Tensor) -> Tensor:
        """(…, C) of rows (…, d)."""
        return ((x - self.mean) / self.scale) @ self.weight + self.bias

    def predict(self, x: Tensor) -> Tensor:
        """Class of each row of ``x`` (N, d)."""
        return self.logits(x).argmax(dim=1)


def fit(x: Tensor, y: Tensor, classes: int, config: LinearFit, seed: int = 0) -> Probe:
    """Train the grid on ``x`` (N, d) or (N, V, d) float32 and ``y`` (N,) int64; choose by held-out accuracy.

    The V views of a sample are trained on as rows of their own; held out they are together, and are answered
    by the mean of their probabilities. Of equally accurate members the one with the smaller held-out
    cross-entropy is taken.

    Raises:
        MmsslError: too few samples to hold any out.
    """
    x = x[:, None] if x.ndim == 2 else x
    generator = torch.Generator().manual_seed(seed)
    train, held_out = hold_out(y.cpu(), config.validation, generator)
    rows, labels = x[train].flatten(0, 1), y[train].repeat_interleave(x.shape[1])
    mean, scale = rows.mean(0), rows.std(0, correction=0).clamp_min(1e-6)
    lr, l2 = (
        grid.flatten()
        for grid in torch.meshgrid(x.new_tensor(config.lr), x.new_tensor(config.l2), indexing="ij")
    )
    weight, bias = train_grid(
        (rows - mean) / scale, labels, classes, lr, l2, config.epochs, config.batch_size, generator
    )

    z = (x[held_out] - mean) / scale
    answers = [log_mean(z @ w + b) for w, b in zip(weight, bias, strict=True)]
    right = [float((answer.argmax(1) == y[held_out]).float().mean()) for answer in answers]
    loss = [float(nll_loss(answer, y[held_out])) for answer in answers]
    best = min(range(len(lr)), key=lambda g: (-right[g], loss[g]))
    return Probe(
        mean,
        scale,
        weight[best],
        bias[best],
        lr[best].item(),
        l2[best].item(),
        right[best],
        len(held_out),
    )


def log_mean(logits: Tensor) -> Tensor:
    """(N, C) logarithm of the mean over views of the probabilities that logits (N, V, C) stand for."""
    return logits.float().log_softmax(2).logsumexp(1) - math.log(logits.shape[1])


def train_grid(
    x: Tensor,
    y: Tensor,
    classes: int,
    lr: Tensor,
    l2: Tensor,
    epochs: int,
    batch: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """G softmax classifiers by SGD with momentum and cosine decay, all on the same batches.

    The gradient of the mean cross-entropy, (softmax − one-hot) / B, is written out: no graph is built.

    Args:
        x: (N, d) float32, standardised.
        y: (N,) int64.
        classes: C.
        lr: (G,) peak learning rates.
        l2: (G,) penalties on the weights.
        epochs: passes over ``x``.
        batch: rows a step.
        generator: draws the order of every pass.

    Returns:
        Weights (G, d, C) and biases (G, C).
    """
    groups, (samples, dim) = len(lr), x.shape
    weight, bias = x.new_zeros(dim, groups, classes), x.new_zeros(groups, classes)
    weight_speed, bias_speed = torch.zeros_like(weight), torch.zeros_like(bias)
    steps = epochs * -(-samples // batch)
    step = 0
    for _ in range(epochs):
        for rows in torch.randperm(samples, generator=generator).split(batch):
            xb = x[rows]
            error = (xb @ weight.view(dim, -1) + bias.view(-1)).view(len(rows), groups, classes).softmax(2)
            error[torch.arange(len(rows)), :, y[rows]] -= 1
            error /= len(rows)
            gradient = (xb.T @ error.view(len(rows), -1)).view_as(weight)
            weight_speed.mul_(MOMENTUM).add_(gradient.addcmul_(weight, l2[:, None]))
            bias_speed.mul_(MOMENTUM).add_(error.sum(0))
            decay = 0.5 * (1 + math.cos(math.pi * step / steps))
            rate = (lr * decay)[:, None]
            weight.addcmul_(weight_speed, -rate)
            bias.addcmul_(bias_speed, -rate)
            step += 1
    return weight.permute(1, 0, 2).contiguous(), bias


def hold_out(y: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices to train on and indices held out: ``share`` of each class, at least one where a class has two.

    Raises:
        MmsslError: no class has two samples.
    """
    train, held_out = [], []
    for label in y.unique():
        rows = (y == label).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        held_out.append(rows[:count])
        train.append(rows[count:])
    if not sum(map(len, held_out)):
        raise MmsslError(
            "linear probe: no class has two labelled samples; expected some to hold out for choosing"
        )
    return torch.cat(train).sort().values, torch.cat(held_out).sort().values
