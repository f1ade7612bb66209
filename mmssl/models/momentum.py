"""Momentum encoders: a slow copy that follows the trained network as an exponential moving average."""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def momentum_copy(module: ModuleT) -> ModuleT:
    """A deep copy that takes no gradient.

    Buffers: the copy keeps BatchNorm statistics of its own, from the batches it sees itself in training
    mode (as in MoCo); only parameters follow the source.
    """
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, m: float) -> None:
    """θ_k ← m·θ_k + (1 − m)·θ_q for all parameters, in one fused operation (MoCo, equation 2)."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1.0 - m)


def momentum_at(progress: float, start: float, schedule: str) -> float:
    """The momentum at ``progress`` (0..1): constant, or from ``start`` to 1 along half a cosine (MoCo v3)."""
    if schedule == "constant":
        return start
    return 1.0 - (1.0 - start) * (math.cos(math.pi * progress) + 1.0) / 2.0
