"""CMC: Contrastive Multiview Coding (Tian, Krishnan and Isola, ECCV 2020)."""

from itertools import combinations
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from mmssl.distributed import mean, world_size
from mmssl.errors import MmsslError
from mmssl.losses.info_nce import Contrast
from mmssl.losses.nce import Scores, log_normaliser, nce, softmax_nce
from mmssl.methods.base import DataInfo, Loss, MethodConfig
from mmssl.methods.multiview.negatives import (
    BankNegatives,
    BatchNegatives,
    Candidates,
    Negatives,
    QueueNegatives,
)
from mmssl.methods.multiview.views import Embedding, EmbeddingConfig
from mmssl.models.batch_norm import Normalisation, globalise
from mmssl.stream.batch import Batch

CHECK_EVERY = 100
"""Steps between comparisons of the banks of all ranks."""


class CMCConfig(EmbeddingConfig):
    """``views`` says what is contrasted: one encoder for each view.

    The paper's channel-split (one network, each half of its channels sees one view) is a narrower encoder for
    each view: ``kwargs: {channels: [32, 64, 128, 256]}`` with ``name: resnet10t`` or another ResNet of timm.
    Image against patches: ``augmentation.scale: [0.04, 0.2]`` shows all views the same random patch of the
    sample; take ``negatives: batch`` or ``queue`` then, for a bank's row would be a mean over patches.
    """

    name: Literal["cmc", "crd"] = "cmc"
    core: str | None = None
    """The view that is paired with every other one (the paper's "core view"); null = the full graph, of all
    pairs."""
    loss: Literal["nce", "info_nce"] = "nce"
    """``nce``: binary, against noise, with a frozen normaliser; ``info_nce``: softmax over the candidates."""
    negatives: Literal["bank", "batch", "queue"] = "bank"
    """Memory banks of all samples; or the global batch, with gradient; or its last K embeddings."""
    K: PositiveInt = Field(16384, le=2**18)
    """Negatives from bank or queue; fewer than the shard set has samples."""
    temperature: PositiveFloat = 0.07
    """τ (0.1 on STL-10)."""
    bank_momentum: float = Field(0.5, ge=0, lt=1)
    sharded: bool = False
    """Rows of the banks spread over ranks, where N × d × 4 bytes for each view are too much for one."""
    batch_norm: Normalisation = "sync"
    """``sync``: statistics of the global batch; ``local``: of each process's own."""

    @model_validator(mode="after")
    def _known_core(self) -> "CMCConfig":
        if self.core is not None and self.core not in self.views:
            raise ValueError(f"core: expected null or one of {', '.join(self.views)}, found {self.core!r}")
        if self.sharded and self.negatives != "bank":
            raise ValueError(f"sharded: expected negatives: bank, found {self.negatives}")
        return self


class CMC(Embedding):
    """Two views of one sample attract; a view of another sample repels.

    batch.views   see ``MultiView``; batch.id (B,) names the rows of the memory banks
    total         Σ over pairs {i, j} of L(V_i, V_j) + L(V_j, V_i), each a mean over the samples of the global
                  batch that have both views (section 3; with micro-batches, a mean of their means)

    A candidate that is the anchor's own sample is never its negative: it is left out of the pool (the paper's
    code lets it stand), and ``own_share`` logs how many were, the rate of false negatives that this avoids.
    Nothing is known here of other samples of the same class, and they count as negatives.

    Bank rows begin as random unit vectors, so in the first pass positives are noise, as in the paper; those
    of samples that lack a view stay so, drawn like all others.
    """

    Config: ClassVar[type[MethodConfig]] = CMCConfig
    config: CMCConfig
    log_z: Tensor

    def __init__(self, config: CMCConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        if config.batch_norm == "sync":
            globalise(self)
        chosen = combinations(self.names, 2)
        self.pairs = [pair for pair in chosen if config.core is None or config.core in pair]
        self.ordered = [(i, j) for pair in self.pairs for i, j in (pair, pair[::-1])]
        self.negatives = self._negatives()
        if config.loss == "nce":
            self.register_buffer("log_z", torch.full((len(self.ordered),), torch.nan))
        self._seen: list[tuple[dict[str, Tensor], Tensor, Tensor]] = []
        self._steps = 0

    def _negatives(self) -> Negatives:
        config, samples, dim = self.config, self.data.samples, self.config.head[-1]
        if config.negatives == "batch":
            return BatchNegatives()
        if samples <= config.K:
            raise MmsslError(
                f"{config.name}: K: {config.K} negatives from a {config.negatives} over {samples} samples; "
                f"expected fewer than the shard set has, at most {samples - 1}"
            )
        if config.negatives == "queue":
            return QueueNegatives(self.names, dim, config.K)
        return BankNegatives(self.names, samples, dim, config.K, config.bank_momentum, config.sharded)

    def forward(self, batch: Batch) -> Loss:
        h = self.features(batch)
        v = self.project(h)
        present = batch.views["present"]
        pools = {
            name: self.negatives.candidates(name, v[name], batch.id, present[:, number])
            for number, name in enumerate(self.names)
        }
        contrasts = []
        for number, (i, j) in enumerate(self.ordered):
            scores = self._scores(v[i], pools[j], self.present(batch, i) & self.present(batch, j))
            contrasts.append(self._contrast(scores, number))
        if self.training:
            self._seen.append(({name: z.detach() for name, z in v.items()}, batch.id, present))
        total = torch.stack([contrast.loss for contrast in contrasts]).sum()
        own_share = torch.stack([pool.same.float().mean() for pool in pools.values()]).mean()
        return Loss(
            total,
            self._parts(contrasts) | {"own_share": own_share},
            h[self.config.core or self.names[0]].detach(),
        )

    def _scores(self, anchor: Tensor, pool: Candidates, both: Tensor) -> Scores:
        """Anchors (B, d) against a pool; ``both`` (B,) bool: which samples have the two views."""
        with torch.autocast(anchor.device.type, enabled=False):
            positive = (anchor * pool.own).sum(dim=1)
            noise = (anchor @ pool.others.T).masked_fill(pool.same | pool.absent, -torch.inf)
        count = mean(both.sum().float()).clamp_min(1 / world_size())
        return Scores(positive, noise, (both / count).to(positive.dtype))

    def _contrast(self, scores: Scores, number: int) -> Contrast:
        tau, samples = self.config.temperature, self.data.samples
        if self.config.loss == "info_nce":
            return softmax_nce(scores, tau)
        if self.training and bool(self.log_z[number].isnan()):  # the first batch with both views fixes Z
            self.log_z[number] = log_normaliser(scores, tau, samples)
        return nce(scores, tau, self.log_z[number].nan_to_num(), samples)

    def _parts(self, contrasts: list[Contrast]) -> dict[str, Tensor]:
        """Means over the ordered pairs, and the loss of each pair."""
        losses = {
            f"loss_{i}_{j}": contrasts[2 * number].loss.detach() + contrasts[2 * number + 1].loss.detach()
            for number, (i, j) in enumerate(self.pairs)
        }
        watched = [contrast.parts() for contrast in contrasts]
        return {key: torch.stack([part[key] for part in watched]).mean() for key in watched[0]} | losses

    def after_step(self, progress: float) -> None:
        if self._seen:
            z = {name: torch.cat([seen[0][name] for seen in self._seen]) for name in self.names}
            ids, present = (torch.cat([seen[k] for seen in self._seen]) for k in (1, 2))  # type: ignore[misc]
            self.negatives.remember(z, ids, present)
            self._seen.clear()
        self._steps += 1
        if self._steps % CHECK_EVERY == 0:
            self.negatives.check_ranks_agree()
