"""A handful of clips that every test of the miniworld looks at."""

import pytest

from mmssl.miniworld import Clip, MiniworldConfig, clip

CONFIG = MiniworldConfig(size=96, frames=8, distractors=2)


@pytest.fixture(scope="session")
def clips() -> list[Clip]:
    """Twenty clips of eight frames: the fast parts of every motion are faster here than by default."""
    return [clip("train", index, CONFIG) for index in range(20)]
