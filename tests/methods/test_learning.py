"""Each objective, on tiny synthetic textures, makes an encoder better than the one it started from."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from mmssl.methods import Method
from mmssl.stream.batch import Batch

CLASSES = 8
GENTLE = {"scale": [0.5, 1.0], "hue": 0.0, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "grey": 0.0}
"""The classes differ in orientation: crops must not stretch it away."""


def textures(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Gratings (n, 3, 32, 32) uint8 of eight orientations; phase, colour, contrast and noise are random."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % CLASSES
    angle = label * torch.pi / CLASSES
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    phase = 2 * torch.pi * torch.rand(n, 1, 1, generator=generator)
    wave = torch.sin(0.9 * (angle.cos()[:, None, None] * x + angle.sin()[:, None, None] * y) + phase)
    contrast = 40 * torch.randn(n, 3, 1, 1, generator=generator)
    base = 60 + 130 * torch.rand(n, 3, 1, 1, generator=generator)
    noise = 40 * torch.randn(n, 3, 32, 32, generator=generator)
    images = base + contrast * wave[:, None] + noise
    return images.clamp(0, 255).to(torch.uint8), label


def features(method: Method, images: Tensor) -> Any:
    encoder = method.encoders()["image"].eval()
    mean, std = torch.tensor(encoder.mean).view(3, 1, 1), torch.tensor(encoder.std).view(3, 1, 1)
    with torch.no_grad():
        return encoder((images / 255 - mean) / std).numpy()


def accuracy(method: Method, classifier: Any) -> float:
    """Percent right on 400 test images after fitting ``classifier`` on 400 others."""
    (train, labels), (test, truth) = textures(400, 1), textures(400, 2)
    classifier.fit(features(method, train), labels)
    return 100 * float(classifier.score(features(method, test), truth))


@pytest.mark.parametrize(
    ("name", "settings", "margin"),
    [
        ("simclr", {"augmentation": GENTLE, "temperature": 0.2}, 15),
        ("moco_v2", {"augmentation": GENTLE, "queue": 512, "momentum": 0.95}, 15),
        ("mae", {}, 10),
    ],
)
def test_training_beats_the_untrained_encoder(
    name: str,
    settings: dict[str, Any],
    margin: float,
    make: Callable[..., Method],
    view: Callable[..., Batch],
) -> None:
    method = make(name, **settings)
    linear = name == "mae"
    classifier = LogisticRegression(max_iter=300) if linear else KNeighborsClassifier(20, metric="cosine")
    untrained = accuracy(method, classifier)
    images, _ = textures(512, 0)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=2e-3)
    steps = 120
    method.train()
    for step in range(steps):
        rows = torch.arange(step * 64, step * 64 + 64) % len(images)
        loss = method(view(method, images[rows], pass_=step))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        method.after_step(step / steps)
    trained = accuracy(method, classifier)
    assert trained >= untrained + margin, f"{name}: {untrained:.1f} % untrained, {trained:.1f} % trained"
