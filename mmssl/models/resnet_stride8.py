"""The ResNet-18 of the contrastive random walk (Jabri, Owens and Efros, NeurIPS 2020) as a timm backbone.

timm's name is ``resnet18_stride8``: an ``EncoderConfig(name="resnet18_stride8", …)`` is trained, stored,
started from weights (torchvision's and timm's fit) and evaluated like any other encoder.
"""

from typing import Any, Literal

import timm
from timm.models import register_model
from torch import nn

from mmssl.errors import MmsslError

__all__: list[str] = []

Padding = Literal["reflect", "zeros"]


@register_model
def resnet18_stride8(padding: Padding = "reflect", **kwargs: Any) -> nn.Module:
    """ResNet-18 whose last two stages keep the stride 8 of the second, without dilation.

    Args:
        padding: of all convolutions. Zeros tell cells how far away the border is; reflections do not. They
            need maps of at least 2×2 cells, or 4×4 at the 7×7 stem.
        kwargs: timm's own for ``resnet18``.
    """
    if padding not in ("reflect", "zeros"):
        raise MmsslError(f"padding: expected reflect or zeros, found {padding!r}")
    net = timm.create_model("resnet18", **{**kwargs, "output_stride": 8})
    # timm makes up for lost strides by dilation; the paper leaves the filters as they are
    convolutions = [(name, conv) for name, conv in net.named_modules() if isinstance(conv, nn.Conv2d)]
    for name, conv in convolutions:
        width, k, stride = conv.out_channels, conv.kernel_size[0], conv.stride[0]
        plain = nn.Conv2d(
            conv.in_channels, width, k, stride, padding=k // 2, padding_mode=padding, bias=False
        )
        plain.weight = conv.weight
        net.set_submodule(name, plain)
    return net
