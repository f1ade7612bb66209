"""A probe that chooses what to look at: one learned query over the tokens of a frozen encoder.

The attentive probe of Bardes et al., "Revisiting Feature Prediction for Learning Visual Representations from
Video" (V-JEPA, 2024, section 4.2), without the block behind the attention: heads of cross-attention with
a query that is a parameter, normalisation, a linear classifier.
"""

import copy
import math
from dataclasses import dataclass

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, cross_entropy, nll_loss

from mmssl.config import Config
from mmssl.evaluate.linear import hold_out, log_mean

CHUNK = 512
"""Samples that are answered at a time."""


class AttentiveFit(Config):
    """How an attentive probe is fitted: AdamW, every learning rate with every weight decay."""

    lr: tuple[PositiveFloat, ...] = Field(default=(1e-3, 3e-3), min_length=1)
    """Peak learning rates; a cosine takes them to zero."""
    weight_decay: tuple[NonNegativeFloat, ...] = Field(default=(0.01, 0.3), min_length=1)
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    heads: PositiveInt = 4
    tokens: PositiveInt = 64
    """A clip of more tokens has neighbours averaged until so many are left: they are all kept in memory."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the fitted split that is held out, class by class, to choose from the grid."""


class AttentiveProbe(nn.Module):
    """Tokens (B, n, d) float32 to logits (B, C)."""

    def __init__(self, dim: int, classes: int, heads: int) -> None:
        super().__init__()
        each = math.ceil(dim / heads)
        self.q = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, each), std=0.02))
        self.k, self.v = nn.Linear(dim, heads * each), nn.Linear(dim, heads * each)
        self.norm = nn.LayerNorm(heads * each)
        self.classifier = nn.Linear(heads * each, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        k, v = (part(tokens).unflatten(2, self.q.shape) for part in (self.k, self.v))  # (B, n, heads, each)
        attention = torch.einsum("he,bnhe->bhn", self.q, k).mul(self.q.shape[1] ** -0.5).softmax(dim=2)
        return self.classifier(self.norm(torch.einsum("bhn,bnhe->bhe", attention, v).flatten(1)))


@dataclass(frozen=True)
class Chosen:
    """The probe that was chosen, and how."""

    mean: Tensor
    scale: Tensor
    probe: AttentiveProbe
    lr: float
    weight_decay: float
    validation: float
    """Its accuracy on the held-out part, 0..1."""
    held_out: int

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """(M, V, C) of the tokens (M, V, n, d) of M samples in V views."""
        rows = ((tokens.flatten(0, 1) - self.mean) / self.scale).split(CHUNK)
        return torch.cat([self.probe(chunk) for chunk in rows]).unflatten(0, tokens.shape[:2])


def fit_attentive(tokens: Tensor, y: Tensor, classes: int, config: AttentiveFit, seed: int = 0) -> Chosen:
    """Train the grid on ``tokens`` (N, V, n, d) float32 and ``y`` (N,) int64; choose by held-out accuracy.

    The V views of a sample are trained on as samples of their own; held out they are together. All members
    of the grid start alike and see the same batches; of equally accurate ones the one with the smaller
    held-out cross-entropy is taken.

    Raises:
        MmsslError: too few samples to hold any out.
    """
    generator = torch.Generator().manual_seed(seed)
    train, held_out = hold_out(y.cpu(), config.validation, generator)
    rows, labels = tokens[train].flatten(0, 1), y[train].repeat_interleave(tokens.shape[1])
    mean = rows.mean((0, 1))
    scale = rows.std((0, 1), correction=0).clamp_min(1e-6)
    rows = (rows - mean) / scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = AttentiveProbe(rows.shape[2], classes, config.heads).to(rows.device)
    grid = [(lr, decay) for lr in config.lr for decay in config.weight_decay]
    members = [copy.deepcopy(start) for _ in grid]
    groups = [
        {"params": list(member.parameters()), "lr": lr, "weight_decay": decay}
        for member, (lr, decay) in zip(members, grid, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups)
    steps = config.epochs * -(-len(rows) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(config.epochs):
        for batch in torch.randperm(len(rows), generator=generator).split(config.batch_size):
            optimizer.zero_grad()
            # The members share no parameter: the gradient of the sum is that of each one's own loss.
            torch.stack(
                [cross_entropy(member(rows[batch]), labels[batch]) for member in members]
            ).sum().backward()
            optimizer.step()
            schedule.step()

    found = []
    for member, (lr, decay) in zip(members, grid, strict=True):
        one = Chosen(mean, scale, member.eval().requires_grad_(False), lr, decay, 0.0, len(held_out))
        answer = log_mean(one.logits(tokens[held_out]))
        right = float((answer.argmax(1) == y[held_out]).double().mean())
        found.append((right, -float(nll_loss(answer, y[held_out])), one))
    right, _, best = max(found, key=lambda member: member[:2])
    return Chosen(mean, scale, best.probe, best.lr, best.weight_decay, right, len(held_out))


def fewer(tokens: Tensor, most: int) -> Tensor:
    """(B, n, d) to (B, min(n, most), d): means over runs of neighbouring tokens."""
    if tokens.shape[1] <= most:
        return tokens
    return adaptive_avg_pool1d(tokens.transpose(1, 2), most).transpose(1, 2)
