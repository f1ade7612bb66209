"""What tests of every area may use."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from ranks import run_ranks


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[..., None]:
    """``ranks(function, world, *arguments)``: see ``run_ranks``."""
    return partial(run_ranks, tmp_path)
