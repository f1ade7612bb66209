"""CoCLR: Self-supervised Co-Training for Video Representation Learning (Han et al., NeurIPS 2020)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.config import Config
from mmssl.distributed import gather, rank
from mmssl.losses.multi_instance import multi_instance_nce
from mmssl.methods.base import Answers, DataInfo, Loss, Method, MethodConfig
from mmssl.methods.image.moco import keys_of_all
from mmssl.models.batch_norm import globalise
from mmssl.models.clip import ClipConfig, ClipEncoder, build_clip_encoder
from mmssl.models.clip.video_net import VideoNetConfig
from mmssl.models.heads import mlp
from mmssl.models.momentum import follow, momentum_copy
from mmssl.models.queue import OwnedQueue, Queue
from mmssl.stream.batch import Batch
from mmssl.stream.views.aligned_clips import AlignedClips
from mmssl.stream.views.base import View
from mmssl.stream.views.clip_augmentation import ClipAugmentation
from mmssl.stream.views.shown import Shown


class SiblingConfig(Config):
    """The other view of the same videos, and the frozen encoder that says which of them are alike in it."""

    encoder: ClipConfig = VideoNetConfig(name="s3d", sees="flow", frames=32, stride=0.04, image_size=128)
    """Its ``weights`` are those of an earlier stage that was trained on that view."""
    field: str | None = None
    """The sample's field, where it is not called like the modality."""


class CoCLRConfig(MethodConfig):
    name: Literal["coclr"] = "coclr"
    encoder: ClipConfig = VideoNetConfig(name="s3d", frames=32, stride=0.04, image_size=128)
    """Of the view that is trained; in the stages of co-training its ``weights`` are an earlier stage's."""
    field: str | None = None
    """The sample's field, where it is not called like the modality: ``flow_backward``."""
    sibling: SiblingConfig | None = None
    mine: PositiveInt | None = None
    """Positives that the sibling finds for each clip (5 in the paper); without it, InfoNCE on one view."""
    temperature: PositiveFloat = 0.07
    """τ."""
    queue: PositiveInt = 2048
    """K, keys that clips are compared with (16384 for Kinetics)."""
    dim: PositiveInt = 128
    """Of the keys, behind a head with one hidden layer as wide as the features."""
    momentum: float = Field(0.999, ge=0, le=1)
    batch_norm: Literal["shuffle", "sync", "local"] = "shuffle"
    """As MoCo's: keys are normalised in groups permuted over all ranks, together, or as they come."""
    key_groups: PositiveInt = 2
    """With ``shuffle``: groups in which each process normalises its keys."""
    augmentation: ClipAugmentation = ClipAugmentation(
        scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
    )
    """Of flow the crop and the flip alone."""

    @model_validator(mode="after")
    def _together(self) -> "CoCLRConfig":
        if (self.mine is None) != (self.sibling is None):
            raise ValueError("mine, sibling: expected both (co-training) or neither (InfoNCE on one view)")
        if self.mine is not None and self.mine > self.queue:
            raise ValueError(f"mine: expected at most the queue's {self.queue}, found {self.mine}")
        return self


class CoCLR(Method):
    """A clip finds another clip of its video in a queue, and the clips that the other view says are like it.

    Stages take turns: InfoNCE on each view, then each view with the other one's encoder, frozen, as its
    sibling. Co-training is this method with ``mine``; the cycle is a recipe's stages.

    batch.query   own (B, T, C, S, S) float32
    batch.key     own: a second clip of each video; sibling: the same moment and crop in the other view
    total         multi-instance InfoNCE of the query against its key and the K keys of the queue

    Positives are the own key, older keys of the same video (with a queue longer than a pass), and the
    ``mine`` keys whose siblings are most like the own key's sibling, once the queue is full; keys of the same
    video are never mined. Siblings are compared by their pooled features, and a stage trains a new head: an
    encoder's folder holds no head, where the paper's checkpoints carry theirs on.
    """

    Config: ClassVar[type[MethodConfig]] = CoCLRConfig
    any_sight: ClassVar[bool] = True
    config: CoCLRConfig

    def __init__(self, config: CoCLRConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_clip_encoder(config.encoder)
        self.head = mlp((self.encoder.dim, self.encoder.dim, config.dim), hidden_norm=False)
        if config.batch_norm == "sync":
            globalise(self)
        self.encoder_k, self.head_k = momentum_copy(self.encoder), momentum_copy(self.head)
        self.queue = OwnedQueue(config.queue, config.dim)
        self.sibling: ClipEncoder | None = None
        if config.sibling is not None:
            self.sibling = build_clip_encoder(config.sibling.encoder).requires_grad_(False).eval()
            self.sibling_queue = Queue(config.queue, self.sibling.dim)
        self._new: list[list[Tensor]] = []

    def train(self, mode: bool = True) -> "CoCLR":
        super().train(mode)
        if self.sibling is not None:
            self.sibling.eval()  # its statistics are those it was trained with
        return self

    @property
    def views(self) -> Mapping[str, View]:
        c = self.config
        query = {"own": Shown.to(self.encoder, video=True, field=c.field)}
        key = dict(query)
        if self.sibling is not None and c.sibling is not None:
            key["sibling"] = Shown.to(self.sibling, video=True, field=c.sibling.field)
        return {"query": AlignedClips(query, c.augmentation), "key": AlignedClips(key, c.augmentation)}

    def forward(self, batch: Batch) -> Loss:
        h = self.encoder(batch.query["own"])
        q = normalize(self.head(h).float(), dim=1)
        keys = self._keys(batch)  # of all ranks, without gradient
        positive = self.same_video(batch)
        new, watched = [keys, gather(batch.id, gradient=False)], {"queue_age": self.queue.age()}
        if self.sibling is not None:
            s = self.look_at_siblings(batch)
            mined = self.mined(s, positive)
            positive, watched["mined"] = positive | mined, mined.sum(1).float().mean()
            new.append(gather(s, gradient=False))
        k = keys[rank() * len(q) :][: len(q)]
        contrast = multi_instance_nce(q, k, self.queue.keys, positive, self.config.temperature)
        if self.training:
            self._new.append(new)
        return Loss(contrast.loss, contrast.parts() | watched, h.detach())

    def _keys(self, batch: Batch) -> Tensor:
        groups = self.config.key_groups if self.config.batch_norm == "shuffle" else None
        return keys_of_all(self._encode_keys, batch.key["own"], batch.id, self.queue.pushed, groups)

    def _encode_keys(self, x: Tensor) -> Tensor:
        return normalize(self.head_k(self.encoder_k(x)).float(), dim=1)

    def same_video(self, batch: Batch) -> Tensor:
        """(B, K) bool: which keys of the queue are of an anchor's own video."""
        return batch.id[:, None] == self.queue.ids

    @torch.no_grad()
    def look_at_siblings(self, batch: Batch) -> Tensor:
        """(B, d) float32 unit vectors: the frozen features of the keys' other view."""
        assert self.sibling is not None
        return normalize(self.sibling(batch.key["sibling"]).float(), dim=1)

    @torch.no_grad()
    def mined(self, s: Tensor, own: Tensor) -> Tensor:
        """(B, K) bool: the ``mine`` keys whose siblings are most like ``s`` (B, d), but none of ``own``."""
        assert self.config.mine is not None
        similarity = (s @ self.sibling_queue.keys.T).masked_fill(own, -torch.inf)
        found, slots = similarity.topk(self.config.mine, dim=1)
        full = (self.queue.ids >= 0).all()
        return torch.zeros_like(own).scatter_(1, slots, full & found.isfinite())

    def after_step(self, progress: float) -> None:
        follow(self.encoder_k, self.encoder, self.config.momentum)
        follow(self.head_k, self.head, self.config.momentum)
        if self._new:
            keys, ids, *siblings = (torch.cat(parts) for parts in zip(*self._new, strict=True))
            self.queue.push_of(keys, ids)
            for s in siblings:
                self.sibling_queue.push(s)
            self._new.clear()

    def encoders(self) -> Mapping[str, ClipEncoder]:
        return {getattr(self.config.encoder, "sees", "rgb"): self.encoder}

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """Is the own second clip the most similar one of the batch's?"""
        q = normalize(self.head(self.encoder(batch.query["own"])).float(), dim=1)
        k = self._encode_keys(batch.key["own"])
        right = (q @ k.T).argmax(1) == torch.arange(len(q), device=q.device)
        words = "the other clip of the same video nearest by cosine among the batch's"
        return {"same video": Answers(right.float(), words, chance=1 / len(q))}
