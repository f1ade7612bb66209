"""DCFNet's response normalisation against torch's own, and its place among encoders."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmssl.models import dcfnet
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.models.dcfnet import PIXELS, ResponseNorm
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.models.feature_map import FeatureMap


@pytest.mark.parametrize("channels", [3, 32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("cacheful", [64, 1 << 17])  # many pieces, the last of them smaller; and one
def test_it_is_local_response_normalisation(
    channels: int, layout: torch.memory_format, cacheful: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dcfnet, "CACHEFUL", cacheful)
    generator = torch.Generator().manual_seed(0)
    x = (200 * torch.randn(2, channels, 9, 7, generator=generator)).contiguous(memory_format=layout)
    g = torch.randn(2, channels, 9, 7, generator=generator)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, stock = ResponseNorm(channels)(a), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)(b)
    assert (ours / x).min() < 0.9  # it does normalise here
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-4)
    ours.backward(g)
    stock.backward(g)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def test_its_gradient_in_double_precision() -> None:
    x = 100 * torch.randn(2, 6, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(ResponseNorm(6).double(), (x.requires_grad_(),))


def test_half_precision_costs_its_own_rounding_only() -> None:
    x = (200 * torch.randn(1, 32, 5, 5)).bfloat16()
    y = ResponseNorm(32)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), ResponseNorm(32)(x.float()), rtol=2**-7, atol=0)


def test_without_its_outer_cells_the_map_is_that_of_unpadded_convolutions() -> None:
    encoder = build_encoder(EncoderConfig(name="dcfnet", image_size=25, std=PIXELS))
    net = encoder.backbone
    x = 100 * torch.randn(2, 3, 25, 23)
    inner = nn.functional.conv2d(x, net.conv1.weight, net.conv1.bias).relu()
    inner = net.norm(nn.functional.conv2d(inner, net.conv2.weight, net.conv2.bias))
    torch.testing.assert_close(FeatureMap(encoder)(x)[..., 2:-2, 2:-2], inner, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(FeatureMap(encoder, 0)(x), encoder.feature_map(x))


def test_it_is_saved_and_loaded_like_any_encoder(tmp_path: Path) -> None:
    encoder = build_encoder(EncoderConfig(name="dcfnet", image_size=25, std=PIXELS))
    save_encoder(encoder, tmp_path, {})
    loaded = load_encoder(tmp_path)
    assert loaded.std == PIXELS  # what pixels are divided by is the same in training and online
    assert loaded.mean == encoder.mean
    x = torch.randn(1, 3, 25, 25)
    assert torch.equal(loaded(x), encoder(x))
    assert set(loaded.backbone.state_dict()) == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
