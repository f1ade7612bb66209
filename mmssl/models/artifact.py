"""The folder in which a trained encoder is kept: its weights, and a description that says how to use them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    with_weights,
)
from mmssl.models.weights import WEIGHTS_FILE

DESCRIPTION_FILE = "encoder.json"

AnyEncoder = Encoder | ClipEncoder
"""Of images, or of clips."""


class _Clip(Config):
    """Takes any clip encoder's configuration by its ``kind``."""

    config: ClipConfig


def build_any(config: StartConfig) -> AnyEncoder:
    """The encoder of a configuration, of images or of clips. Raises as those do."""
    if isinstance(config, EncoderConfig):
        return build_encoder(config)
    assert isinstance(config, ClipEncoderConfig)
    return build_clip_encoder(config)


def save_encoder(encoder: AnyEncoder, folder: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write ``encoder.safetensors`` and ``encoder.json`` to ``folder``.

    The weights of an image encoder are the timm module's own state dict, and ``encoder.json`` holds the call
    of ``timm.create_model`` that takes them (default stems only). It also holds the configuration, without
    the places where weights had come from, and ``provenance``.
    """
    folder = Path(folder)
    module = encoder.backbone if isinstance(encoder, Encoder) else encoder
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    write_bytes(folder / WEIGHTS_FILE, save(state, metadata={"format": "pt"}))
    description = {
        "format": "mmssl-encoder",
        "version": 1,
        "input": "image" if isinstance(encoder, Encoder) else "clip",
        "config": with_weights(encoder.config, lambda _: None).model_dump(mode="json"),
        "dim": encoder.dim,
        "started_from": encoder.config.weights,
        "provenance": dict(provenance),
    }
    if isinstance(encoder, Encoder):
        description["timm"] = {"name": encoder.config.name, "arguments": timm_arguments(encoder.config)}
    write_json(folder / DESCRIPTION_FILE, description)


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
    if description.get("input", "image") == "clip":
        config = parse(_Clip, {"config": content}, path).config
    else:
        config = parse(EncoderConfig, content, path, at="config")
    return build_any(config.model_copy(update={"weights": str(folder)}))
