"""Shared: real photographs."""

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor


@pytest.fixture(scope="session")
def photographs() -> list[Tensor]:
    """Four photographs of different sizes, (3, H, W) uint8 over HWC memory, as decoders give them."""
    arrays = [data.astronaut()[:300, :260], data.coffee()[:257, 40:340], data.chelsea(), data.rocket()[:200]]
    return [torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1) for array in arrays]
