"""Fixtures of the tiny methods."""

from collections.abc import Callable

import pytest
import torch
from tiny_methods import tiny, views_of

from mmssl.methods import Method
from mmssl.stream.batch import Batch


@pytest.fixture
def noise_images() -> torch.Tensor:
    return torch.randint(
        0, 256, (8, 3, 36, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def make() -> Callable[..., Method]:
    return tiny


@pytest.fixture
def view() -> Callable[..., Batch]:
    return views_of
