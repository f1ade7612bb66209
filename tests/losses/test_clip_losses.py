"""The losses between images and captions against loops over pairs in float64, on one rank and on two."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from mmssl.losses.clip import Alignment, clip_loss, siglip_loss

B, D = 6, 5
KEYS = torch.tensor([[7, 0], [7, 1], [3, 2], [4, 3], [7, 4], [5, 2]])
"""Samples 0, 1 and 4 share a caption; 2 and 5 are the same sample with two captions."""
ALIKE = {(0, 1), (1, 0), (0, 4), (4, 0), (1, 4), (4, 1), (2, 5), (5, 2)}


def vectors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, B, D, generator=generator, dtype=torch.float64)
    return normalize(image, dim=1), normalize(text, dim=1)


def by_hand_clip(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Two cross-entropies, pair by pair."""
    total = torch.zeros((), dtype=torch.float64)
    for one, other in ((image, text), (text, image)):
        for i in range(B):
            own = scale * one[i].dot(other[i])
            among = [scale * one[i].dot(other[j]) for j in range(B) if (i, j) not in ALIKE]
            total = total + torch.logsumexp(torch.stack(among), 0) - own
    return total / (2 * B)


def by_hand_siglip(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(B):
        for j in range(B):
            if (i, j) not in ALIKE:
                z = 1.0 if i == j else -1.0
                total = total + torch.log1p(torch.exp(-z * (scale * image[i].dot(text[j]) + bias)))
    return total / B


def ours(name: str, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, keys: Tensor) -> Alignment:
    if name == "clip":
        return clip_loss(image, text, scale, keys)
    return siglip_loss(image, text, scale, bias, keys)


def theirs(name: str, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return by_hand_clip(image, text, scale) if name == "clip" else by_hand_siglip(image, text, scale, bias)


def leaves() -> list[Tensor]:
    image, text = vectors()
    numbers = [torch.tensor(value, dtype=torch.float64) for value in (9.0, -3.0)]
    return [x.clone().requires_grad_() for x in (image, text, *numbers)]


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_loss_and_gradients_are_those_of_a_loop_over_pairs(name: str) -> None:
    a, b = leaves(), leaves()
    alignment = ours(name, *a, KEYS)
    expected = theirs(name, *b)
    torch.testing.assert_close(alignment.loss, expected, rtol=1e-12, atol=0)
    alignment.loss.backward()
    expected.backward()
    for x, y in zip(a, b, strict=True):
        if y.grad is None:  # CLIP has no bias
            assert x.grad is None
        else:
            torch.testing.assert_close(x.grad, y.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_parts_count_what_is_nearest_and_what_is_alike(name: str) -> None:
    image, text, scale, bias = (x.detach() for x in leaves())
    parts = ours(name, image, text, scale, bias, KEYS).parts()
    for part, (one, other) in {"image_to_text": (image, text), "text_to_image": (text, image)}.items():
        right = 0
        for i in range(B):
            among = [j for j in range(B) if (i, j) not in ALIKE]
            right += max(among, key=lambda j, i=i: float(one[i].dot(other[j]))) == i
        assert parts[part].item() == pytest.approx(right / B)
    assert parts["duplicates"].item() == pytest.approx(len(ALIKE) / B)


def test_one_caption_for_all_leaves_nothing_to_tell() -> None:
    """A batch whose captions are all the same has no negative: the softmax loss and its gradient are zero."""
    image, text, scale, bias = leaves()
    same = torch.zeros(B, 1, dtype=torch.int64)
    alignment = clip_loss(image, text, scale, same)
    alignment.loss.backward()
    assert alignment.loss.item() == 0
    assert image.grad is not None
    assert not image.grad.any()
    assert alignment.duplicates.item() == B - 1
    pairs = siglip_loss(image, text, scale, bias, same).loss.detach()
    own = torch.nn.functional.softplus(-(scale * (image * text).sum(1) + bias)).mean().detach()
    torch.testing.assert_close(pairs, own)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_logits_are_float32_under_autocast(name: str) -> None:
    """bfloat16 keeps 8 bits: at s = 100 logits would be off by tenths, and the loss with them."""
    image, text = (x.float() for x in vectors())
    scale, bias = torch.tensor(100.0), torch.tensor(-3.0)
    keys = torch.arange(B)[:, None]
    plain = ours(name, image, text, scale, bias, keys).loss
    with torch.autocast("cpu", torch.bfloat16):
        cast = ours(name, image, text, scale, bias, keys).loss
        rounded = ours(name, image.bfloat16(), text.bfloat16(), scale, bias, keys).loss
    assert cast.dtype == rounded.dtype == torch.float32
    assert torch.equal(cast, plain)
    exact = ours(name, image.bfloat16().float(), text.bfloat16().float(), scale, bias, keys).loss
    assert torch.equal(rounded, exact)


class Towers(torch.nn.Module):
    """A linear tower for each side, and the two numbers of the loss."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        generator = torch.Generator().manual_seed(1)
        weights = torch.randn(2, D, D, generator=generator, dtype=torch.float64)
        self.image, self.text = (torch.nn.Parameter(w) for w in weights)
        self.scale = torch.nn.Parameter(torch.tensor(math.log(9.0), dtype=torch.float64))
        self.bias = torch.nn.Parameter(torch.tensor(-3.0, dtype=torch.float64))

    def forward(self, image: Tensor, text: Tensor, keys: Tensor) -> Tensor:
        z = normalize(image @ self.image, dim=1), normalize(text @ self.text, dim=1)
        bias = self.bias if self.name == "siglip" else self.bias.detach()
        return ours(self.name, *z, self.scale.exp(), bias, keys).loss


def _half(rank: int, world: int, name: str, expected: dict[str, Any]) -> None:
    towers = Towers(name)
    towers.bias.requires_grad_(name == "siglip")
    model = DistributedDataParallel(towers)
    image, text = vectors()
    mine = slice(rank * B // world, (rank + 1) * B // world)
    loss = model(image[mine], text[mine], KEYS[mine])
    loss.backward()
    for key, parameter in towers.named_parameters():
        if expected[key] is not None:
            torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-10, atol=1e-12)
    total = loss.detach().clone()
    torch.distributed.all_reduce(total)
    torch.testing.assert_close(total / world, expected["loss"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_two_ranks_have_the_gradients_of_one(name: str, ranks: Callable[..., None]) -> None:
    """Of both towers and of the numbers of the loss, duplicates across ranks among them."""
    towers = Towers(name)
    loss = towers(*vectors(), KEYS)
    loss.backward()
    expected = {key: parameter.grad for key, parameter in towers.named_parameters()}
    assert (expected["bias"] is not None) == (name == "siglip")
    ranks(_half, 2, name, {**expected, "loss": loss.detach()})
