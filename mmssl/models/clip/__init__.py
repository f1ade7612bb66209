"""Clip encoders: what a clip of frames becomes a vector with. ``kind`` in a recipe selects one."""

from typing import Annotated

from pydantic import Field

from mmssl.models.clip.base import ClipEncoder, ClipEncoderConfig
from mmssl.models.clip.dense_recurrent import DenseRecurrent, DenseRecurrentConfig
from mmssl.models.clip.frames import Frames, FramesConfig, averaging
from mmssl.models.clip.recurrent import Recurrent, RecurrentConfig
from mmssl.models.clip.video_net import VideoNet, VideoNetConfig
from mmssl.models.clip.video_vit import VideoViT, VideoViTConfig
from mmssl.models.weights import load_state, read_tensors, weights_path

ClipConfig = Annotated[
    FramesConfig | VideoNetConfig | VideoViTConfig | RecurrentConfig | DenseRecurrentConfig,
    Field(discriminator="kind"),
]
"""The configuration of any clip encoder, as the type of a field."""

__all__ = [
    "ClipConfig",
    "ClipEncoder",
    "ClipEncoderConfig",
    "averaging",
    "build_clip_encoder",
]


def build_clip_encoder(config: ClipEncoderConfig) -> ClipEncoder:
    """Build a clip encoder and load its weights, if it starts from any.

    Raises:
        MmsslError: settings that do not fit, or weights that are missing or belong to another network.
    """
    encoder = _build(config)
    if config.weights is not None:
        state = encoder.own_names(read_tensors(config.weights))
        load_state(encoder, state, weights_path(config.weights), config.kind)
    return encoder


def _build(config: ClipEncoderConfig) -> ClipEncoder:
    match config:
        case FramesConfig():
            return Frames(config)
        case VideoNetConfig():
            return VideoNet(config)
        case VideoViTConfig():
            return VideoViT(config)
        case RecurrentConfig():
            return Recurrent(config, build_clip_encoder(config.block))
        case DenseRecurrentConfig():
            return DenseRecurrent(config)
    raise TypeError(f"no clip encoder for {type(config).__name__}")
