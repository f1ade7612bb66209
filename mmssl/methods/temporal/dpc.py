"""DPC: Video Representation Learning by Dense Predictive Coding (Han, Xie and Zisserman, ICCVW 2019)."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from mmssl.losses.predictive import Pool
from mmssl.methods.base import Answers, DataInfo, Loss, Method
from mmssl.methods.predictive import Ahead, ask_ahead, build_pool, parts
from mmssl.methods.temporal.blocks import BlocksConfig, about, block_view, spans
from mmssl.models.clip import ClipEncoder, build_clip_encoder
from mmssl.models.clip.dense_recurrent import DenseRecurrent, DenseRecurrentConfig
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View


class DPCConfig(BlocksConfig):
    name: Literal["dpc"] = "dpc"
    encoder: DenseRecurrentConfig = DenseRecurrentConfig()
    """8 blocks of 5 frames every 0.1 s; the last ``steps`` of them are predicted from the others."""


class DPC(Method):
    """From what was seen, every place of the next blocks' maps has to be told from all places of all of them.

    batch.clip    {"frames": (B, N·n, 3, S, S) float32, "times": (B, N·n) float64}: N blocks of n frames
    z             (B, N, d, h, w) a map of each block, before its ReLU: the last P of them are the targets
    c             (B, d, h, w) the ConvGRU's state; it takes in relu(z), and then relu of its own predictions
    total         InfoNCE of φ(c) and z of the same step and place, mean over samples, steps and places

    Candidates are all steps and places of the samples of all ranks; (world·B·P·h·w)² / world scores a rank.
    """

    Config = DPCConfig
    config: DPCConfig

    def __init__(self, config: DPCConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        encoder = build_clip_encoder(config.encoder)
        assert isinstance(encoder, DenseRecurrent)
        self.encoder = encoder
        d = encoder.dim
        self.phi = nn.Sequential(nn.Conv2d(d, d, 1), nn.ReLU(inplace=True), nn.Conv2d(d, d, 1))

    @property
    def views(self) -> Mapping[str, View]:
        return {"clip": block_view(self.encoder, self.config.augmentation)}

    def forward(self, batch: Batch) -> Loss:
        aheads, pool, c = self.predict(batch)
        steps = [(ahead.steps, self.config.nce(ahead.predicted, ahead.target, pool)) for ahead in aheads]
        total = torch.stack([step.loss for _, step in steps]).mean()
        return Loss(total, parts(steps), c.detach().mean(dim=(2, 3)))

    def predict(self, batch: Batch) -> tuple[list[Ahead], Pool, Tensor]:
        """What is predicted for each step and place, the candidates, and c after the blocks seen."""
        seen = self.encoder.blocks - self.config.steps
        z = self.encoder.encode(batch.clip["frames"])
        places = z.shape[3] * z.shape[4]
        where = spans(batch.clip["times"], self.encoder.blocks)[:, seen:]
        pool = build_pool(cells(z[:, seen:]), batch.id, where, places)  # negatives cross ranks
        first = c = self.encoder.context(z[:, :seen])
        aheads, every = [], torch.arange(places, device=z.device)
        for k in range(1, self.config.steps + 1):
            predicted = self.phi(c)
            aheads.append(Ahead(k, cells(predicted[:, None]), every + (k - 1) * places))
            if k < self.config.steps:
                c = self.encoder.g(relu(predicted), c)
        return aheads, pool, first

    def encoders(self) -> Mapping[str, ClipEncoder]:
        return {"clip": self.encoder}

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        aheads, pool, _ = self.predict(batch)
        words = f"one place of the map of a {about(self.encoder.f.frames, self.encoder.step)}"
        return ask_ahead(self.config, aheads, pool, batch.id, words, "blocks ahead")


def cells(maps: Tensor) -> Tensor:
    """Maps (B, P, d, h, w) to vectors (B, P·h·w, d): steps first, then places."""
    return maps.flatten(3).transpose(2, 3).flatten(1, 2)
