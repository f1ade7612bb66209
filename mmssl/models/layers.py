"""Which layer of an encoder a parameter belongs to: fine-tuning moves early layers less."""

from collections.abc import Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn

from mmssl.models.clip.video_net import VideoNet
from mmssl.models.clip.video_vit import VideoViT


def layer_scales(encoder: nn.Module, decay: float) -> dict[int, float]:
    """id(parameter) → decay^(number of layers above it); parameters behind the backbone are not listed.

    Layer-wise decay as in Clark et al., "ELECTRA" (ICLR 2020, appendix A) and BEiT. timm divides its own
    backbones into layers; of VideoViT every block is one, and of VideoNet every stage.
    """
    for module in encoder.modules():
        if isinstance(module, VideoViT):
            return _counted([module.embed, *module.blocks, module.norm], decay)
        if isinstance(module, VideoNet):
            return _counted(list(module.net.children()), decay)
        if hasattr(module, "group_matcher"):
            backbone: Any = module
            layers = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
            top = max(layers.values())
            return {id(p): decay ** (top - layers.get(name, top)) for name, p in backbone.named_parameters()}
    return {}


def _counted(layers: Sequence[nn.Module], decay: float) -> dict[int, float]:
    layers = [layer for layer in layers if any(True for _ in layer.parameters())]
    return {
        id(parameter): decay ** (len(layers) - 1 - number)
        for number, layer in enumerate(layers)
        for parameter in layer.parameters()
    }
