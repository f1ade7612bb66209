"""Which layer of an encoder a parameter belongs to: fine-tuning moves early layers less, or not at all."""

from collections.abc import Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn

from mmssl.errors import MmsslError
from mmssl.models.clip.video_net import VideoNet
from mmssl.models.clip.video_vit import VideoViT


def layer_scales(encoder: nn.Module, decay: float) -> dict[int, float]:
    """id(parameter) → decay^(number of layers above it); parameters behind the backbone are not listed.

    Layer-wise decay as in Clark et al., "ELECTRA" (ICLR 2020, appendix A) and BEiT. Layers are those of
    ``layers_above``.
    """
    return {parameter: decay**above for parameter, above in layers_above(encoder).items()}


def layers_above(encoder: nn.Module) -> dict[int, int]:
    """id(parameter) → number of layers above it; parameters behind the backbone are not listed.

    timm divides its own backbones into layers: every block is one, and what closes the network belongs to
    the last of them. Of VideoViT every block and the norm is one, and of VideoNet every stage.
    """
    for module in encoder.modules():
        if isinstance(module, VideoViT):
            return _counted([module.embed, *module.blocks, module.norm])
        if isinstance(module, VideoNet):
            return _counted(list(module.net.children()))
        if hasattr(module, "group_matcher"):
            backbone: Any = module
            layers = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
            top = max(layers.values())
            return {id(p): top - layers.get(name, top) for name, p in backbone.named_parameters()}
    return {}


def freeze(encoder: nn.Module, last: int = 0) -> None:
    """No gradient for an encoder's parameters, but for its ``last`` layers and what is behind its backbone.

    ``last`` = 0 freezes all there is.

    Raises:
        MmsslError: the encoder does not have so many layers.
    """
    if last == 0:
        encoder.requires_grad_(False)
        return
    above = layers_above(encoder)
    layers = 1 + max(above.values(), default=-1)
    if last > layers:
        raise MmsslError(f"{last} layers to train of an encoder of {layers}; expected at most that many")
    for parameter in encoder.parameters():
        if above.get(id(parameter), 0) >= last:
            parameter.requires_grad_(False)


def rest_frozen(encoder: nn.Module) -> None:
    """Evaluation mode for every part whose parameters are all frozen: its statistics and noise rest too."""
    for module in encoder.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def _counted(layers: Sequence[nn.Module]) -> dict[int, int]:
    layers = [layer for layer in layers if any(True for _ in layer.parameters())]
    return {
        id(parameter): len(layers) - 1 - number
        for number, layer in enumerate(layers)
        for parameter in layer.parameters()
    }
