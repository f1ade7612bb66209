"""CPC: Representation Learning with Contrastive Predictive Coding (van den Oord, Li and Vinyals, 2018).

The paper has no experiment on video; blocks and steps are those of its sibling DPC (Han et al., ICCVW 2019).
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import PositiveInt, field_validator, model_validator
from torch import Tensor

from mmssl.methods.base import Answers, DataInfo, Loss, Method
from mmssl.methods.predictive import Ahead, PredictiveConfig, ask_ahead, build_pool, parts
from mmssl.models.clip import ClipEncoder, build_clip_encoder
from mmssl.models.clip.frame_net import FrameNetConfig
from mmssl.models.clip.frames import FramesConfig
from mmssl.models.clip.recurrent import Recurrent, RecurrentConfig
from mmssl.models.encoder import EncoderConfig
from mmssl.models.heads import step_predictors
from mmssl.stream.batch import Batch
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.views.base import View
from mmssl.stream.views.clip import ClipAugmentation, ClipView

# GroupNorm: a BatchNorm's statistics are shared by a context and its target, and tell the batch apart
_IMAGE = EncoderConfig(name="resnet18", image_size=128, kwargs={"norm_layer": "groupnorm"})


class CPCConfig(PredictiveConfig):
    name: Literal["cpc"] = "cpc"
    encoder: RecurrentConfig = RecurrentConfig(
        blocks=8, block=FramesConfig(net=FrameNetConfig(encoder=_IMAGE, width=256), frames=5, stride=0.1)
    )
    """g_enc for one block, g_ar over the blocks; 8 blocks of 5 frames every 0.1 s are about four seconds."""
    steps: PositiveInt = 3
    """K: predict z_{t+1} … z_{t+K}, half a second each by default."""
    augmentation: ClipAugmentation | None = ClipAugmentation(
        scale=(0.4, 1.0),
        brightness=0.5,
        contrast=0.5,
        saturation=0.5,
        hue=0.25,
        grey=0.5,
        blur=0.0,
        colour="frame",
    )
    """Of the whole sequence; what a recipe leaves out keeps these values."""

    @field_validator("augmentation", mode="before")
    @classmethod
    def _on_top_of_ours(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return cls.model_fields["augmentation"].default.model_dump() | value
        return value

    @model_validator(mode="after")
    def _something_to_predict(self) -> "CPCConfig":
        if self.steps >= self.encoder.blocks:
            raise ValueError(f"steps: expected fewer than encoder.blocks ({self.encoder.blocks})")
        return self


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
        e, block = self.encoder, self.encoder.g_enc
        sampler = Blocks(e.blocks, block.frames, block.stride)
        return {"clip": ClipView(sampler, e.image_size, e.mean, e.std, self.config.augmentation)}

    def forward(self, batch: Batch) -> Loss:
        z = self.encoder.encode(batch.clip["frames"])
        c = self.encoder.contexts(z)
        pool = build_pool(z, batch.id, self.spans(batch.clip["times"]))  # negatives cross ranks
        steps = [(k, self.config.nce(predicted, ahead, pool)) for k, predicted, ahead in self.predict(c)]
        total = torch.stack([step.loss for _, step in steps]).mean()
        return Loss(total, parts(steps), c[:, -1].detach())

    def predict(self, c: Tensor) -> list[Ahead]:
        """W_k c_t (B, N − k, d) for each k, and which block t + k it is about."""
        n = c.shape[1]
        return [
            Ahead(k, W(c[:, : n - k]), torch.arange(k, n, device=c.device))
            for k, W in enumerate(self.W, start=1)
        ]

    def spans(self, times: Tensor) -> Tensor:
        """(B, N, 2) first and last time of each block."""
        return times.unflatten(1, (self.encoder.blocks, -1))[:, :, [0, -1]]

    def encoders(self) -> Mapping[str, ClipEncoder]:
        return {"clip": self.encoder}

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        z = self.encoder.encode(batch.clip["frames"])
        pool = build_pool(z, batch.id, self.spans(batch.clip["times"]))
        words = f"block of {self.encoder.g_enc.frames} frames, k steps of {self.encoder.step:g} s ahead"
        return ask_ahead(self.config, self.predict(self.encoder.contexts(z)), pool, batch.id, words)
