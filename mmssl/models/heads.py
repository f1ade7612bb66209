"""Small networks on top of an encoder: the projection and prediction heads of the contrastive papers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn


def mlp(
    widths: Sequence[int],
    *,
    hidden_norm: bool = True,
    last_norm: Literal["none", "affine", "plain"] = "none",
    last_bias: bool = True,
) -> nn.Sequential:
    """Linear layers with ReLU between them: (B, widths[0]) to (B, widths[-1]).

    With ``hidden_norm`` a BatchNorm stands before every ReLU and takes over the bias. ``last_norm`` puts
    a BatchNorm behind the last layer, with (``affine``) or without (``plain``) its own scale and shift.

    SimCLR g(·) (section 4.2 and its code): ``mlp((dim, 2048, 128), last_norm="affine")``;
    MoCo v2 (section 3): ``mlp((dim, dim, 128), hidden_norm=False)``;
    MoCo v3 (section 4.3): ``mlp((dim, 4096, 256), last_norm="plain")`` for projection and prediction.
    """
    layers: list[nn.Module] = []
    for into, out in pairwise(widths[:-1]):
        layers.append(nn.Linear(into, out, bias=not hidden_norm))
        if hidden_norm:
            layers.append(nn.BatchNorm1d(out))
        layers.append(nn.ReLU(inplace=True))
    layers.append(nn.Linear(widths[-2], widths[-1], bias=last_bias and last_norm == "none"))
    if last_norm != "none":
        layers.append(nn.BatchNorm1d(widths[-1], affine=last_norm == "affine"))
    return nn.Sequential(*layers)


def step_predictors(context: int, dim: int, steps: int) -> nn.ModuleList:
    """CPC's W_1 … W_K: for every number of steps ahead a linear map of its own, without bias."""
    return nn.ModuleList(nn.Linear(context, dim, bias=False) for _ in range(steps))
