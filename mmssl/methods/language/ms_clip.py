"""MS-CLIP: Learning Visual Representation from Modality-Shared Contrastive Language-Image Pre-training
(You, Zhou, Xiao et al., ECCV 2022)."""

from typing import Literal

from pydantic import NonNegativeInt
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.losses.clip import Alignment, clip_loss
from mmssl.methods.language.towers import ImageText, ImageTextConfig
from mmssl.methods.multiview.views import TowerConfig
from mmssl.models.artifact import build_any
from mmssl.models.encoder import EncoderConfig, encoder_configs
from mmssl.models.text import ClipText, ClipTextConfig, build_text_encoder
from mmssl.models.text.ms_clip import share_layers, text_like, vision_transformer


class MSCLIPConfig(ImageTextConfig):
    """The paper's networks are ViT-B/32 and B/16, and text of the same width; so is the text of any here."""

    name: Literal["ms_clip"] = "ms_clip"
    image: TowerConfig = EncoderConfig(name="vit_base_patch32_224")
    """A plain ViT of timm. Those with a convolutional stem (``vit_small_r26_s32_224``) have the vision half
    of the paper's early specialisation."""
    text: ClipTextConfig = ClipTextConfig()
    """Its width, heads, layers and MLPs are the image tower's, and need not be said."""
    own_layers: NonNegativeInt = 0
    """First layers that share nothing; 1 is the text half of early specialisation (section 3.3)."""
    image_training: Literal["train"] = "train"
    """Layers that text learns with cannot rest."""


class MSCLIP(ImageText):
    """CLIP with one transformer: patches and words pass through the same attention and the same MLPs.

    Each modality has its own embedding, positions, LayerNorms and projection (section 3.2); words see only
    the words before them, patches see all patches.

    batch.image   see ``ImageText``
    total         as ``CLIP``

    Shared parameters are the very same objects in both towers, so they are counted, decayed and updated once,
    with the gradient of both. Both encoders that training leaves are complete: on disk each holds the shared
    layers, so they load, and are exported, without one another. Started from earlier weights, the shared
    layers are the image tower's, unless only the text tower has any. The paper's light convolutional branch
    beside the transformer is not part of this.
    """

    Config = MSCLIPConfig
    config: MSCLIPConfig

    def build_towers(self) -> None:
        config = self.config
        self.image = build_any(config.image)
        vit = vision_transformer(self.image)
        if config.own_layers >= len(vit.blocks):
            raise MmsslError(
                f"ms_clip: own_layers: {config.own_layers} of {len(vit.blocks)} layers; expected fewer, so "
                "that some are shared"
            )
        self.config = config.model_copy(update={"text": text_like(vit, config.text)})
        text = build_text_encoder(self.config.text)
        assert isinstance(text, ClipText)
        seen_before = any(encoder.weights for _, encoder in encoder_configs(config.image, "image"))
        only_text = config.text.weights is not None and not seen_before
        share_layers(vit, text, config.own_layers, from_text=only_text)
        self.text = text

    def align(self, image: Tensor, text: Tensor, keys: Tensor) -> Alignment:
        return clip_loss(image, text, self.logit_scale.exp(), keys)
