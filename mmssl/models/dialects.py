"""One network, many names: parameters as timm, open_clip and transformers call them.

The middle form is open_clip's with a tower of each kind: ``visual.…``, ``text.…``, ``logit_scale`` and, for
SigLIP, ``logit_bias``. An encoder's ``weights`` may be any of these, and takes the part that it needs.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]

_BLOCK = {  # open_clip: timm, transformers
    "ln_1": ("norm1", "layer_norm1"),
    "ln_2": ("norm2", "layer_norm2"),
    "attn.out_proj": ("attn.proj", "self_attn.out_proj"),
    "mlp.c_fc": ("mlp.fc1", "mlp.fc1"),
    "mlp.c_proj": ("mlp.fc2", "mlp.fc2"),
    "ls_1": ("ls1", "layer_scale1"),
    "ls_2": ("ls2", "layer_scale2"),
}
_VISION = {
    "class_embedding": ("cls_token", "embeddings.class_embedding"),
    "positional_embedding": ("pos_embed", "embeddings.position_embedding.weight"),
    "conv1.weight": ("patch_embed.proj.weight", "embeddings.patch_embedding.weight"),
    "ln_pre.weight": ("norm_pre.weight", "pre_layrnorm.weight"),
    "ln_pre.bias": ("norm_pre.bias", "pre_layrnorm.bias"),
    "ln_post.weight": ("norm.weight", "post_layernorm.weight"),
    "ln_post.bias": ("norm.bias", "post_layernorm.bias"),
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_FLAT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
"""Of the text tower in open_clip's first form, where it has no prefix."""
_FRAMES = "net.encoder.backbone."
"""In clip encoders that see their frames one by one, what the backbone's own names come after."""


def vit_to_open_clip(state: State) -> dict[str, Tensor]:
    """A timm ViT as open_clip's. A bias of the patches goes into their positions: the sum is the same."""
    own = dict(state)
    bias = own.pop("patch_embed.proj.bias", None)
    if bias is not None and "pos_embed" in own:
        own["pos_embed"] = own["pos_embed"].clone()
        own["pos_embed"][:, 1:] += bias
    names = {theirs: ours for ours, (theirs, _) in _VISION.items()}
    names |= {"fc_norm.weight": "ln_post.weight", "fc_norm.bias": "ln_post.bias"}
    found = {}
    for key, value in own.items():
        name = names.get(key) or _block(key, r"blocks\.(\d+)\.(.+)", 0, "transformer.resblocks.{}.{}")
        found[name.replace("attn.qkv.", "attn.in_proj_")] = value
    for name in ("class_embedding", "positional_embedding"):
        if name in found:
            found[name] = found[name].flatten(0, -2) if name[0] == "p" else found[name].flatten()
    return found


def open_clip_to_vit(state: State, own: State) -> dict[str, Tensor]:
    """open_clip's ViT as timm's, for a network whose state is ``own``: it may have a bias of the patches."""
    found = {}
    for key, value in state.items():
        name = _VISION[key][0] if key in _VISION else _unblock(key, 0, "blocks.{}.{}")
        found[name.replace("attn.in_proj_", "attn.qkv.")] = value
    if "fc_norm.weight" in own:
        found |= {f"fc_{key}": found.pop(key) for key in ("norm.weight", "norm.bias") if key in found}
    if "cls_token" in found:
        found["cls_token"] = found["cls_token"].view(1, 1, -1)
    if "pos_embed" in found:
        found["pos_embed"] = found["pos_embed"][None]
    if "patch_embed.proj.bias" in own:
        found["patch_embed.proj.bias"] = torch.zeros_like(own["patch_embed.proj.bias"])
    return found


def open_clip_to_transformers(state: State) -> dict[str, Tensor]:
    """The middle form as transformers' ``CLIPModel``; there is no ``logit_bias`` in it."""
    found = {}
    for key, value in state.items():
        tower, _, rest = key.partition(".")
        if key in ("visual.proj", "text.text_projection"):
            name = f"{'visual' if tower == 'visual' else 'text'}_projection.weight"
            found[name] = value.T.contiguous()
        elif tower in ("visual", "text"):
            names = {ours: theirs for ours, (_, theirs) in _VISION.items()} if tower == "visual" else _TEXT
            name = names.get(rest) or _unblock(rest, 1, "encoder.layers.{}.{}")
            name = f"{'vision' if tower == 'visual' else 'text'}_model.{name}"
            before, joined, kind = name.partition("attn.in_proj_")
            if joined:
                parts = zip("qkv", value.chunk(3), strict=True)
                found |= {f"{before}self_attn.{x}_proj.{kind}": part.contiguous() for x, part in parts}
            else:
                found[name] = value
        elif key == "logit_scale":
            found[key] = value
    return found


def middle(state: State) -> dict[str, Tensor] | None:
    """A whole CLIP's state under the middle form's names, or None where it is none."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if "vision_model.embeddings.class_embedding" in state:
        return _from_transformers(state)
    if not any(key.startswith("visual.") for key in state):
        return None
    return {f"text.{key}" if key.startswith(_FLAT) else key: value for key, value in state.items()}


def _from_transformers(state: State) -> dict[str, Tensor]:
    vision = {theirs: ours for ours, (_, theirs) in _VISION.items()}
    text = {theirs: ours for ours, theirs in _TEXT.items()}
    found, apart = {}, {}
    for key, value in state.items():
        tower, _, rest = key.partition(".")
        if key.endswith("position_ids"):  # 0, 1, 2 …, which older files hold
            continue
        if tower in ("visual_projection", "text_projection"):
            found["visual.proj" if tower[0] == "v" else "text.text_projection"] = value.T.contiguous()
        elif tower in ("vision_model", "text_model"):
            short, names = ("visual", vision) if tower[0] == "v" else ("text", text)
            if part := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", rest):
                layer, letter, kind = part.groups()
                apart[f"{short}.transformer.resblocks.{layer}.attn.in_proj_{kind}", letter] = value
            else:
                blocks = r"encoder\.layers\.(\d+)\.(.+)"
                name = names.get(rest) or _block(rest, blocks, 1, "transformer.resblocks.{}.{}")
                found[f"{short}.{name}"] = value
        else:
            found[key] = value
    for name, _ in apart:
        found[name] = torch.cat([apart[name, letter] for letter in "qkv" if (name, letter) in apart])
    return found


def image_part(state: State, own: State) -> dict[str, Tensor]:
    """What an image encoder whose state is ``own`` takes of a checkpoint.

    Of a clip encoder's state it is the network that sees single frames, of a CLIP the image tower, and
    otherwise all of it.
    """
    frames = {key.partition(_FRAMES)[2]: value for key, value in state.items() if _FRAMES in key}
    if frames:
        return frames
    found = middle(state)
    if found is None:
        return dict(state)
    trunk = {
        key.removeprefix("visual.trunk."): value
        for key, value in found.items()
        if key.startswith("visual.trunk.")
    }
    if trunk:
        return trunk
    vit = {key.removeprefix("visual."): value for key, value in found.items() if key.startswith("visual.")}
    return open_clip_to_vit({key: value for key, value in vit.items() if key != "proj"}, own)


def text_part(state: State) -> dict[str, Tensor] | None:
    """The text tower of a CLIP under open_clip's names, without its projection; None where it is no CLIP."""
    found = middle(state)
    if found is None:
        return None
    text = {key.removeprefix("text."): value for key, value in found.items() if key.startswith("text.")}
    return {key: value for key, value in text.items() if key not in ("text_projection", "proj.weight")}


def heads(state: State) -> dict[str, Tensor] | None:
    """``image`` and ``text`` heads (d, width), ``logit_scale`` and perhaps ``logit_bias`` of a CLIP."""
    found = middle(state)
    if found is None:
        return None
    places = {
        "visual.proj": ("image", True),
        "visual.head.proj.weight": ("image", False),
        "text.text_projection": ("text", True),
        "text.proj.weight": ("text", False),
        "logit_scale": ("logit_scale", False),
        "logit_bias": ("logit_bias", False),
    }
    return {
        name: found[key].T.contiguous() if turned else found[key]
        for key, (name, turned) in places.items()
        if key in found
    }


def _block(key: str, pattern: str, dialect: int, form: str) -> str:
    """A parameter of a block as open_clip calls it; anything else keeps its name, and will not be found."""
    match = re.fullmatch(pattern, key)
    if not match:
        return key
    layer, rest = match.groups()
    stem, _, kind = rest.rpartition(".")
    names = {theirs[dialect]: ours for ours, theirs in _BLOCK.items()}
    return form.format(layer, f"{names.get(stem, stem)}.{kind}")


def _unblock(key: str, dialect: int, form: str) -> str:
    match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", key)
    if not match:
        return key
    layer, rest = match.groups()
    stem, _, kind = rest.rpartition(".")
    return form.format(layer, f"{_BLOCK[stem][dialect] if stem in _BLOCK else stem}.{kind}")
