"""Where a method between images and texts begins, if somebody has trained a whole one before."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.models.dialects import heads, image_part
from mmssl.models.encoder import Encoder
from mmssl.models.text import TextEncoder
from mmssl.models.text.tokenizer import FILE, tokenizer_beside
from mmssl.models.weights import load_state, read_tensors, weights_path

OWN = "method.safetensors"
"""What a train stage leaves of a whole method."""


@torch.no_grad()
def start_from(method: Any, source: Path) -> dict[str, float]:
    """Load towers, linear maps and scale of ``method`` from a CLIP of open_clip, transformers or a stage.

    Returns the numbers of its logits: ``logit_scale``, and ``logit_bias`` where it was trained as SigLIP.

    Raises:
        MmsslError: no CLIP there; of another architecture, dimension or vocabulary; or the towers have
            weights of their own to start from.
    """
    config = method.config
    for name in ("image", "text"):
        if getattr(getattr(config, name, None), "weights", None) is not None:
            raise MmsslError(
                f"{config.name}: start.weights: both towers start from {source}; expected no {name}.weights"
            )
    if (source / OWN).is_file():
        return _from_stage(method, source / OWN)
    state = read_tensors(source)
    found = heads(state)
    if found is None or not {"image", "text", "logit_scale"} <= found.keys():
        raise MmsslError(
            f"{source}: expected a CLIP of open_clip or transformers, with towers and their heads"
        )
    if not isinstance(method.image, Encoder) or not isinstance(method.text, TextEncoder):
        raise MmsslError(
            f"{config.name}: start.weights: {source} fits an image encoder and a text encoder of their own"
        )
    if (source / FILE).is_file() and tokenizer_beside(source) != method.text.tokenizer:
        raise MmsslError(f"{source}: weights trained with another tokenizer than {config.text.tokenizer!r}")
    path = weights_path(source)
    load_state(
        method.image.backbone, image_part(state, method.image.backbone.state_dict()), path, config.image.name
    )
    load_state(method.text, method.text.own_names(state), path, config.text.kind)
    for name, linear in (("image", method.image_head), ("text", method.text_head)):
        if found[name].shape != linear.weight.shape:
            raise MmsslError(
                f"{path}: the {name} tower leads to a space of {len(found[name])} dimensions; expected dim "
                f"{len(linear.weight)} of {config.name}"
            )
        linear.weight.copy_(found[name])
    method.logit_scale.copy_(found["logit_scale"].reshape(()))
    return _numbers(found)


def _from_stage(method: Any, path: Path) -> dict[str, float]:
    state = read_tensors(path)
    numbers = _numbers(state)
    state = {key: value for key, value in state.items() if key != "logit_bias"}
    load_state(method, state, path, method.config.name)
    return numbers


def _numbers(state: dict[str, Tensor]) -> dict[str, float]:
    found: dict[str, float] = {
        key: float(state[key]) for key in ("logit_scale", "logit_bias") if key in state
    }
    if not all(map(math.isfinite, found.values())):
        raise MmsslError(f"weights to start from: expected finite numbers, found {found}")
    return found
