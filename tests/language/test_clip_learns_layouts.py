"""CLIP and SigLIP on images of a few layouts that captions name: unseen images find their words."""

import pytest
import torch
from captioned_stills import CONTEXT, NET, SIZE, made
from torch import Tensor
from torch.nn.functional import interpolate

from mmssl.methods.language.towers import ImageText
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("circle", "square", "star", "river", "tower", "cloud", "bridge", "window")
SAYINGS = ("a {}", "the {} again", "we see a {}")
STEPS, BATCH = 60, 32


def pairs(method: ImageText, count: int, seed: int) -> Batch:
    """Noisy images of eight smooth layouts, each with one of three sayings about its layout."""
    patterns = torch.randn(len(NAMES), 3, 4, 4, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    which = torch.arange(count) % len(NAMES)
    saying = torch.randint(len(SAYINGS), (count,), generator=generator)
    image = interpolate(patterns[which], size=SIZE, mode="bicubic")
    image = image + torch.randn(image.shape, generator=generator)
    words = [SAYINGS[s].format(NAMES[w]) for s, w in zip(saying.tolist(), which.tolist(), strict=True)]
    numbers: Tensor = which * len(SAYINGS) + saying
    text = {"tokens": method.text.tokenizer(words, CONTEXT), "same": numbers}
    text |= {"cut": torch.zeros(count, dtype=torch.bool), "unknown": torch.zeros(count)}
    return Batch(id=torch.arange(count) + seed * 10_000, image=image, text=text)


def layouts_found(method: ImageText) -> tuple[float, float]:
    """Share of unseen images whose nearest saying names their layout, and of sayings; chance is 1/8."""
    batch = pairs(method, 64, seed=0)
    method.eval()
    with torch.no_grad():
        z = method.embed(batch)
    method.train()
    similarity, which = z["image"] @ z["text"].T, batch.text["same"] // len(SAYINGS)
    found = similarity.argmax(dim=1), similarity.argmax(dim=0)
    return tuple(float((which[nearest] == which).float().mean()) for nearest in found)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_unseen_images_find_words_for_what_they_show(name: str) -> None:
    net = {**NET, "kwargs": {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}}
    method = made(name, image=net)
    untrained = layouts_found(method)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        method(pairs(method, BATCH, seed=step + 1)).total.backward()
        optimizer.step()
        method.after_step(step / STEPS)
    trained = layouts_found(method)
    for before, after in zip(untrained, trained, strict=True):
        assert before < 0.4
        assert after > 0.7, (untrained, trained)
