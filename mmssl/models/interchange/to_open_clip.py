"""A CLIP as a folder that ``open_clip.create_model_from_pretrained("local-dir:FOLDER")`` loads."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.models.dialects import vit_to_open_clip
from mmssl.models.encoder import Encoder, timm_arguments
from mmssl.models.interchange.folder import CARD, new_folder, told
from mmssl.models.interchange.pair import Pair, refuse_difference
from mmssl.models.interchange.to_timm import STEM_LINES
from mmssl.models.interchange.tokenizer_files import CLEANING, TOKENIZER_FILES, write_tokenizer
from mmssl.models.text.bert import BertText
from mmssl.models.text.tokenizer import BytePairs
from mmssl.models.text.transformer import ClipText

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
NAMES = frozenset({CONFIG, WEIGHTS, CARD, "config.json"}) | TOKENIZER_FILES

README = Template("""\
# $name: images and texts in one space

Unit vectors of dimension $dim of images of $size × $size pixels ($tower) and of texts of at most $context
tokens ($text). $where

```python
$snippet```
$cleaning
## How it came to be

```json
$provenance
```
""")


@dataclass(frozen=True)
class Tower:
    """One side of open_clip's model: its configuration and its weights under open_clip's names."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    quick: bool | None = None
    """Whether it needs ``quick_gelu``, which open_clip sets for both towers; None where it has none."""
    lines: str = ""
    """What turns open_clip's network into the trained one, where its configuration cannot say it."""
    swapped: tuple[str, ...] = field(default=())
    """Modules of timm's network that those lines replace."""


def export_open_clip(pair: Pair, folder: Path) -> Path:
    """Write ``folder`` with configuration, weights, tokenizer and card; return it.

    Before anything is written the model is built as open_clip will build it, and asked about images and
    texts. Where open_clip cannot be told of a ResNet's small stem, the card has the lines that load it, and
    the plain call fails on the shape of the first convolution.

    Raises:
        MmsslError: a tower that open_clip has no network for, or ``folder`` holds something else.
    """
    text = text_tower(pair)
    image = image_tower(pair, bool(text.quick))
    config = {
        "embed_dim": len(pair.image_head),
        "vision_cfg": image.config,
        "text_cfg": text.config,
        "custom_text": True,
        "quick_gelu": bool(text.quick),
    }
    if pair.logit_bias is not None:
        config["init_logit_bias"] = pair.logit_bias
    preprocess = {
        "mean": list(pair.image.mean),
        "std": list(pair.image.std),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    state = {f"visual.{key}": value for key, value in image.state.items()}
    state |= {f"text.{key}": value for key, value in text.state.items()}
    state["logit_scale"] = torch.tensor(pair.logit_scale)
    if pair.logit_bias is not None:
        state["logit_bias"] = torch.tensor(pair.logit_bias)
    state = {key: value.detach().float().cpu().contiguous() for key, value in state.items()}
    with new_folder(folder, NAMES) as new:
        files.write_json(new / CONFIG, {"model_cfg": config, "preprocess_cfg": preprocess})
        if isinstance(pair.text, BertText):
            pair.text.bert.config.to_json_file(str(new / "config.json"), use_diff=False)
        if not isinstance(pair.text.tokenizer, BytePairs):
            write_tokenizer(pair.text.tokenizer, pair.text.context, new)
        model = _built(new, config, image, pair.image)
        _load(model, state, pair)
        refuse_difference(pair, model.encode_image, model.encode_text, "open_clip")
        files.write_bytes(new / WEIGHTS, save(state, metadata={"format": "pt"}))
        files.write_bytes(new / CARD, card(pair, image).encode())
    return folder


def text_tower(pair: Pair) -> Tower:
    """CLIP's transformer, or transformers' BERT.

    Raises:
        MmsslError: a text encoder that is neither.
    """
    text = pair.text
    config: dict[str, Any] = {"context_length": text.context, "vocab_size": text.tokenizer.vocabulary}
    if not isinstance(text.tokenizer, BytePairs):
        config["hf_tokenizer_name"] = "."  # open_clip takes the files beside its own configuration
    if isinstance(text, ClipText):
        net = text.net
        config |= {
            "width": net.width,
            "heads": net.heads,
            "layers": len(net.transformer.resblocks),
            "mlp_ratio": text.config.mlp_ratio,
            "pool_type": net.pool_type,
            "eos_id": net.eos_id,
            "pad_id": net.pad_id,
        }
        quick = isinstance(net.transformer.resblocks[0].mlp.gelu, open_clip.model.QuickGELU)
        return Tower(config, {**net.state_dict(), "text_projection": pair.text_head.T}, quick)
    if isinstance(text, BertText):
        pooler = {"mean": "mean_pooler", "cls": "cls_last_hidden_state_pooler"}[text.config.pool]
        config |= {"hf_model_name": ".", "hf_proj_type": "linear", "hf_pooler_type": pooler}
        state = {f"transformer.{key}": value for key, value in text.bert.state_dict().items()}
        return Tower(config, {**state, "proj.weight": pair.text_head})
    raise MmsslError(
        f"export: open_clip has no text tower of kind {text.config.kind!r}; expected clip or bert"
    )


def image_tower(pair: Pair, quick: bool) -> Tower:
    """open_clip's own ViT where it is one with these activations, otherwise timm's network by its name.

    Raises:
        MmsslError: channels, settings or a network that open_clip's configuration has no place for.
    """
    encoder = pair.image
    name = encoder.config.name
    if encoder.config.channels != 3:
        raise MmsslError(f"export: open_clip's towers see 3 channels; {name} sees {encoder.config.sees}")
    vit = _vit(encoder)
    if vit is not None and vit.quick == quick:
        return Tower(vit.config, {**vit.state, "proj": pair.image_head.T}, quick)
    arguments = {key: value for key, value in timm_arguments(encoder.config).items() if key != "num_classes"}
    known = timm.get_pretrained_cfg(name)
    if known is not None and arguments.get("img_size") == known.input_size[-1]:
        del arguments["img_size"]
    if arguments or type(encoder.backbone).__module__.startswith("mmssl."):
        settings = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise MmsslError(
            f"export: open_clip builds {name} by its name alone and cannot be told {settings or 'more'}; "
            "expected a plain ViT with a class token and the text tower's activation, or timm's own settings"
        )
    config = {
        "timm_model_name": name,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": encoder.config.image_size,
    }
    state = {f"trunk.{key}": value for key, value in encoder.backbone.state_dict().items()}
    state["head.proj.weight"] = pair.image_head
    if encoder.config.stem == "small_stride4":  # the same sums, with zeros around its 3×3 pixels
        state["trunk.conv1.weight"] = nn.functional.pad(state["trunk.conv1.weight"], (2, 2, 2, 2))
    elif encoder.config.stem != "default":
        width, channels = state["trunk.conv1.weight"].shape[:2]
        lines = STEM_LINES[encoder.config.stem].format(width=width, channels=channels)
        return Tower(
            config, state, None, lines.replace("model.", "model.visual.trunk."), ("conv1", "maxpool")
        )
    return Tower(config, state)


def _vit(encoder: Encoder) -> Tower | None:
    """open_clip's ViT with these weights, without the projection; None where it is another network."""
    vit: Any = encoder.backbone
    if type(vit) is not VisionTransformer or vit.cls_token is None or vit.global_pool not in ("token", "avg"):
        return None
    block: Any = vit.blocks[0]
    after = not isinstance(vit.fc_norm, nn.Identity)
    config = {
        "image_size": encoder.config.image_size,
        "patch_size": vit.patch_embed.patch_size[0],
        "width": vit.embed_dim,
        "layers": len(vit.blocks),
        "head_width": vit.embed_dim // block.attn.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / vit.embed_dim,
        "no_ln_pre": isinstance(vit.norm_pre, nn.Identity),
        "pool_type": "tok" if vit.global_pool == "token" else "avg",
        "final_ln_after_pool": after,
        "norm_kwargs": {"eps": block.norm1.eps},
    }
    if not isinstance(block.ls1, nn.Identity):
        config["ls_init_value"] = 1e-5  # its place is taken by the weights
    return Tower(config, vit_to_open_clip(vit.state_dict()), type(block.mlp.act).__name__ == "QuickGELU")


def _built(folder: Path, config: dict[str, Any], image: Tower, encoder: Encoder) -> Any:
    """The model as open_clip builds it from ``config``; BERT's configuration is read from ``folder``."""
    config = copy.deepcopy(config)
    del config["custom_text"]
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    with _quiet():
        model: Any = open_clip.CustomTextCLIP(**config).eval()
    for part in image.swapped:
        setattr(model.visual.trunk, part, copy.deepcopy(getattr(encoder.backbone, part)))
    return model


def _load(model: nn.Module, state: dict[str, Tensor], pair: Pair) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        parts = " ".join(str(error).split())
        raise MmsslError(
            f"export: open_clip's networks lack parts of {pair.image.config.name} or have others: {parts}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip reports every step of building to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def snippet(pair: Pair, image: Tower) -> str:
    """Python that loads the folder with open_clip alone: ``model``, ``preprocess``, ``tokenizer``."""
    lines = "import open_clip\n"
    if image.lines:
        mean, std = list(pair.image.mean), list(pair.image.std)
        lines += (
            "import torch\n\n"
            'model = open_clip.create_model("local-dir:.", load_weights=False).eval()\n'
            f"{image.lines}"
            f'open_clip.load_checkpoint(model, "{WEIGHTS}")\n'
            f"preprocess = open_clip.image_transform({pair.image.image_size}, is_train=False, mean={mean},\n"
            f'                                       std={std}, interpolation="bicubic")\n'
        )
    else:
        lines += '\nmodel, preprocess = open_clip.create_model_from_pretrained("local-dir:.")\n'
    return lines + 'tokenizer = open_clip.get_tokenizer("local-dir:.")\n'


def card(pair: Pair, image: Tower) -> str:
    """The README of an exported pair."""
    bert = isinstance(pair.text, BertText)
    plain = not isinstance(pair.text.tokenizer, BytePairs)
    return README.substitute(
        name=f"{pair.image.config.name} and {pair.text.config.kind}",
        dim=len(pair.image_head),
        size=pair.image.image_size,
        tower=pair.image.config.name,
        context=pair.text.context,
        text=pair.text.config.kind,
        where="In this folder" + (", for open_clip finds BERT's configuration there only:" if bert else ":"),
        snippet=snippet(pair, image),
        cleaning=f"\n{CLEANING[type(pair.text.tokenizer)]}\n" if plain else "",
        provenance=told(pair.provenance),
    )
