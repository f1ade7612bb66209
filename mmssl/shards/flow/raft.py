"""RAFT with weights that lie at hand: nothing is ever fetched."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.optical_flow import raft_large, raft_small

from mmssl.errors import MmsslError
from mmssl.shards.flow.estimators import Estimator, Flow, Pixels

_SMALLEST = 128
"""Pixels a side that the coarsest level of RAFT's correlations needs."""


class Raft(Estimator):
    """Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020.

    torchvision's, on the first GPU if there is one.

    Raises:
        MmsslError: the file is missing, holds anything but tensors, or those of another network.
    """

    def __init__(self, preset: str, weights: str) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = _network(preset, weights, self._device)

    def prepare(self, rgb: Pixels) -> tuple[Tensor, tuple[int, int]]:
        """(1, 3, H', W') float32 in -1..1 with sides that RAFT takes; the frame's height and width."""
        height, width = rgb.shape[:2]
        x = torch.from_numpy(np.ascontiguousarray(rgb)).to(self._device).permute(2, 0, 1)[None]
        right, below = (max(_SMALLEST, side + -side % 8) - side for side in (width, height))
        x = F.pad(x.float() / 127.5 - 1, (0, right, 0, below), mode="replicate")
        return x, (height, width)

    @torch.inference_mode()
    def between(self, before: Any, after: Any) -> Flow:
        (x, (height, width)), (y, _) = before, after
        flow = self._network(x, y)[-1][0, :, :height, :width]
        return np.ascontiguousarray(flow.permute(1, 2, 0).cpu().numpy(), np.float32)


@lru_cache(maxsize=1)
def _network(preset: str, weights: str, device: torch.device) -> Any:
    """Kept: to load it takes longer than to build many a clip."""
    path = Path(weights).expanduser()
    if not path.is_file():
        raise MmsslError(
            f"{weights}: no such file; expected the state dict of torchvision's raft_{preset} "
            "(flow.weights); other estimators need none: dis, farneback"
        )
    network = (raft_large if preset == "large" else raft_small)(weights=None)
    try:
        network.load_state_dict(_tensors(path))
    except Exception as error:  # pickle, zip and safetensors raise errors of their own
        reason = str(error).splitlines()[0]
        raise MmsslError(f"{weights}: no state dict of torchvision's raft_{preset} ({reason})") from error
    return network.eval().to(device)


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded
