"""A method of two towers with everything that makes a second pass go wrong, and its loss written out by hand.

Dropout, dropped paths and numbers from numpy and random in the towers; a logit scale that only the loss uses,
and a shift that both towers and loss use.
"""

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mmssl import distributed
from mmssl.methods.base import DataInfo, Loss, Method, MethodConfig
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View

WIDTH = 12


class TwoTowersConfig(MethodConfig):
    name: str = "two_towers"
    dropout: float = 0.3
    batch_norm: bool = False


class Tower(nn.Module):
    def __init__(self, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(WIDTH) if batch_norm else nn.LayerNorm(WIDTH)
        self.layers = nn.Sequential(nn.Linear(192, WIDTH, bias=False), norm, nn.GELU(), nn.Dropout(dropout))
        self.branch = nn.Linear(WIDTH, WIDTH)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers(x.flatten(1))
        kept = torch.rand(len(h), 1, dtype=h.dtype) >= self.dropout  # stochastic depth, sample by sample
        noise = 1 + self.dropout * (random.random() + float(np.random.rand()))
        return h + kept * self.branch(h) * noise


class TwoTowers(Method):
    Config = TwoTowersConfig
    config: TwoTowersConfig

    def __init__(self, config: TwoTowersConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.image = Tower(config.dropout, config.batch_norm)
        self.text = Tower(config.dropout, config.batch_norm)
        self.shift = nn.Parameter(torch.full((WIDTH,), 0.1))
        self.logit_scale = nn.Parameter(torch.tensor(1.5))
        self.encoder = build_encoder(
            EncoderConfig(
                name="vit_tiny_patch16_224",
                image_size=8,
                kwargs={"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2},
            )
        ).requires_grad_(False)

    @property
    def views(self) -> Mapping[str, View]:
        return {}

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        image = self.image(batch.image) + self.shift
        text = self.text(batch.image.flip(-1)) - self.shift
        return {"image": unit(image), "text": unit(text), "number": batch.id, "features": image.detach()}

    def loss_of(self, embeddings: dict[str, Tensor], batch: Batch) -> Loss:
        assert torch.equal(embeddings["number"], batch.id)
        image, text = unit(embeddings["image"] + self.shift), embeddings["text"]
        everyone = [distributed.gather(x) for x in (image, text)]
        own = torch.arange(len(image)) + distributed.rank() * len(image)
        scale = self.logit_scale.exp()
        by_image, by_text = scale * image @ everyone[1].T, scale * text @ everyone[0].T
        total = (cross_entropy(by_image, own) + cross_entropy(by_text, own)) / 2
        parts = {"negatives": torch.tensor(float(len(everyone[1]) - 1))}
        return Loss(total, parts, embeddings["features"].detach())

    def forward(self, batch: Batch) -> Loss:
        return self.loss_of(self.embed(batch), batch)

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}


def unit(x: Tensor) -> Tensor:
    return normalize(x, dim=-1)


def by_hand(method: TwoTowers, image: Tensor, text: Tensor) -> Tensor:
    """The loss of a whole batch on one process, pair by pair, from what ``embed`` gives."""
    similarity = method.logit_scale.exp() * unit(image + method.shift) @ text.T
    rows = similarity.diagonal() - similarity.logsumexp(dim=1)
    columns = similarity.diagonal() - similarity.logsumexp(dim=0)
    return -(rows + columns).mean() / 2
