"""CPC: Representation Learning with Contrastive Predictive Coding (van den Oord, Li and Vinyals, 2018).

The paper has no experiment on video; blocks and steps are those of its sibling DPC (Han et al., ICCVW 2019).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from mmssl.losses.predictive import Pool
from mmssl.methods.base import Answers, DataInfo, Loss, Method
from mmssl.methods.predictive import Ahead, ask_ahead, build_pool, parts
from mmssl.methods.temporal.blocks import BlocksConfig, about, block_view, spans
from mmssl.models.clip import ClipEncoder, build_clip_encoder
from mmssl.models.clip.frame_net import FrameNetConfig
from mmssl.models.clip.frames import FramesConfig
from mmssl.models.clip.recurrent import Recurrent, RecurrentConfig
from mmssl.models.encoder import EncoderConfig
from mmssl.models.heads import step_predictors
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View

# GroupNorm: a BatchNorm's statistics are shared by a context and its target, and tell the batch apart
_IMAGE = EncoderConfig(name="resnet18", image_size=128, kwargs={"norm_layer": "groupnorm"})


class CPCConfig(BlocksConfig):
    name: Literal["cpc"] = "cpc"
    encoder: RecurrentConfig = RecurrentConfig(
        blocks=8, block=FramesConfig(net=FrameNetConfig(encoder=_IMAGE, width=256), frames=5, stride=0.1)
    )
    """g_enc for one block, g_ar over the blocks; 8 blocks of 5 frames every 0.1 s are about four seconds."""


class CPC(Method):
    """What is seen until t has to tell the block k steps later from other blocks, for every t and k.

    batch.clip    {"frames": (B, N·n, 3, S, S) float32, "times": (B, N·n) float64}: N blocks of n frames
    z_t           (B, N, d) one block each;  c_t = g_ar(z_1 … z_t)  (B, N, context)
    total         mean over k of the InfoNCE of W_k c_t and z_{t+k} (equation 4), mean over samples and t

    Every k weighs the same, though only N − k values of t have a target k steps ahead. Candidates are the
    blocks of all ranks.
    """

    Config = CPCConfig
    config: CPCConfig

    def __init__(self, config: CPCConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        encoder = build_clip_encoder(config.encoder)
        assert isinstance(encoder, Recurrent)
        self.encoder = encoder
        self.W = step_predictors(encoder.dim, encoder.g_enc.dim, config.steps)

    @property
    def views(self) -> Mapping[str, View]:
        return {"clip": block_view(self.encoder, self.config.augmentation)}

    def forward(self, batch: Batch) -> Loss:
        c, pool = self.encode(batch)
        steps = [(k, self.config.nce(predicted, ahead, pool)) for k, predicted, ahead in self.predict(c)]
        total = torch.stack([step.loss for _, step in steps]).mean()
        return Loss(total, parts(steps), c[:, -1].detach())

    def encode(self, batch: Batch) -> tuple[Tensor, Pool]:
        """c (B, N, context), and all z as candidates."""
        z = self.encoder.encode(batch.clip["frames"])
        where = spans(batch.clip["times"], self.encoder.blocks)
        return self.encoder.contexts(z), build_pool(z, batch.id, where)  # negatives cross ranks

    def predict(self, c: Tensor) -> list[Ahead]:
        """W_k c_t (B, N − k, d) for each k, and which block t + k it is about."""
        n = c.shape[1]
        return [
            Ahead(k, W(c[:, : n - k]), torch.arange(k, n, device=c.device))
            for k, W in enumerate(self.W, start=1)
        ]

    def encoders(self) -> Mapping[str, ClipEncoder]:
        return {"clip": self.encoder}

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        c, pool = self.encode(batch)
        words = about(self.encoder.g_enc.frames, self.encoder.step)
        return ask_ahead(self.config, self.predict(c), pool, batch.id, words, "blocks ahead")
