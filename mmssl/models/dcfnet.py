"""The two convolutions of DCFNet (Wang et al., 2017) and UDT (Wang et al., CVPR 2019) as a timm backbone.

timm's name is ``dcfnet``: an ``EncoderConfig(name="dcfnet", image_size=125, …)`` is trained, stored, started
from weights and evaluated like any other encoder.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn.functional import conv2d

__all__: list[str] = []

WIDTH = 32
PIXELS = (1 / 255, 1 / 255, 1 / 255)
"""The ``std`` of its encoder: features are learned on pixels in 0..255 less their mean, which is what the
constants of the response normalisation are made for."""


class DCFNet(nn.Module):
    """conv 3×3 → ReLU → conv 3×3 → local response normalisation; maps as large as the image.

    Both convolutions pad with zeros. Cut 2 cells off every side and the rest is what they give without
    padding, which is how the papers train.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.num_features = width
        self.feature_info = [{"num_chs": width, "reduction": 1, "module": "conv2"}]
        self.pretrained_cfg: dict[str, Any] = {}
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = ResponseNorm(width)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, width, H, W)."""
        return self.norm(self.conv2(self.conv1(x).relu()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, width): the mean of the map, for evaluations of whole images."""
        return self.forward_features(x).mean(dim=(2, 3))

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int], intermediates_only: bool = True
    ) -> list[Tensor]:
        return [self.forward_features(x) for _ in indices]


class ResponseNorm(nn.Module):
    """b_c = a_c / (k + α/n Σ a²_j)^β over the n = 5 channels around c (Krizhevsky et al., NeurIPS 2012, 3.3).

    The sum is a banded 1×1 convolution over squares and s^−¾ three roots: several times faster
    than torch's ``LocalResponseNorm``, which pads and pools a five-dimensional view.
    """

    band: Tensor

    def __init__(self, channels: int, n: int = 5, alpha: float = 1e-4, k: float = 1.0) -> None:
        super().__init__()
        self.k = k
        near = (torch.arange(channels)[:, None] - torch.arange(channels)).abs() <= n // 2
        self.register_buffer("band", (near * (alpha / n))[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        s = conv2d(x.square(), self.band.to(x.dtype)) + self.k
        root = s.rsqrt()
        return x * (root * root.sqrt())  # s^−½ · s^−¼: β = ¾


@register_model
def dcfnet(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    num_classes: int = 0,
    width: int = WIDTH,
) -> DCFNet:
    """What ``timm.create_model("dcfnet", width=…)`` calls; all but ``width`` is timm's own convention."""
    if pretrained:
        raise ValueError("dcfnet has no weights of timm's; start from a file or a stage")
    return DCFNet(width)
