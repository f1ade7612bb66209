"""Modality-shared layers: a text encoder whose attention and MLPs are those of a vision transformer."""

import math
from typing import Any

import torch
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn
from torch.nn import Parameter

from mmssl.errors import MmsslError
from mmssl.models.text.transformer import ClipText, ClipTextConfig

SHARED = {
    "attn.qkv.weight": "attn.in_proj_weight",
    "attn.qkv.bias": "attn.in_proj_bias",
    "attn.proj.weight": "attn.out_proj.weight",
    "attn.proj.bias": "attn.out_proj.bias",
    "mlp.fc1.weight": "mlp.c_fc.weight",
    "mlp.fc1.bias": "mlp.c_fc.bias",
    "mlp.fc2.weight": "mlp.c_proj.weight",
    "mlp.fc2.bias": "mlp.c_proj.bias",
}
"""What a layer shares: timm's name for it in a vision transformer, and open_clip's in a text transformer.

Both keep queries, keys and values in one matrix, in this order, so the tensors are the same."""


def vision_transformer(tower: nn.Module) -> VisionTransformer:
    """timm's transformer inside an encoder of images or clips, whose layers a text encoder can share.

    Raises:
        MmsslError: there is none, or its layers do something that those of a text transformer do not.
    """
    vit: Any = next((part for part in tower.modules() if isinstance(part, VisionTransformer)), None)
    if vit is None:
        raise MmsslError(
            "ms_clip: image: expected a vision transformer of timm, such as vit_tiny_patch16_224"
        )
    for number, block in enumerate(vit.blocks):
        if not _plain(block):
            raise MmsslError(
                f"ms_clip: image: block {number} is no plain transformer layer; expected attention with "
                "bias, an MLP with GELU, and no norms or scales but the two before them, as in ViT-B"
            )
    return vit


def _plain(block: Any) -> bool:
    if type(block) is not Block or type(block.attn) is not Attention:
        return False
    attention, mlp = block.attn, block.mlp
    inside = (attention.q_norm, attention.k_norm, attention.norm, getattr(mlp, "norm", nn.Identity()))
    names = {name for part in ("attn", "mlp") for name, _ in getattr(block, part).named_parameters(part)}
    return (
        names == set(SHARED)
        and all(isinstance(part, nn.Identity) for part in (*inside, block.ls1, block.ls2))
        and type(mlp.act) is nn.GELU
    )


def text_like(vit: VisionTransformer, config: ClipTextConfig) -> ClipTextConfig:
    """The configuration with the transformer's width, heads, layers and MLPs where it does not say its own.

    Raises:
        MmsslError: it says others.
    """
    block: Any = vit.blocks[0]
    width, hidden = vit.embed_dim, block.mlp.fc1.out_features
    ratio = hidden / width
    if int(width * ratio) < hidden:  # open_clip rounds down, and the quotient may have been rounded too
        ratio = math.nextafter(ratio, math.inf)
    like = {"width": width, "heads": block.attn.num_heads, "layers": len(vit.blocks), "mlp_ratio": ratio}
    for name, value in (like | {"activation": "gelu"}).items():
        if name in config.model_fields_set and getattr(config, name) != value:
            raise MmsslError(
                f"ms_clip: text.{name}: {getattr(config, name)} beside {value} of the image tower; expected "
                "the same, or nothing"
            )
    return config.model_copy(update=like)


def share_layers(vit: VisionTransformer, text: ClipText, own: int, from_text: bool = False) -> None:
    """Make attention and MLPs of all layers but the first ``own`` the same parameters in both.

    Both modules stay complete: each has them under its own names, saves and loads them by itself. Norms stay
    apart. The values are the vision transformer's, or with ``from_text`` the text encoder's.
    """
    pairs: Any = zip(vit.blocks, text.net.transformer.resblocks, strict=True)
    for seeing, reading in list(pairs)[own:]:
        for ours, theirs in SHARED.items():
            one: Parameter = seeing.get_parameter(ours)
            if from_text:
                with torch.no_grad():
                    one.copy_(reading.get_parameter(theirs))
            module, _, name = theirs.rpartition(".")
            setattr(reading.get_submodule(module), name, one)
