"""CRW: Space-Time Correspondence as a Contrastive Random Walk (Jabri, Owens and Efros, NeurIPS 2020)."""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmssl.errors import MmsslError
from mmssl.losses.random_walk import cycle_loss, returned, round_trips, transition
from mmssl.methods.base import Answers, DataInfo, Loss, Method, MethodConfig
from mmssl.models.batch_norm import Normalisation, globalise
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder, timm_arguments
from mmssl.stream.batch import Batch
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.views.base import View
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.nodes import NodesView

SHORTEST = 2
"""Steps ahead of the shortest walk in the loss. The paper's sum begins at 1; the released code, whose weights
the published figures are those of, at 2."""


class CRWConfig(MethodConfig):
    name: Literal["crw"] = "crw"
    encoder: EncoderConfig = EncoderConfig(name="resnet18_stride8", image_size=256)
    """``image_size`` is that of a frame. What a recipe leaves out keeps these values."""
    nodes: Literal["patches", "cells"] = "patches"
    """What a walk steps on: patches of a grid, each encoded on its own, or the cells of a frame's map."""
    frames: int = Field(4, ge=SHORTEST + 1)
    """T: frames of a clip."""
    stride: PositiveFloat = 1 / 8
    """Seconds from one frame to the next."""
    patch: PositiveInt = 64
    """Side of a patch in pixels."""
    step: PositiveInt = 32
    """Pixels from one patch to the next: 7×7 of 64 pixels in a frame of 256."""
    area: tuple[PositiveFloat, PositiveFloat] = (0.7, 0.9)
    """Smallest and largest share of a patch that is shown, drawn for each patch of each frame."""
    width: PositiveInt = 128
    """Dimensions in which nodes are compared."""
    temperature: PositiveFloat = 0.05
    """τ: 0.05 in the command that trained the released weights, 0.07 by default in its code."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """δ: share of edges that a walk may not take."""
    augmentation: ClipAugmentation | None = ClipAugmentation(
        scale=(0.5, 1.0), brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, blur=0.0
    )
    """One crop and flip for all frames of a clip; what a recipe leaves out keeps these values. None is the
    centre of each frame, unchanged (the released code takes whole frames)."""
    batch_norm: Normalisation = "local"
    """``local``: statistics of each process's own batch, as released; ``sync``: of the global batch."""

    @field_validator("encoder", mode="before")
    @classmethod
    def _on_top_of_the_papers(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        default: EncoderConfig = cls.model_fields["encoder"].default
        return default.model_dump(include={"name", "image_size"}) | value


class CRW(Method):
    """A walk from a patch through the next frames and back ought to end at the patch where it began.

    batch.clip    patches: {"nodes": (B, T, N, 3, p, p) float32}; cells: {"frames": (B, T, 3, S, S) float32}
    q             (B, T, N, d) unit vectors, of pooled patches or of cells, after one linear layer
    total         mean over k = 2 … T − 1 and nodes of −log P_k(i returns to i), P_k = A₀⋯A_{k−1} Ā_{k−1}⋯Ā₀

    Walks stay within a clip, so nothing crosses ranks.
    """

    Config = CRWConfig
    config: CRWConfig

    def __init__(self, config: CRWConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        if config.nodes == "patches" and "img_size" in timm_arguments(config.encoder):
            raise MmsslError(
                f"crw: nodes: {config.encoder.name} takes images of one size only; expected cells"
            )
        self.encoder = build_encoder(config.encoder)
        self.head = nn.Linear(self.encoder.dim, config.width)
        if config.batch_norm == "sync":
            globalise(self)

    @property
    def views(self) -> Mapping[str, View]:
        c, e = self.config, self.encoder
        sampler = Blocks(1, c.frames, c.stride)
        seen = (sampler, e.image_size, e.mean, e.std)
        if c.nodes == "cells":
            return {"clip": ClipView(*seen, augmentation=c.augmentation)}
        return {"clip": NodesView(*seen, c.patch, c.step, c.area, c.augmentation)}

    def embed(self, clip: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features h (B, T, N, dim) and unit vectors q (B, T, N, d) of all nodes, row by row of the grid."""
        if self.config.nodes == "cells":
            frames = clip["frames"]
            h = self.encoder.feature_map(frames.flatten(0, 1)).flatten(2).mT.unflatten(0, frames.shape[:2])
        else:
            nodes = clip["nodes"]
            h = self.encoder(nodes.flatten(0, 2)).unflatten(0, nodes.shape[:3])
        return h, normalize(self.head(h).float(), dim=-1)

    def forward(self, batch: Batch) -> Loss:
        h, q = self.embed(batch.clip)
        walks = dict(enumerate(round_trips(q, self.config.temperature, self._dropout), 1))
        losses = {k: cycle_loss(p) for k, p in walks.items()}
        total = torch.stack([loss for k, loss in losses.items() if k >= SHORTEST]).mean()
        parts = {f"loss_{k}": loss.detach() for k, loss in losses.items()}
        parts |= {f"cycle_{k}": returned(p.detach()).mean() for k, p in walks.items()}
        return Loss(total, parts, h[:, 0].detach().flatten(0, 1))

    @property
    def _dropout(self) -> float:
        return self.config.dropout if self.training else 0.0

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """Does the likeliest walk of k frames ahead and back end where it began? Edges are all there."""
        _, q = self.embed(batch.clip)
        nodes, stride = q.shape[2], self.config.stride
        asked = f"one of {nodes} {self.config.nodes} of a frame; k frames ahead, {stride:g} s each, and back"
        walks = enumerate(round_trips(q, self.config.temperature), 1)
        told = partial(Answers, protocol=asked, chance=1 / nodes, curve="cycle", axis="frames ahead")
        return {f"cycle_{k}": told(returned(p).flatten(), at=float(k)) for k, p in walks}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The patches of the first clip's first frame, and those of its last that they are likeliest at."""
        if self.config.nodes == "cells":
            return {}
        _, q = self.embed({"nodes": batch.clip["nodes"][:1]})
        walk, nodes = torch.eye(q.shape[2], device=q.device), batch.clip["nodes"][0].float()
        for here, after in pairwise(q[0]):
            walk = walk @ transition(here, after, self.config.temperature)
        mean, std = (nodes.new_tensor(x).view(3, 1, 1) for x in (self.encoder.mean, self.encoder.std))
        return {
            name: (patches * std + mean).clamp(0, 1)
            for name, patches in {"patch": nodes[0], "found": nodes[-1, walk.argmax(dim=1)]}.items()
        }
