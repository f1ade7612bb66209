"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., ICML 2020)."""

from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.distributed import gather, rank
from mmssl.losses.info_nce import nt_xent
from mmssl.methods.base import DataInfo, Loss, Method
from mmssl.methods.image.contrastive import ContrastiveConfig, two_views
from mmssl.models.batch_norm import Normalisation, globalise
from mmssl.models.encoder import Encoder, build_encoder
from mmssl.models.heads import mlp
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View


class SimCLRConfig(ContrastiveConfig):
    name: Literal["simclr"] = "simclr"
    temperature: PositiveFloat = 0.1
    """τ: 0.1 for ImageNet (table 5), 0.5 for CIFAR-10 (appendix B.9)."""
    projector: tuple[PositiveInt, ...] = (2048, 128)
    """Widths of g(·), section 4.2; three of them for SimCLR v2."""
    batch_norm: Normalisation = "sync"
    """``sync``: statistics of the global batch (section 2.2); ``local``: of each process's own."""


class SimCLR(Method):
    """Two views of one image attract; every other view in the global batch repels.

    batch.image   (B, 2, 3, S, S) float32, normalised with the encoder's statistics
    total         NT-Xent (equation 1) over this rank's 2·B views against all 2·B·world
    """

    Config = SimCLRConfig
    config: SimCLRConfig

    def __init__(self, config: SimCLRConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_encoder(config.encoder)
        self.projector = mlp((self.encoder.dim, *config.projector), last_norm="affine")
        if config.batch_norm == "sync":
            globalise(self)

    @property
    def views(self) -> Mapping[str, View]:
        return two_views(self.config.encoder, (self.config.augmentation,) * 2, self.config.field)

    def forward(self, batch: Batch) -> Loss:
        return self.loss_of(self.embed(batch), batch)

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        h = self.encoder(batch.image.flatten(0, 1))  # both views in one pass
        z = normalize(self.projector(h).float(), dim=-1).unflatten(0, (-1, 2))
        return {"h": h.detach(), "z": z}

    def loss_of(self, embeddings: dict[str, Tensor], batch: Batch) -> Loss:
        z = embeddings["z"]
        contrast = nt_xent(z, gather(z), rank(), self.config.temperature)  # negatives cross ranks
        return Loss(contrast.loss, contrast.parts(), embeddings["h"])

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}
