"""MoCo v1: Momentum Contrast for Unsupervised Visual Representation Learning (He et al., CVPR 2020), and
MoCo v2: Improved Baselines with Momentum Contrastive Learning (Chen et al., 2020).
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmssl.distributed import gather, rank
from mmssl.losses.info_nce import info_nce
from mmssl.methods.base import DataInfo, Loss, Method, MethodConfig
from mmssl.methods.image.contrastive import ContrastiveConfig, two_views
from mmssl.models.batch_norm import globalise
from mmssl.models.encoder import Encoder, build_encoder
from mmssl.models.heads import mlp
from mmssl.models.momentum import follow, momentum_at, momentum_copy
from mmssl.models.queue import Queue
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View
from mmssl.stream.views.contrastive import ContrastiveAugmentation


class MoCoV1Config(ContrastiveConfig):
    name: Literal["moco_v1", "moco_v2"] = "moco_v1"
    temperature: PositiveFloat = 0.07
    """τ, section 3.3 (0.2 in v2)."""
    queue: PositiveInt = 65536
    """K, the size of the dictionary."""
    dim: PositiveInt = 128
    momentum: float = Field(0.999, ge=0, le=1)
    """m, equation 2."""
    momentum_schedule: Literal["constant", "cosine"] = "constant"
    """``cosine`` raises m to 1 by the end of training, as MoCo v3 does."""
    batch_norm: Literal["shuffle", "sync", "local"] = "shuffle"
    """``shuffle``: keys are permuted over all ranks before they are normalised in groups (section 3.3);
    ``sync``: statistics of the global batch; ``local``: of each process's own, where cheating is possible."""
    key_groups: PositiveInt = 2
    """With ``shuffle``: groups in which each process normalises its keys; 2 let one process alone do it."""
    augmentation: ContrastiveAugmentation = ContrastiveAugmentation.moco_v1()


class MoCoV1(Method):
    """A query finds the key of its own image, made by a slowly moving encoder, in a queue of earlier keys.

    batch.image   (B, 2, 3, S, S) float32: query and key views
    total         InfoNCE (equation 1) of the query, its key and the K keys of the queue
    """

    Config: ClassVar[type[MethodConfig]] = MoCoV1Config
    config: MoCoV1Config

    def __init__(self, config: MoCoV1Config, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_encoder(config.encoder)
        self.projector = self._projector()
        if config.batch_norm == "sync":
            globalise(self)
        self.encoder_k = momentum_copy(self.encoder)
        self.projector_k = momentum_copy(self.projector)
        self.queue = Queue(config.queue, config.dim)
        self._new_keys: list[Tensor] = []

    def _projector(self) -> nn.Module:
        return nn.Linear(self.encoder.dim, self.config.dim)

    @property
    def views(self) -> Mapping[str, View]:
        return two_views(self.config.encoder, (self.config.augmentation,) * 2, self.config.field)

    def forward(self, batch: Batch) -> Loss:
        x_q, x_k = batch.image.unbind(1)
        h = self.encoder(x_q)
        q = normalize(self.projector(h).float(), dim=1)
        keys = self._keys(x_k, batch.id)  # of all ranks, without gradient
        k = keys[rank() * len(q) :][: len(q)]
        contrast = info_nce(q, k, self.queue.keys, self.config.temperature)
        if self.training:
            self._new_keys.append(keys)
        return Loss(contrast.loss, contrast.parts() | {"queue_age": self.queue.age()}, h.detach())

    def _keys(self, x: Tensor, ids: Tensor) -> Tensor:
        """Keys (world·B, d) of all ranks in rank order."""
        groups = self.config.key_groups if self.config.batch_norm == "shuffle" else None
        return keys_of_all(self._encode_keys, x, ids, self.queue.pushed, groups)

    def _encode_keys(self, x: Tensor) -> Tensor:
        return normalize(self.projector_k(self.encoder_k(x)).float(), dim=1)

    def after_step(self, progress: float) -> None:
        m = momentum_at(progress, self.config.momentum, self.config.momentum_schedule)
        follow(self.encoder_k, self.encoder, m)
        follow(self.projector_k, self.projector, m)
        if self._new_keys:
            self.queue.push(torch.cat(self._new_keys))
            self._new_keys.clear()

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}


class MoCoV2Config(MoCoV1Config):
    name: Literal["moco_v2"] = "moco_v2"
    temperature: PositiveFloat = 0.2
    """τ, table 2 of v2."""
    hidden: PositiveInt = 2048
    """Width of the projection's hidden layer."""
    head_norm: bool = False
    """BatchNorm in the projection, behind its last layer too. Not in the paper: it keeps keys of different
    ages comparable where the encoder changes fast beside the queue, as in runs of a few hundred steps."""
    augmentation: ContrastiveAugmentation = ContrastiveAugmentation.moco_v2()


class MoCoV2(MoCoV1):
    """MoCo with SimCLR's two gains: an MLP projection and blur (the cosine schedule is the recipe's)."""

    Config = MoCoV2Config
    config: MoCoV2Config

    def _projector(self) -> nn.Module:
        widths = (self.encoder.dim, self.config.hidden, self.config.dim)
        if self.config.head_norm:
            return mlp(widths, last_norm="plain")
        return mlp(widths, hidden_norm=False)


@torch.no_grad()
def keys_of_all(
    encode: Callable[[Tensor], Tensor], x: Tensor, ids: Tensor, salt: Tensor, groups: int | None
) -> Tensor:
    """Keys (world·B, d) of the views of all ranks in rank order, without gradient.

    Args:
        encode: views (n, ...) to keys (n, d).
        x: (B, ...) this rank's views of the samples ``ids`` (B,).
        salt: with the ids of all ranks, it fixes the shuffle: a resume repeats it.
        groups: permute the views over all ranks, and encode each rank's share of them in so many parts
            (shuffling BN, section 3.3); None encodes each rank's own together.
    """
    if groups is None:
        return gather(encode(x), gradient=False)
    everything = gather(x, gradient=False)
    order = scramble(gather(ids, gradient=False), salt)
    mine = order[rank() * len(x) :][: len(x)]
    parts = everything[mine].tensor_split(min(groups, max(len(x) // 2, 1)))
    keys = gather(torch.cat([encode(part) for part in parts]), gradient=False)
    return torch.empty_like(keys).index_copy_(0, order, keys)


def scramble(ids: Tensor, salt: Tensor) -> Tensor:
    """A permutation (n,) that is a function of ``ids`` (n,) and ``salt`` alone, computed on their device.

    Each id is mixed by two rounds of multiply and shift (64-bit, wrapping); the order of the results is
    the permutation. No generator's state has to be shared between ranks or saved.
    """
    x = (ids + salt * 0x9E3779B97F4A7C1) * 0x2545F4914F6CDD1D
    x = (x ^ (x >> 32)) * 0x369DEA0F31A53F85
    return (x ^ (x >> 29)).argsort(stable=True)
