"""SigLIP: Sigmoid Loss for Language Image Pre-Training (Zhai, Mustafa, Kolesnikov and Beyer, ICCV 2023)."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from mmssl.losses.clip import Alignment, siglip_loss
from mmssl.methods.base import DataInfo, Loss
from mmssl.methods.language.towers import ImageText, ImageTextConfig
from mmssl.stream.batch import Batch


class SigLIPConfig(ImageTextConfig):
    name: Literal["siglip"] = "siglip"
    temperature: PositiveFloat = 0.1
    """1/s at the beginning, t' = log 10 (section 3.2); learned."""
    bias: float = -10.0
    """β at the beginning: nearly every pair is a negative (section 3.2); learned."""


class SigLIP(ImageText):
    """Every pair of an image and a caption of the global batch is asked by itself whether it is one.

    batch.image   see ``ImageText``; pairs whose captions are the same, but not each other's, are not asked
    total         −1/B Σ_ij log σ(z_ij (s·I_i·T_j + β)), z_ij = 1 for own pairs and −1 else (equation 1)
    """

    Config = SigLIPConfig
    config: SigLIPConfig

    def __init__(self, config: SigLIPConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.logit_bias = nn.Parameter(torch.tensor(self.started.get("logit_bias", config.bias)))

    def align(self, image: Tensor, text: Tensor, keys: Tensor) -> Alignment:
        return siglip_loss(image, text, self.logit_scale.exp(), self.logit_bias, keys)

    def loss_of(self, embeddings: Mapping[str, Tensor], batch: Batch) -> Loss:
        loss = super().loss_of(embeddings, batch)
        loss.parts["logit_bias"] = self.logit_bias.detach()
        return loss
