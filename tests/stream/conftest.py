"""Fixtures of the stream's tests."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tiny_stream import write_set


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 samples in shards of 25, 5 and 30; never to be changed by a test."""
    return write_set(tmp_path_factory.mktemp("shards"), [25, 5, 30])


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    def make(sizes: Sequence[int], **settings: object) -> Path:
        return write_set(tmp_path / f"set{len(list(tmp_path.iterdir()))}", sizes, **settings)

    return make
