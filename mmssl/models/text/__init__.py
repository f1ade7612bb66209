"""Text encoders: what a caption becomes a vector with. ``kind`` in a recipe selects one."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.models.text.base import TextEncoder, TextEncoderConfig
from mmssl.models.text.bert import BertText, BertTextConfig
from mmssl.models.text.tokenizer import FILE, tokenizer_beside
from mmssl.models.text.transformer import ClipText, ClipTextConfig
from mmssl.models.weights import load_state, read_tensors, weights_path

TextConfig = Annotated[ClipTextConfig | BertTextConfig, Field(discriminator="kind")]
"""The configuration of any text encoder, as the type of a field."""

__all__ = [
    "BertText",
    "BertTextConfig",
    "ClipText",
    "ClipTextConfig",
    "TextConfig",
    "TextEncoder",
    "TextEncoderConfig",
    "build_text_encoder",
]


def build_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """Build a text encoder and load its weights, if it starts from any.

    Raises:
        MmsslError: settings that do not fit, no such tokenizer, or weights that are missing, belong to
            another network or were trained with another tokenizer.
    """
    encoder = _build(config)
    if config.weights is not None:
        _refuse_other_tokenizer(encoder, Path(config.weights))
        state = encoder.own_names(read_tensors(config.weights))
        load_state(encoder, state, weights_path(config.weights), config.kind)
    return encoder


def _build(config: TextEncoderConfig) -> TextEncoder:
    match config:
        case ClipTextConfig():
            return ClipText(config)
        case BertTextConfig():
            return BertText(config)
    raise TypeError(f"no text encoder for {type(config).__name__}")


def _refuse_other_tokenizer(encoder: TextEncoder, weights: Path) -> None:
    """Rows of an embedding mean nothing under other numbers, even where there are as many."""
    if (weights / FILE).is_file() and tokenizer_beside(weights) != encoder.tokenizer:
        raise MmsslError(
            f"{weights}: weights trained with another tokenizer than {encoder.config.tokenizer!r}; "
            f"expected tokenizer to name the one they were trained with (a copy of it is {weights / FILE})"
        )
