"""MoCo v3: An Empirical Study of Training Self-Supervised Vision Transformers (Chen et al., ICCV 2021)."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.distributed import gather, rank
from mmssl.losses.info_nce import batch_contrast
from mmssl.methods.base import DataInfo, Loss, Method, MethodConfig
from mmssl.methods.image.contrastive import two_views
from mmssl.models.batch_norm import Normalisation, globalise
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.models.heads import mlp
from mmssl.models.momentum import follow, momentum_at, momentum_copy
from mmssl.models.positions import use_sincos_positions
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View
from mmssl.stream.views.contrastive import ContrastiveAugmentation


class MoCoV3Config(MethodConfig):
    name: Literal["moco_v3"] = "moco_v3"
    encoder: EncoderConfig = EncoderConfig(name="vit_small_patch16_224")
    field: str = "image"
    """Which field is seen; of a video one frame, another in every pass."""
    temperature: PositiveFloat = 0.2
    """τ: 0.2 for ViT, 1.0 for ResNet-50."""
    projector: tuple[PositiveInt, ...] = (4096, 4096, 256)
    """Three layers for ViT, two for ResNets."""
    predictor: tuple[PositiveInt, ...] = (4096, 256)
    momentum: float = Field(0.99, ge=0, le=1)
    """m at the start."""
    momentum_schedule: Literal["constant", "cosine"] = "cosine"
    """``cosine`` raises m to 1 by the end of training."""
    freeze_patch_embedding: bool = True
    """For ViT: a random, fixed patch projection keeps training stable (section 4.2)."""
    batch_norm: Normalisation = "sync"
    """``sync``: statistics of the global batch; ``local``: of each process's own."""
    augmentations: tuple[ContrastiveAugmentation, ContrastiveAugmentation] = ContrastiveAugmentation.moco_v3()
    """The first and the second view are made differently, as in BYOL."""


class MoCoV3(Method):
    """Queries predict the momentum encoder's keys of the other view; no queue, the batch is the dictionary.

    batch.image   (B, 2, 3, S, S) float32
    total         ctr(q₁, k₂) + ctr(q₂, k₁), each scaled by 2τ (algorithm 1)
    """

    Config = MoCoV3Config
    config: MoCoV3Config

    def __init__(self, config: MoCoV3Config, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_encoder(config.encoder)
        backbone = self.encoder.backbone
        if hasattr(backbone, "patch_embed"):
            if config.encoder.weights is None:
                use_sincos_positions(backbone)
            if config.freeze_patch_embedding:
                backbone.patch_embed.requires_grad_(False)
        self.projector = mlp((self.encoder.dim, *config.projector), last_norm="plain")
        self.predictor = mlp((config.projector[-1], *config.predictor), last_norm="plain")
        if config.batch_norm == "sync":
            globalise(self)
        self.encoder_k = momentum_copy(self.encoder)
        self.projector_k = momentum_copy(self.projector)

    @property
    def views(self) -> Mapping[str, View]:
        return two_views(self.config.encoder, self.config.augmentations, self.config.field)

    def forward(self, batch: Batch) -> Loss:
        x = batch.image.transpose(0, 1).flatten(0, 1)  # first views, then second views, in one pass
        h = self.encoder(x)
        q1, q2 = normalize(self.predictor(self.projector(h)).float(), dim=1).chunk(2)
        k1, k2 = self._keys(x)
        tau = self.config.temperature
        first = batch_contrast(q1, gather(k2, gradient=False), rank(), tau)
        second = batch_contrast(q2, gather(k1, gradient=False), rank(), tau)
        other = second.parts()
        parts = {name: (value + other[name]) / 2 for name, value in first.parts().items()}
        return Loss(first.loss + second.loss, parts, h.detach())

    @torch.no_grad()
    def _keys(self, x: Tensor) -> tuple[Tensor, ...]:
        return normalize(self.projector_k(self.encoder_k(x)).float(), dim=1).chunk(2)

    def after_step(self, progress: float) -> None:
        m = momentum_at(progress, self.config.momentum, self.config.momentum_schedule)
        follow(self.encoder_k, self.encoder, m)
        follow(self.projector_k, self.projector, m)

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}
