"""DPC and CPC on images learn within seconds what goes on across a sequence: the stripes of its wallpaper."""

from typing import Any

import pytest
import torch
from tiny_predictive import FRAMES, IMAGE, tiny
from torch import Tensor

from mmssl.methods import Method
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")


def stripes(n: int, frames: int, size: int, seed: int) -> Tensor:
    """(n, frames, 3, size, size): stripes of each sample's own angle, width, colours and drift, noisy."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(n, *shape, 1, 1, generator=generator)

    angle, pitch, drift = 3.14 * draw(1, 1), 0.4 + draw(1, 1), 2 * draw(1, 1) - 1
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    time = torch.arange(frames)[:, None, None, None]
    wave = (pitch * (x * angle.cos() + y * angle.sin()) + drift * time).sin()
    colours = 2 * draw(1, 3) - 1
    return colours * wave + 0.3 * torch.randn(n, frames, 3, size, size, generator=generator)


def batch_of(method: Method, n: int, seed: int) -> Batch:
    ids = torch.arange(n)
    if "clip" in method.views:
        times = 0.5 * torch.arange(FRAMES, dtype=torch.float64).repeat(n, 1)
        return Batch(clip={"frames": stripes(n, FRAMES, 32, seed), "times": times}, id=ids)
    offsets = torch.randint(0, 2, (n, 25, 2), generator=torch.Generator().manual_seed(seed))
    return Batch(image={"pixels": stripes(n, 1, 48, seed)[:, 0], "offsets": offsets}, id=ids)


# groups of one or two numbers, which a patch of 16 px leaves at last, would keep nothing but their signs
ONE_GROUP = {"layers": [1, 1, 1, 1], "channels": [16, 32, 32, 64], "norm_layer": "groupnorm1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "first"),
    [
        ("dpc", {}, 1),
        (
            "cpc_image",
            {"encoder": IMAGE | {"stem": "small_stride2", "image_size": 48, "kwargs": ONE_GROUP}},
            2,
        ),
    ],
)
def test_stripes_are_found_again(name: str, settings: dict[str, Any], first: int) -> None:
    method = tiny(name, candidates=33, **settings)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)

    def accuracy() -> float:
        answers = method.eval().pretext(batch_of(method, 32, seed=10_000))
        method.train()
        return 100 * float(answers[f"accuracy_other_sequences_{first}"].values.mean())

    untrained = accuracy()
    for step in range(110):
        loss = method(batch_of(method, 16, seed=step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = accuracy()
    assert trained >= max(untrained + 8, 4 * 100 / 33), (
        f"{untrained:.1f} % untrained, {trained:.1f} % trained"
    )
