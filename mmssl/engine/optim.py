"""Optimisers: LARS, SGD and AdamW, and which parameters are decayed, adapted and scaled."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmssl.engine.config import OptimizerConfig
from mmssl.methods.base import Method
from mmssl.models.layers import layer_scales

TOKENS = frozenset({"cls_token", "mask_token", "reg_token", "dist_token", "pos_embed", "decoder_pos_embed"})
"""Parameters of more than one dimension that are offsets, not weights."""


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman, Ginsburg 2017, algorithm 1).

    For a tensor w with gradient g:  λ = η‖w‖ / (‖g‖ + β‖w‖),  v ← m·v + γ·λ·(g + β·w),  w ← w − v
    with η the trust coefficient, β the weight decay, m the momentum and γ the learning rate. Groups with
    ``adapt`` False (norms, biases) take λ = 1; so do tensors whose weight or gradient is exactly zero, as
    in the authors' code, because a new zero-initialised layer could otherwise never move.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._update(w, w.grad, group)
        return loss

    def _update(self, w: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        update = g.add(w, alpha=decay) if decay else g.clone()
        if group["adapt"]:
            w_norm, g_norm = w.norm(), g.norm()
            rate = group["trust"] * w_norm / (g_norm + decay * w_norm)
            # torch.where instead of an if: reading a number from an accelerator would stall it
            update *= torch.where((w_norm > 0) & (g_norm > 0), rate, torch.ones_like(rate))
        state = self.state[w]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(w)
        v = state["velocity"].mul_(group["momentum"]).add_(update, alpha=group["lr"])
        w.sub_(v)


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW, which is shown every tensor in the order in which its weights lie in memory.

    The fused kernel for CPUs (torch 2.15) first copies each gradient that is not contiguous, such as those of
    convolutions in channels_last, and then reads the original all the same, as it lies in memory.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        has_complex: bool = super()._init_group(group, *lists)
        params, grads, exp_avgs, exp_avg_sqs, _, _ = lists
        orders = [_memory_order(w) for w in params]
        for tensors in (params, grads, exp_avgs, exp_avg_sqs):
            tensors[:] = [x.permute(order) for x, order in zip(tensors, orders, strict=True)]
        grads[:] = [g.contiguous() for g in grads]  # copies only those that lie otherwise than their weights
        return has_complex


def _memory_order(x: Tensor) -> list[int]:
    """Dimensions from the one with the longest stride to the one with the shortest."""
    return sorted(range(x.ndim), key=x.stride, reverse=True)


def build_optimizer(method: Method, config: OptimizerConfig) -> Optimizer:
    """The optimiser over the method's trainable parameters, in groups from ``parameter_groups``."""
    groups = parameter_groups(method, config)
    match config.name:
        case "lars":
            return LARS(groups, lr=config.base_lr, momentum=config.momentum, trust=config.trust)
        case "adamw":
            return AdamW(groups, lr=config.base_lr, betas=config.betas, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=config.base_lr, momentum=config.momentum, fused=True)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Give every group its share of the scheduled rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def parameter_groups(method: Method, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups of equal decay and layer scale, in the order of first appearance: a stable order for resuming.

    Each group has ``params``, ``weight_decay``, ``lr_scale`` (layer_decay to the power of the layers above it
    in its encoder; 1 for heads) and, for LARS, ``adapt``.
    """
    plain = _not_decayed(method)
    scales = _layer_scales(method, config.layer_decay) if config.layer_decay < 1 else {}
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        is_plain, scale = name in plain, scales.get(id(parameter), 1.0)
        decay = 0.0 if is_plain else config.weight_decay
        group = {"params": [], "weight_decay": decay, "lr_scale": scale}
        if config.name == "lars":
            group["adapt"] = not is_plain
        groups.setdefault((is_plain, scale), group)["params"].append(parameter)
    return list(groups.values())


def _not_decayed(method: nn.Module) -> set[str]:
    """Full names of parameters without decay: vectors, tokens, and what a backbone itself lists."""
    names = {
        name
        for name, parameter in method.named_parameters()
        if parameter.ndim <= 1 or name.rsplit(".", 1)[-1] in TOKENS
    }
    for prefix, module in method.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        if callable(listed):
            names |= {f"{prefix}.{name}" if prefix else name for name in listed()}
    return names


def _layer_scales(method: Method, decay: float) -> dict[int, float]:
    """id(parameter) → decay^(number of layers above it in its encoder)."""
    scales: dict[int, float] = {}
    for encoder in method.encoders().values():
        scales.update(layer_scales(encoder, decay))
    return scales
