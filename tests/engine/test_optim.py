"""Optimisers against closed forms, and which parameters get what."""

import math

import numpy as np
import pytest
import torch
from engine_tiny import ENCODER, Tiny, TinyConfig
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmssl.engine.config import OptimizerConfig, TrainConfig
from mmssl.engine.optim import LARS, AdamW, build_optimizer, parameter_groups, set_lr
from mmssl.engine.schedule import schedule_of
from mmssl.methods.base import DataInfo
from mmssl.models.spectrum import rankme, spread


def test_lars_takes_the_steps_of_the_paper() -> None:
    """Two steps of algorithm 1 in float64 numpy, for an adapted matrix, a plain vector and a zero matrix."""
    generator = np.random.default_rng(0)
    start = {"w": generator.normal(size=(3, 4)), "b": generator.normal(size=5), "zero": np.zeros((2, 2))}
    gradients = [
        {name: generator.normal(size=value.shape) for name, value in start.items()} for _ in range(2)
    ]
    gamma, m, beta, eta = 0.7, 0.9, 0.05, 0.02

    ours = {name: nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    groups = [
        {"params": [ours["w"], ours["zero"]], "weight_decay": beta, "adapt": True},
        {"params": [ours["b"]], "weight_decay": 0.0, "adapt": False},
    ]
    optimizer = LARS(groups, lr=gamma, momentum=m, trust=eta)
    expected = dict(start)
    velocity = {name: np.zeros_like(value) for name, value in start.items()}
    for step in gradients:
        for name, g in step.items():
            ours[name].grad = torch.tensor(g)
            w = expected[name]
            decay, rate = (0.0, 1.0) if name == "b" else (beta, 1.0)
            if name != "b" and np.linalg.norm(w) > 0:
                rate = eta * np.linalg.norm(w) / (np.linalg.norm(g) + beta * np.linalg.norm(w))
            velocity[name] = m * velocity[name] + gamma * rate * (g + decay * w)
            expected[name] = w - velocity[name]
        optimizer.step()
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name].detach().numpy(), value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_adamw_takes_the_steps_of_the_plain_one_whatever_the_order_in_memory(
    layout: torch.memory_format,
) -> None:
    """Also where a gradient lies in another order than its weights, and after a restart."""
    torch.manual_seed(0)
    start = [torch.randn(8, 6, 3, 3), torch.randn(4, 6, 1, 1), torch.randn(5, 3), torch.tensor(1.0)]
    slopes = [[torch.randn_like(x) for x in start] for _ in range(4)]

    def weights() -> list[nn.Parameter]:
        laid = [x.to(memory_format=layout) if x.ndim == 4 else x for x in start]
        return [nn.Parameter(x.clone()) for x in laid]

    ours, plain = weights(), weights()
    settings = {"lr": 0.1, "weight_decay": 0.3}
    optimizer = AdamW(ours, **settings, fused=True)
    reference = torch.optim.AdamW(plain, **settings, foreach=False)
    for number, slope in enumerate(slopes):
        for one, other, g in zip(ours, plain, slope, strict=True):
            other.grad = g.clone()
            one.grad = g.to(memory_format=torch.channels_last) if g.ndim == 4 and number % 2 else g.clone()
        if number == 2:
            state = optimizer.state_dict()
            optimizer = AdamW(ours, **settings, fused=True)
            optimizer.load_state_dict(state)
        optimizer.step()
        reference.step()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert one.stride() == other.stride()


class Shown(TorchDispatchMode):
    """Remembers what the fused kernel is called with, and all that is called beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[torch.Tensor] = []
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__)
        if func.__name__.startswith("_fused_adamw_"):
            self.tensors += [x for tensors in args[:4] for x in tensors]
        return func(*args, **(kwargs or {}))


def test_adamw_copies_no_gradient() -> None:
    """Its kernel would copy what it takes for not contiguous."""
    net = nn.Conv2d(6, 8, 3).to(memory_format=torch.channels_last)
    net(torch.randn(2, 6, 5, 5)).sum().backward()
    assert not net.weight.grad.is_contiguous()
    optimizer = AdamW(net.parameters(), lr=0.1, fused=True)
    with Shown() as shown:
        optimizer.step()
    assert len(shown.tensors) == 8
    assert all(x.is_contiguous() for x in shown.tensors)
    assert not shown.names & {"clone.default", "copy_.default", "_to_copy.default"}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_vectors_and_tokens_are_not_decayed(name: str) -> None:
    method = Tiny(TinyConfig(), DataInfo(20))
    config = OptimizerConfig(name=name, weight_decay=0.1)  # type: ignore[arg-type]
    optimizer = build_optimizer(method, config)
    names = {id(parameter): full for full, parameter in method.named_parameters()}
    decayed, plain = set(), set()
    for group in optimizer.param_groups:
        (decayed if group["weight_decay"] else plain).update(names[id(p)] for p in group["params"])
        assert group.get("adapt", bool(group["weight_decay"])) == bool(group["weight_decay"])
    trained = {full for full, parameter in method.named_parameters() if parameter.requires_grad}
    assert decayed | plain == trained
    assert not any(full.startswith("slow.") for full in trained)
    assert decayed == {
        full for full in trained if full.endswith("weight") and "norm" not in full and full != "head.1.weight"
    }
    assert {"encoder.backbone.cls_token", "encoder.backbone.pos_embed", "head.0.bias"} <= plain


def test_layer_decay_counts_the_layers_above() -> None:
    """A ViT of 2 blocks: embeddings, block 0, then block 1 with the final norm; heads keep the full rate."""
    method = Tiny(TinyConfig(), DataInfo(20))
    config = OptimizerConfig(name="adamw", layer_decay=0.5)
    optimizer = build_optimizer(method, config)
    set_lr(optimizer, 8.0)
    names = {id(parameter): full for full, parameter in method.named_parameters()}
    rate = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate["encoder.backbone.norm.weight"] == 8.0
    assert rate["encoder.backbone.blocks.1.attn.qkv.weight"] == 8.0
    assert rate["encoder.backbone.blocks.0.attn.qkv.weight"] == 4.0
    assert rate["encoder.backbone.patch_embed.proj.weight"] == 2.0
    assert rate["encoder.backbone.cls_token"] == rate["encoder.backbone.pos_embed"] == 2.0
    assert rate["head.0.weight"] == 8.0


def test_resnets_have_layers_too() -> None:
    encoder = ENCODER.model_copy(update={"name": "resnet10t", "kwargs": {}})

    class Net(Tiny):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            from mmssl.models.encoder import build_encoder

            self.encoder = build_encoder(encoder)

    method = Net()
    groups = parameter_groups(method, OptimizerConfig(layer_decay=0.5))
    names = {id(parameter): full for full, parameter in method.named_parameters()}
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    assert (
        scale["encoder.backbone.layer4.0.conv1.weight"] == 2 * scale["encoder.backbone.layer3.0.conv1.weight"]
    )
    assert scale["encoder.backbone.conv1.0.weight"] == min(scale.values())


@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 40),
    batch=st.sampled_from([64, 256, 1024]),
    final=st.sampled_from([0.0, 0.001]),
)
def test_schedule(steps: int, warmup: int, batch: int, final: float) -> None:
    """Peak right after the warm-up, a straight line before, half a cosine after, for any lengths."""
    config = TrainConfig(
        steps=steps,
        warmup=warmup / 10,
        batch_size=batch,
        final_lr=final,
        optimizer=OptimizerConfig(base_lr=0.5),
    )
    schedule = schedule_of(config, samples_per_pass=10 * batch)
    peak, end = 0.5 * batch / 256, final * batch / 256
    assert schedule.warmup == min(steps, warmup)
    rates = [schedule.lr(step) for step in range(steps)]
    assert max(rates) <= peak * (1 + 1e-12)
    for step, rate in enumerate(rates):
        if step < schedule.warmup:
            assert rate == pytest.approx(peak * (step + 1) / schedule.warmup)
        else:
            angle = math.pi * (step - schedule.warmup) / (steps - schedule.warmup)
            assert rate == pytest.approx(end + (peak - end) * math.cos(angle / 2) ** 2, abs=1e-12)


def test_passes_become_steps() -> None:
    assert schedule_of(TrainConfig(passes=3, batch_size=10), 105).steps == 32
    assert schedule_of(TrainConfig(passes=0.01, batch_size=10), 105).steps == 1


@pytest.mark.parametrize("lengths", [{}, {"passes": 1, "steps": 10}])
def test_a_run_has_one_length(lengths: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exactly one of passes and steps"):
        TrainConfig(**lengths)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(50, 12), (12, 50)])
def test_rankme_is_the_entropy_of_singular_values(shape: tuple[int, int]) -> None:
    z = np.random.default_rng(0).normal(size=shape) * np.linspace(0.01, 1, shape[1])
    sigma = np.linalg.svd(z, compute_uv=False)
    p = sigma / sigma.sum()
    expected = np.exp(-(p * np.log(p)).sum())
    assert rankme(torch.tensor(z)) == pytest.approx(expected, rel=1e-6)


def test_collapse_shows() -> None:
    z = torch.randn(512, 32, generator=torch.Generator().manual_seed(0))
    line = z[:, :1] * torch.ones(1, 32)
    assert spread(z) == pytest.approx(1, abs=0.02)
    assert spread(line.abs()) == pytest.approx(0, abs=1e-6)
    assert rankme(line) == pytest.approx(1, abs=1e-3)
    assert rankme(z) > 28
