"""What is fitted to a frozen feature map: a linear head, in closed form or by SGD, or a light decoder."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from mmssl.config import Config
from mmssl.evaluate.linear import train_grid

CHUNK = 8192
"""Rows whose products are summed at a time in double precision."""

Judge = Callable[[Tensor, Tensor], float]
"""Predictions (n, K) float32 and truth (n, C) to how bad they are: lower is better."""


@dataclass(frozen=True)
class Gallery:
    """What heads are fitted to: points of N pictures, each with its feature map, and P points of each."""

    maps: Tensor
    """(N, d, h, w) float16; empty where only ``rows`` are needed."""
    rows: Tensor
    """(N, P, d) float32: the maps at the points; empty where the maps are kept."""
    at: Tensor
    """(N, P, 2) float32 x, y in -1..1."""
    truth: Tensor
    """(N, P, C); all of it is known."""

    def __len__(self) -> int:
        return len(self.truth)

    def pictures(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (n, d) and truth (n, C) of the points of some pictures (indices), which are copies."""
        return self.rows[chosen].flatten(0, 1), self.truth[chosen].flatten(0, 1)


class Head(nn.Module):
    """Feature maps (B, d, h, w) float32, standardised here, to predictions (B, K, h', w')."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.mean, self.scale = nn.Buffer(mean.view(-1, 1, 1)), nn.Buffer(scale.view(-1, 1, 1))
        self.layers = nn.Sequential()

    def forward(self, maps: Tensor) -> Tensor:
        y: Tensor = self.layers((maps - self.mean) / self.scale)
        return y


class LinearHead(Head):
    """One 1×1 convolution: ``weight`` (d, K), ``bias`` (K,)."""

    def __init__(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__(mean, scale)
        layer = nn.Conv2d(weight.shape[0], weight.shape[1], 1)
        layer.weight.data, layer.bias.data = weight.T[:, :, None, None].clone(), bias.clone()  # type: ignore[union-attr]
        self.layers.append(layer)
        self.eval().requires_grad_(False)


class Decoder(Head):
    """A 1×1 convolution to ``width`` channels, two 3×3, the second at twice the grid, and a 1×1 to K."""

    def __init__(self, mean: Tensor, scale: Tensor, width: int, outputs: int) -> None:
        super().__init__(mean, scale)
        self.layers.extend(
            [
                *_block(len(mean), width, 1),
                *_block(width, width, 3),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                *_block(width, width, 3),
                nn.Conv2d(width, outputs, 1),
            ]
        )


def _block(into: int, out: int, side: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(into, out, side, padding=side // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU()


def sampled(maps: Tensor, at: Tensor) -> Tensor:
    """(B, P, d): maps (B, d, h, w) at places (B, P, 2), x and y in -1..1 from edge to edge, bilinear.

    The very values that the map has there after ``interpolate`` with ``align_corners=False``.
    """
    found = grid_sample(maps, at[:, None], mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)


@dataclass(frozen=True)
class Fitted:
    """The head that was chosen, and how."""

    head: Head
    words: str
    """Hyper-parameters."""
    bad: float
    """What the judge says of it on the held-out pictures."""


def standardisation(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread (d,) of rows (n, d)."""
    return rows.mean(0), rows.std(0, correction=0).clamp_min(1e-6)


def hold_out_runs(pictures: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices to fit on and indices held out: whole runs of up to 16 neighbours, often frames of one video.

    Args:
        pictures: N ≥ 2.
        share: of them, 0..1; at least one run is held out and one is not.
    """
    run = max(1, min(16, pictures // 20))
    number = torch.arange(pictures) // run
    runs = int(number[-1]) + 1
    count = min(max(round(share * runs), 1), runs - 1)
    out = torch.isin(number, torch.randperm(runs, generator=generator)[:count])
    return (~out).nonzero()[:, 0], out.nonzero()[:, 0]


def ridge(gallery: Gallery, train: Tensor, held_out: Tensor, l2: Sequence[float], judge: Judge) -> Fitted:
    """Least squares in closed form, min |y - xW - b|² / n + λ |W|², with the best λ by ``judge``."""
    x, y = gallery.pictures(train)
    mean, scale = standardisation(x)
    bias = y.double().mean(0)
    covariance = cross = x.new_zeros((), dtype=torch.float64)
    for some, target in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
        z = ((some - mean) / scale).double()
        covariance, cross = covariance + z.T @ z / len(x), cross + z.T @ (target.double() - bias) / len(x)
    values, vectors = torch.linalg.eigh(covariance)
    rotated = vectors.T @ cross
    q, truth = gallery.pictures(held_out)
    q = q.sub_(mean).div_(scale)
    found = []
    for penalty in l2:
        # Directions in which the features do not vary at all get no weight, whatever the penalty.
        inverse = torch.where(values > 1e-10, 1 / (values.clamp_min(0) + penalty).clamp_min(1e-12), 0)
        weight = (vectors @ (inverse[:, None] * rotated)).float()
        head = LinearHead(mean, scale, weight, bias.float())
        answer = q @ weight + bias.float()
        found.append(Fitted(head, f"λ={penalty:g} of {len(l2)}", judge(answer, truth)))
    return min(found, key=lambda fitted: fitted.bad)


class SoftmaxFit(Config):
    """How a linear classifier of points is fitted: SGD, every learning rate with every L2 penalty at once."""

    lr: tuple[PositiveFloat, ...] = Field(default=(0.01, 0.03, 0.1), min_length=1)
    """Peak learning rates on standardised features; a cosine takes them to zero."""
    l2: tuple[NonNegativeFloat, ...] = Field(default=(0.0, 1e-3), min_length=1)
    """λ in mean cross-entropy + λ/2 · ‖W‖²."""
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 512
    """Points a step."""


def softmax(
    gallery: Gallery,
    train: Tensor,
    held_out: Tensor,
    classes: int,
    fit: SoftmaxFit,
    judge: Judge,
    generator: torch.Generator,
) -> Fitted:
    """Linear classification of points, the best of the grid by ``judge``, which takes logits (n, K)."""
    x, y = gallery.pictures(train)
    mean, scale = standardisation(x)
    grid = [(lr, l2) for lr in fit.lr for l2 in fit.l2]
    lrs, l2s = (x.new_tensor(column) for column in zip(*grid, strict=True))
    weight, bias = train_grid(
        x.sub_(mean).div_(scale), y[:, 0].long(), classes, lrs, l2s, fit.epochs, fit.batch_size, generator
    )
    q, truth = gallery.pictures(held_out)
    q = q.sub_(mean).div_(scale)
    found = []
    for w, b, (lr, l2) in zip(weight, bias, grid, strict=True):
        words = (
            f"SGD {fit.epochs} epochs, batch {fit.batch_size}, lr={lr:g} and λ={l2:g} of {len(grid)} pairs"
        )
        found.append(Fitted(LinearHead(mean, scale, w, b), words, judge(q @ w + b, truth)))
    return min(found, key=lambda fitted: fitted.bad)


class DecoderFit(Config):
    """How a decoder is fitted: AdamW, one-cycle, every learning rate on the same batches."""

    width: PositiveInt = 64
    lr: tuple[PositiveFloat, ...] = Field(default=(3e-3,), min_length=1)
    """Peak learning rates; the best on the held-out pictures is chosen."""
    weight_decay: PositiveFloat = 1e-3
    epochs: PositiveInt = 15
    batch_size: PositiveInt = 16


def decode(
    gallery: Gallery,
    train: Tensor,
    held_out: Tensor,
    outputs: int,
    fit: DecoderFit,
    loss: Callable[[Tensor, Tensor], Tensor],
    judge: Judge,
    bias: Tensor,
    generator: torch.Generator,
) -> Fitted:
    """Train decoders on the points of the pictures; ``loss`` takes what ``judge`` does.

    Args:
        outputs: K.
        bias: (K,) where the last layer's bias starts.
    """
    mean, scale = _of_maps(gallery.maps, train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        start = Decoder(mean, scale, fit.width, outputs)
    last = start.layers[-1]
    nn.init.normal_(last.weight, std=0.01)  # type: ignore[arg-type]
    last.bias.data = bias.clone()
    start = start.to(gallery.at.device)
    members = [copy.deepcopy(start) for _ in fit.lr]
    parts = [
        {"params": list(member.parameters()), "lr": lr} for member, lr in zip(members, fit.lr, strict=True)
    ]
    optimizer = torch.optim.AdamW(parts, weight_decay=fit.weight_decay)
    steps = fit.epochs * math.ceil(len(train) / fit.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, list(fit.lr), total_steps=steps)
    for _ in range(fit.epochs):
        for batch in train[torch.randperm(len(train), generator=generator)].split(fit.batch_size):
            maps, at, truth = _batch(gallery, batch)
            optimizer.zero_grad()
            answers = [sampled(member(maps), at).flatten(0, 1) for member in members]
            # The members share no parameter: the gradient of the sum is that of each one's own loss.
            torch.stack([loss(answer, truth) for answer in answers]).sum().backward()
            optimizer.step()
            schedule.step()
    found = []
    for member, lr in zip(members, fit.lr, strict=True):
        member.eval().requires_grad_(False)
        answers, truths = [], []
        for batch in held_out.split(fit.batch_size):
            maps, at, truth = _batch(gallery, batch)
            answers.append(sampled(member(maps), at).flatten(0, 1))
            truths.append(truth)
        bad = judge(torch.cat(answers), torch.cat(truths))
        words = f"AdamW {fit.epochs} epochs, batch {fit.batch_size}, lr={lr:g} of {len(fit.lr)}"
        found.append(Fitted(member, words, bad))
    return min(found, key=lambda fitted: fitted.bad)


def _batch(gallery: Gallery, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps (B, d, h, w), places (B, P, 2) and truth (B·P, C)."""
    device = gallery.at.device
    return (
        gallery.maps[chosen].to(device).float(),
        gallery.at[chosen],
        gallery.truth[chosen].flatten(0, 1),
    )


def _of_maps(maps: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread (d,) over all cells of the chosen maps, a few at a time."""
    total = square = torch.zeros(maps.shape[1], dtype=torch.float64)
    for part in chosen.split(256):
        some = maps[part].double()
        total, square = total + some.sum((0, 2, 3)), square + some.square().sum((0, 2, 3))
    cells = len(chosen) * maps[0, 0].numel()
    mean = total / cells
    spread = (square / cells - mean.square()).clamp_min(0).sqrt()
    return mean.float(), spread.float().clamp_min(1e-6)
