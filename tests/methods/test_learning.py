"""SimCLR and MAE make an encoder better than the one it started from, and MAE can learn images by heart."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from tiny_methods import tiny
from torch import Tensor
from torch.nn.functional import interpolate

from mmssl.methods import Method
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 8
GENTLE = {
    "scale": [0.8, 1.0],
    "flip": 0.0,
    "brightness": 0.6,
    "contrast": 0.4,
    "saturation": 0.0,
    "hue": 0.0,
    "grey": 0.0,
}
"""The classes differ in layout and not in colour; light from another side is what must not matter."""


def layouts(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Grey images (n, 3, 32, 32) uint8 of eight smooth layouts, each lit and graded in its own way, noisy."""
    pattern = torch.randn(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    pattern = interpolate(pattern, size=32, mode="bicubic")
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % CLASSES
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    slope = 20 * torch.randn(n, 2, 1, 1, 1, generator=generator)
    light = 78 + 100 * torch.rand(n, 1, 1, 1, generator=generator) + slope[:, 0] * x + slope[:, 1] * y
    noise = 5 * torch.randn(n, 3, 32, 32, generator=generator)
    return (light + 25 * pattern[label] + noise).clamp(0, 255).to(torch.uint8), label


def accuracy(method: Method) -> float:
    """Percent of 400 unseen images whose class 10 nearest neighbours among 400 others tell."""
    encoder = method.encoders()["image"].eval()
    mean, std = torch.tensor(encoder.mean).view(3, 1, 1), torch.tensor(encoder.std).view(3, 1, 1)
    (images, labels), (others, truth) = layouts(400, 1), layouts(400, 2)
    with torch.no_grad():
        x, y = (encoder((part / 255 - mean) / std).numpy() for part in (images, others))
    neighbours = KNeighborsClassifier(10, metric="cosine").fit(x, labels)
    return 100 * float(neighbours.score(y, truth))


def learn(method: Method, steps: int, lr: float, batches: Callable[[int], Batch]) -> float:
    """Train as plainly as can be; returns the mean loss of the last ten steps."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=lr)
    method.train()
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20)
        loss = method(batches(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / steps)
        losses.append(float(loss.detach()))
    return sum(losses[-10:]) / 10


@pytest.mark.parametrize(
    ("name", "settings", "steps", "lr", "margin"),
    [
        ("simclr", {"augmentation": GENTLE, "temperature": 0.2}, 80, 5e-3, 10),
        ("mae", {"decoder_depth": 2, "crop_scale": [1.0, 1.0]}, 350, 3e-3, 20),
    ],
)
def test_training_beats_the_untrained_encoder(
    name: str, settings: dict[str, Any], steps: int, lr: float, margin: float, view: Callable[..., Batch]
) -> None:
    method = tiny(name, **settings)
    untrained = accuracy(method)
    images, _ = layouts(512, 0)

    def batch(step: int) -> Batch:
        rows = torch.arange(step * 64, step * 64 + 64) % len(images)
        return view(method, images[rows], pass_=step)

    learn(method, steps, lr, batch)
    trained = accuracy(method)
    assert trained >= untrained + margin, f"{untrained:.1f} % untrained, {trained:.1f} % trained"


def test_mae_paints_images_it_knows_where_patches_are_hidden(view: Callable[..., Batch]) -> None:
    method = tiny("mae", decoder_depth=2, decoder_width=64, decoder_heads=4, crop_scale=[1.0, 1.0])
    images, _ = layouts(4, 3)

    # a new mask in every step, so that what is painted comes from the image and from the place
    def batch(step: int) -> Batch:
        return view(method, images.repeat(8, 1, 1, 1), pass_=step)

    loss = learn(method, 500, 3e-3, batch)
    assert loss < 0.2  # of a variance of 1; a patch's mean, painted everywhere, would leave all of it
