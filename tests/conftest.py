"""What tests of every area may use."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from ranks import run_ranks

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
settings.load_profile("untimed")


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[..., None]:
    """``ranks(function, world, *arguments)``: see ``run_ranks``."""
    return partial(run_ranks, tmp_path)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of sums, and so the course of a short training, depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
