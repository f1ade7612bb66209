"""TCN: Time-Contrastive Networks (Sermanet et al., ICRA 2018), from one camera or from several."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.distributed import gather, mean, rank
from mmssl.losses.n_pairs import n_pairs, paired_info_nce
from mmssl.losses.triplet import semi_hard_triplet
from mmssl.methods.base import Answers, DataInfo, Loss, Method, MethodConfig
from mmssl.models.batch_norm import Normalisation, globalise
from mmssl.models.clip import ClipEncoder, FramesConfig, build_clip_encoder
from mmssl.models.clip.frame_net import FrameNetConfig
from mmssl.models.encoder import EncoderConfig
from mmssl.stream.batch import Batch
from mmssl.stream.clips.moments import Window
from mmssl.stream.clips.pairs import LeadingUp, Pairs
from mmssl.stream.views.base import View
from mmssl.stream.views.cameras import CamerasView
from mmssl.stream.views.clip import ClipAugmentation

_SLACK = 1e-6
"""Seconds: rounding in timestamps."""

_NET = FrameNetConfig(
    encoder=EncoderConfig(kwargs={"output_stride": 8}),
    pool="spatial_softmax",
    convolutions=(512, 512),
    hidden=2048,
    width=32,
)


class TCNConfig(MethodConfig):
    name: Literal["tcn"] = "tcn"
    views: Literal["single", "multi"] = "multi"
    """``multi``: the positive is another camera's frame of the same instant (section III-A); ``single``: it
    is a frame of the same camera at most ``positive_radius`` away (section III-B)."""
    loss: Literal["triplet", "n_pairs", "info_nce"] = "n_pairs"
    """The paper's triplet; n-pairs, its follow-ups' choice; InfoNCE. All compare across ranks."""
    cameras: tuple[str, ...] = ("video", "video_right")
    """Video fields. ``multi`` draws two of them for each sequence, ``single`` one."""
    encoder: FramesConfig = FramesConfig(net=_NET, fuse="concat")
    """Convolutions, spatial softmax and 32 dimensions on a ResNet whose cells are 8 pixels apart, as those of
    the paper's Inception; what a recipe leaves out of it or of its ``net`` stays. ``frames`` > 1: mfTCN."""
    moments: PositiveInt = 16
    """Anchors of one sequence in a batch, each with its positive: 32 images, as in the paper's code."""
    window: PositiveFloat = 20.0
    """Seconds that the moments of a sequence are drawn from."""
    positive_radius: PositiveFloat = 0.2
    """Seconds. In ``multi`` it plays no part in the loss and is the tolerance of ``pretext``."""
    negative_radius: float | None = Field(None, ge=0)
    """Frames of a sequence farther apart than this many seconds are negatives. By default twice the positive
    radius in ``single``, and in ``multi`` 0: every other moment."""
    margin: PositiveFloat = 0.2
    """Of the triplet loss."""
    temperature: PositiveFloat = 0.1
    """τ of InfoNCE."""
    penalty: float = Field(0.002, ge=0)
    """λ of n-pairs."""
    motion_gate: float = Field(0.1, ge=0, le=1)
    """A moment whose motion is below this share of what the video moves at its busiest (0.9 quantile) is no
    anchor: where nothing moves, negatives look like positives. 0 is no gate."""
    augmentation: ClipAugmentation | None = ClipAugmentation(
        scale=(0.8, 1.0), flip=0.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.0, blur=0.0,
        colour="frame",
    )  # fmt: skip
    """Of each camera on its own; no flip, because left and right are part of what is to be told. What a
    recipe leaves out stays."""
    batch_norm: Normalisation = "sync"
    """``sync``: statistics of the global batch; ``local``: of each process's own."""

    @field_validator("encoder", mode="before")
    @classmethod
    def _on_top_of_the_papers(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        default: FramesConfig = cls.model_fields["encoder"].default
        net = value.get("net", {})
        merged = default.net.model_dump() | net if isinstance(net, dict) else net
        return default.model_dump() | value | {"net": merged}

    @model_validator(mode="after")
    def _fits(self) -> "TCNConfig":
        if len(set(self.cameras)) < len(self.cameras) or len(self.cameras) < self.shown:
            raise ValueError(f"cameras: expected at least {self.shown} different fields for {self.views}")
        if self.views == "single" and self.apart < self.positive_radius:
            raise ValueError("negative_radius: expected at least the positive_radius")
        return self

    @property
    def shown(self) -> int:
        """Cameras that a sample of a batch shows."""
        return 2 if self.views == "multi" else 1

    @property
    def apart(self) -> float:
        """The negative radius in seconds."""
        if self.negative_radius is not None:
            return self.negative_radius
        return 0.0 if self.views == "multi" else 2 * self.positive_radius

    @property
    def together(self) -> float:
        """How far apart in seconds two frames may be that are a positive pair."""
        return 0.0 if self.views == "multi" else self.positive_radius


class Moments(NamedTuple):
    """Where n embeddings come from; the number of a pair in its sequence plays no part."""

    sequence: Tensor
    """(n,) int64."""
    time: Tensor
    """(n,) float64 seconds."""

    def relations(self, others: "Moments", together: float, apart: float) -> tuple[Tensor, Tensor]:
        """Positive and negative, each (n, m) bool: what every one of ``others`` is to each of these."""
        same = self.sequence[:, None] == others.sequence
        gap = (self.time[:, None] - others.time).abs()
        return same & (gap <= together + _SLACK), ~same | (gap > apart + _SLACK)


class TCN(Method):
    """What shows the same moment attracts; other moments of the sequence, and other sequences, repel.

    batch.clip    as CamerasView gives it; frames (B, 2, M·F, 3, S, S), with one camera (B, 1, 2·M·F, 3, S, S)
    total         triplet (all frames are anchors), n-pairs or InfoNCE (the first of each pair is), the mean
                  over the anchors of all ranks; candidates are gathered from all ranks
    """

    Config = TCNConfig
    config: TCNConfig

    def __init__(self, config: TCNConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_clip_encoder(config.encoder)
        if config.batch_norm == "sync":
            globalise(self)

    @property
    def views(self) -> Mapping[str, View]:
        c, e = self.config, self.encoder
        anchors = Window(c.moments, c.window)
        pairs = Pairs(anchors, c.positive_radius) if c.views == "single" else anchors
        sampler = LeadingUp(pairs, e.frames, e.stride)
        view = CamerasView(
            c.cameras, c.shown, sampler, e.image_size, e.mean, e.std, c.augmentation, c.motion_gate
        )
        return {"clip": view}

    def embed(self, clip: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, 2, M, d), their times (B, 2, M), and whether anything moves there (B, 2, M)."""
        frames = clip["frames"].flatten(1, 2).unflatten(1, (-1, self.encoder.frames))
        z = self.encoder(frames.flatten(0, 1)).float()
        if self.config.loss != "n_pairs":
            z = normalize(z, dim=-1)
        # a moment is the last of its frames; two cameras share the first one's clock
        moments = slice(self.encoder.frames - 1, None, self.encoder.frames)
        times, moving = clip["times"][:, 0, moments], clip["moving"][:, moments]
        if self.config.views == "multi":
            times, moving = times.repeat(1, 2), moving.repeat(1, 2)
        pairs = (len(times), 2, -1)
        return z.reshape(*pairs, z.shape[1]), times.reshape(pairs), moving.reshape(pairs)

    def forward(self, batch: Batch) -> Loss:
        z, times, moving = self.embed(batch.clip)
        sequences = batch.clip["sequence"][:, None, None].expand_as(times)
        every_z, every = gather(z), Moments(gather(sequences), gather(times))  # negatives cross ranks
        # all frames are anchors of triplets; elsewhere the first of each pair is compared with all the second
        triplet = self.config.loss == "triplet"
        first, second = (slice(None), slice(None)) if triplet else (slice(0, 1), slice(1, 2))
        a, p, c = (x.flatten(0, 2) for x in (z[:, first], z[:, 1:], every_z[:, second]))
        own = Moments(sequences[:, first].flatten(), times[:, first].flatten())
        others = Moments(*(x[:, second].flatten() for x in every))
        positive, negative = own.relations(others, self.config.together, self.config.apart)
        positive &= moving[:, first].flatten()[:, None]
        if triplet:
            row = torch.arange(len(a), device=a.device)
            positive[row, row + rank() * len(a)] = False  # no frame is its own positive
        total, count, parts = self._contrast(a, p, c, positive, negative)
        # averaged over ranks this is the mean over the anchors of all ranks, however unevenly they fell
        total = total * (count / mean(count).clamp_min(1e-12))
        return Loss(total, parts | _watch(batch.clip, times, moving), z.detach().flatten(0, 2))

    def _contrast(
        self, a: Tensor, p: Tensor, c: Tensor, positive: Tensor, negative: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss, how many cases it is a mean over, and what to log."""
        config = self.config
        if config.loss == "triplet":
            found = semi_hard_triplet(a, c, positive, negative, config.margin)
            counts = {"negatives": negative.sum(1).to(found.loss.dtype).mean()}
            return found.loss, found.pairs, counts | found.parts()
        if config.loss == "n_pairs":
            pairs = n_pairs(a, p, c, positive, negative, config.penalty)
        else:
            pairs = paired_info_nce(a, c, positive, negative, config.temperature)
        return pairs.contrast.loss, pairs.anchors, {"anchors": pairs.anchors} | pairs.contrast.parts()

    def encoders(self) -> Mapping[str, ClipEncoder]:
        return {"clip": self.encoder}

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """Find each moment of the first camera (or anchor) among the moments of the second (or the partners).

        The candidates are those of the same sequence, and the similarity is the loss's own.
        """
        z, times, moving = self.embed(batch.clip)
        gap = (times[:, 0, :, None] - times[:, 1, None, :]).abs()  # (B, M, M)
        found = (z[:, 0] @ z[:, 1].mT).argmax(dim=2, keepdim=True)
        asked = moving[:, 0]
        if not asked.any():
            return {}
        tolerance = self.config.positive_radius
        near = (gap <= tolerance + _SLACK).float()
        among = (
            f"among {gap.shape[2]} moments of the same sequence, drawn from {self.config.window:g} s, "
            + ("seen by another camera" if self.config.views == "multi" else "one of them close by")
        )
        return {
            "same moment": Answers(
                near.gather(2, found)[asked].flatten(),
                f"nearest {among}; right if at most {tolerance:g} s away",
                chance=float(near.mean(dim=2)[asked].mean()),
            ),
            "same moment, error": Answers(
                gap.gather(2, found)[asked].flatten().float(),
                f"time between a moment and its nearest {among}",
                unit="s",
                better="lower",
                chance=float(gap.mean(dim=2)[asked].mean()),
            ),
        }

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The moments of the first sequence in order, and what is found for each, as in ``pretext``."""
        z, times, _ = self.embed(batch.clip)
        found = (z[0, 0] @ z[0, 1].T).argmax(dim=1)
        frames = batch.clip["frames"][0].flatten(0, 1)[self.encoder.frames - 1 :: self.encoder.frames]
        anchors, others = frames.float().unflatten(0, (2, -1))
        order = times[0, 0].argsort()
        mean_, std = (frames.new_tensor(x).view(3, 1, 1) for x in (self.encoder.mean, self.encoder.std))
        return {
            name: (row[order] * std + mean_).clamp(0, 1)
            for name, row in {"moment": anchors, "nearest": others[found]}.items()
        }


def _watch(clip: Mapping[str, Tensor], times: Tensor, moving: Tensor) -> dict[str, Tensor]:
    """What to log of the data: how many moments the gate closed for, and how well the clocks agree."""
    shown = clip["times"]
    watched = {
        "static": 1 - moving.float().mean(),
        "motion_known": clip["motion_known"].float().mean(),  # 0: no metadata, the gate is off
    }
    if shown.shape[1] == 2:
        return watched | {"camera_skew": (shown[:, 0] - shown[:, 1]).abs().max()}  # seconds
    return watched | {"same_frame": (times[:, 0] == times[:, 1]).float().mean()}
