"""The folder in which a trained encoder is kept: its weights, and a description that says how to use them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, overload

from safetensors.torch import save

from mmssl.config import Config, parse
from mmssl.errors import MmsslError
from mmssl.files import read_json, write_bytes, write_json
from mmssl.models.clip import ClipConfig, ClipEncoder, ClipEncoderConfig, build_clip_encoder
from mmssl.models.encoder import (
    Encoder,
    EncoderConfig,
    StartConfig,
    build_encoder,
    timm_arguments,
    with_tokenizers,
    with_weights,
)
from mmssl.models.text import TextConfig, TextEncoder, TextEncoderConfig, build_text_encoder
from mmssl.models.text.tokenizer import FILE as TOKENIZER_FILE
from mmssl.models.text.tokenizer import WordPieces, beside
from mmssl.models.weights import WEIGHTS_FILE

DESCRIPTION_FILE = "encoder.json"

VisualEncoder = Encoder | ClipEncoder
"""Of images, or of clips."""
AnyEncoder = VisualEncoder | TextEncoder
"""Of images, of clips, or of texts."""


class _Clip(Config):
    """Takes any clip encoder's configuration by its ``kind``."""

    config: ClipConfig


class _Text(Config):
    """Takes any text encoder's configuration by its ``kind``."""

    config: TextConfig


@overload
def build_any(config: EncoderConfig) -> Encoder: ...
@overload
def build_any(config: ClipEncoderConfig) -> ClipEncoder: ...
@overload
def build_any(config: TextEncoderConfig) -> TextEncoder: ...
@overload
def build_any(config: StartConfig) -> AnyEncoder: ...
def build_any(config: StartConfig) -> AnyEncoder:
    """The encoder of a configuration, of images, clips or texts. Raises as those do."""
    if isinstance(config, EncoderConfig):
        return build_encoder(config)
    if isinstance(config, TextEncoderConfig):
        return build_text_encoder(config)
    assert isinstance(config, ClipEncoderConfig)
    return build_clip_encoder(config)


def save_encoder(encoder: AnyEncoder, folder: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write ``encoder.safetensors`` and ``encoder.json`` to ``folder``.

    The weights of an image encoder are the timm module's own state dict, and ``encoder.json`` holds the call
    of ``timm.create_model`` that takes them (default stems only). It also holds the configuration, without
    the places where weights had come from, and ``provenance``. Beside a text encoder lies its tokenizer.
    """
    folder = Path(folder)
    module = encoder.backbone if isinstance(encoder, Encoder) else encoder
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    write_bytes(folder / WEIGHTS_FILE, save(state, metadata={"format": "pt"}))
    config = with_weights(encoder.config, lambda _: None)
    if isinstance(encoder, TextEncoder) and isinstance(encoder.tokenizer, WordPieces):
        encoder.tokenizer.save(folder)
        config = with_tokenizers(config, lambda _: TOKENIZER_FILE)
    description = {
        "format": "mmssl-encoder",
        "version": 1,
        "input": _input(encoder),
        "config": config.model_dump(mode="json"),
        "dim": encoder.dim,
        "started_from": encoder.config.weights,
        "provenance": dict(provenance),
    }
    if isinstance(encoder, Encoder):
        description["timm"] = {"name": encoder.config.name, "arguments": timm_arguments(encoder.config)}
    write_json(folder / DESCRIPTION_FILE, description)


def _input(encoder: AnyEncoder) -> str:
    if isinstance(encoder, TextEncoder):
        return "text"
    return "image" if isinstance(encoder, Encoder) else "clip"


def reads_text(folder: str | Path) -> bool:
    """Whether the encoder that ``save_encoder`` wrote to ``folder`` is one of texts."""
    description = read_json(Path(folder) / DESCRIPTION_FILE, "an encoder's description")
    return isinstance(description, dict) and description.get("input") == "text"


def load_encoder(folder: str | Path) -> AnyEncoder:
    """Read what ``save_encoder`` wrote.

    Raises:
        MmsslError: a file is missing or damaged, another version, or weights that do not fit the config.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION_FILE
    description = read_json(path, "an encoder's description, as training leaves it")
    if not isinstance(description, dict) or description.get("format") != "mmssl-encoder":
        raise MmsslError(f"{path}: format: expected 'mmssl-encoder'")
    if description.get("version") != 1:
        raise MmsslError(f"{path}: version: expected 1, found {description.get('version')!r}")
    content = description.get("config", {})
    config: StartConfig
    match description.get("input", "image"):
        case "clip":
            config = parse(_Clip, {"config": content}, path).config
        case "text":
            config = parse(_Text, {"config": content}, path).config
            config = with_tokenizers(config, lambda name: beside(folder, name))
        case _:
            config = parse(EncoderConfig, content, path, at="config")
    return build_any(config.model_copy(update={"weights": str(folder)}))
