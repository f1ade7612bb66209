"""A CLIP as transformers' ``CLIPModel``, a text encoder of kind bert as its ``BertModel``."""

from pathlib import Path
from string import Template
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from transformers import BertModel, CLIPConfig, CLIPModel, PreTrainedModel

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.models.dialects import open_clip_to_transformers
from mmssl.models.interchange.folder import CARD, new_folder, told
from mmssl.models.interchange.pair import Pair, refuse_difference
from mmssl.models.interchange.to_open_clip import image_tower, text_tower
from mmssl.models.interchange.tokenizer_files import CLEANING, TOKENIZER_FILES, write_tokenizer
from mmssl.models.text.bert import BertText
from mmssl.models.text.tokenizer import BytePairs
from mmssl.models.text.transformer import ClipText

NAMES = (
    frozenset({"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}) | TOKENIZER_FILES
)

README = Template("""\
# $name

$about

```python
$snippet```
$notes
## How it came to be

```json
$provenance
```
""")


def export_transformers_clip(pair: Pair, folder: Path) -> Path:
    """Write ``folder`` with configuration, weights, tokenizer, image processor and card; return it.

    Before anything is written, the model is asked about images and texts.

    Raises:
        MmsslError: transformers' CLIP has other towers than these, or ``folder`` holds something else.
    """
    config, state = clip_model(pair)
    model = CLIPModel(config).eval()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise MmsslError(
            f"export: transformers' CLIPModel lacks parts of {pair.image.config.name} or has others: "
            + " ".join(str(error).split())
        ) from error
    refuse_difference(
        pair,
        lambda x: model.get_image_features(pixel_values=x).pooler_output,
        lambda tokens: model.get_text_features(input_ids=tokens).pooler_output,
        "transformers' CLIP",
    )
    with new_folder(folder, NAMES) as new:
        _write_model(model, new)
        write_tokenizer(pair.text.tokenizer, pair.text.context, new)
        files.write_json(new / "preprocessor_config.json", processor(pair))
        files.write_bytes(new / CARD, _clip_card(pair).encode())
    return folder


def clip_model(pair: Pair) -> tuple[CLIPConfig, dict[str, Tensor]]:
    """Configuration and weights of the ``CLIPModel`` that is this pair.

    Raises:
        MmsslError: there is none; says which tower is to blame.
    """
    refused = "export: transformers' CLIPModel "
    if not isinstance(pair.text, ClipText):
        raise MmsslError(
            f"{refused}has CLIP's causal transformer for texts, not kind {pair.text.config.kind!r}; a text "
            "encoder of kind bert can be exported by itself"
        )
    text = text_tower(pair)
    if text.config["eos_id"] == 2:
        raise MmsslError(f"{refused}takes an end token of number 2 for an old error; expected another number")
    image = image_tower(pair, bool(text.quick))
    vision = image.config
    if "timm_model_name" in vision:
        raise MmsslError(f"{refused}has a ViT for images, not {vision['timm_model_name']}")
    if vision["no_ln_pre"] or vision["pool_type"] != "tok" or "ls_init_value" in vision:
        raise MmsslError(
            f"{refused}has a ViT with a norm before its blocks, pooled at the class token and without layer "
            f"scale, as timm's vit_*_clip_*; {pair.image.config.name} is built otherwise"
        )
    tokenizer, width, words = pair.text.tokenizer, vision["width"], text.config["width"]
    activation = "quick_gelu" if text.quick else "gelu"
    config = CLIPConfig(
        projection_dim=len(pair.image_head),
        logit_scale_init_value=pair.logit_scale,
        vision_config={
            "hidden_size": width,
            "intermediate_size": int(width * vision["mlp_ratio"]),
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": width // vision["head_width"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "layer_norm_eps": vision["norm_kwargs"]["eps"],
            "hidden_act": activation,
            "projection_dim": len(pair.image_head),
        },
        text_config={
            "vocab_size": tokenizer.vocabulary,
            "hidden_size": words,
            "intermediate_size": int(words * text.config["mlp_ratio"]),
            "num_hidden_layers": text.config["layers"],
            "num_attention_heads": text.config["heads"],
            "max_position_embeddings": pair.text.context,
            "layer_norm_eps": pair.text.net.ln_final.eps,
            "hidden_act": activation,
            "projection_dim": len(pair.image_head),
            "pad_token_id": tokenizer.pad,
            "bos_token_id": tokenizer.start,
            "eos_token_id": tokenizer.end,
        },
    )
    state = {f"visual.{key}": value for key, value in image.state.items()}
    state |= {f"text.{key}": value for key, value in text.state.items()}
    state["logit_scale"] = torch.tensor(pair.logit_scale)
    return config, open_clip_to_transformers(state)


def processor(pair: Pair) -> dict[str, Any]:
    """The image processor's file: shorter side to the size, its centre, bicubic."""
    size = pair.image.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pair.image.mean),
        "image_std": list(pair.image.std),
        "do_convert_rgb": True,
    }


def export_bert(encoder: BertText, provenance: dict[str, Any], folder: Path) -> Path:
    """Write ``folder`` with the encoder as transformers' ``BertModel``, tokenizer and card; return it.

    Raises:
        MmsslError: ``folder`` holds something else.
    """
    bert: BertModel = encoder.bert
    pooled = {"mean": "mean of all tokens but the padding", "cls": "state of [CLS]"}[encoder.config.pool]
    content = README.substitute(
        name="bert: a text encoder learned from captions",
        about=f"States of dimension {encoder.dim} of texts of at most {encoder.context} tokens; as one "
        f"feature of a text the {pooled} was used. In this folder:",
        snippet="from transformers import AutoModel, AutoTokenizer\n\n"
        'model = AutoModel.from_pretrained(".", add_pooling_layer=False)\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n',
        notes="",
        provenance=told(provenance),
    )
    with new_folder(folder, NAMES) as new:
        _write_model(bert, new)
        write_tokenizer(encoder.tokenizer, encoder.context, new)
        files.write_bytes(new / CARD, content.encode())
    return folder


def _write_model(model: PreTrainedModel, folder: Path) -> None:
    model.config.architectures = [type(model).__name__]
    model.config.to_json_file(str(folder / "config.json"))
    state = {key: value.detach().float().cpu().contiguous() for key, value in model.state_dict().items()}
    files.write_bytes(folder / "model.safetensors", save(state, metadata={"format": "pt"}))


def _clip_card(pair: Pair) -> str:
    notes = []
    if isinstance(pair.text.tokenizer, BytePairs):
        notes.append(CLEANING[BytePairs])
    if pair.logit_bias is not None:
        notes.append(
            f"Trained as SigLIP: the probability of a pair is σ(logit + ({pair.logit_bias:.4f})), and this "
            "bias has no place in CLIPModel."
        )
    return README.substitute(
        name=f"{pair.image.config.name} and {pair.text.config.kind}: images and texts in one space",
        about=f"Features of dimension {len(pair.image_head)} of images of {pair.image.image_size} × "
        f"{pair.image.image_size} pixels and of texts of at most {pair.text.context} tokens. In this folder:",
        snippet="from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel\n\n"
        'model = CLIPModel.from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        'processor = AutoImageProcessor.from_pretrained(".")\n',
        notes="".join(f"\n{note}\n" for note in notes),
        provenance=told(pair.provenance),
    )
