"""Temporal order: what came first is the label.

verify   Shuffle and Learn (Misra, Zitnick and Hebert, ECCV 2016): is the middle one of three frames in order?
sort     OPN, Unsupervised Representation Learning by Sorting Sequences (Lee et al., ICCV 2017): 4 frames
clips    VCOP, Self-supervised Spatiotemporal Learning via Video Clip Order Prediction (Xu et al., CVPR 2019)
arrow    Learning and Using the Arrow of Time (Wei et al., CVPR 2018): does a clip run forwards?
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmssl.errors import MmsslError
from mmssl.methods.base import Answers, DataInfo, Loss, Method, MethodConfig
from mmssl.methods.temporal.order_heads import Concatenated, Pairwise
from mmssl.models.clip import ClipConfig, ClipEncoder, FramesConfig, build_clip_encoder
from mmssl.stream.batch import Batch
from mmssl.stream.clips.tuples import Seconds
from mmssl.stream.views.base import View
from mmssl.stream.views.clip import ClipAugmentation
from mmssl.stream.views.order import CLASSES, PLACES, UNITS, OrderView, Task, sampler

SPACING: dict[Task, Seconds] = {
    "verify": (0.5, 2.0),
    "sort": (0.2, 0.6),
    "clips": (0.27, 0.27),
    "arrow": (0.0, 0.0),  # a single clip has no neighbours
}
"""Seconds. Shuffle & Learn's 15 and 60 frames and VCOP's 8 at 30 a second; OPN's own are not known to us."""


_HEADS: dict[Task, Literal["concatenated", "pairwise"]] = {
    "verify": "concatenated",
    "sort": "pairwise",
    "clips": "pairwise",
    "arrow": "concatenated",
}
"""The papers' own."""


class OrderConfig(MethodConfig):
    name: Literal["order"] = "order"
    task: Task = "verify"
    encoder: ClipConfig = FramesConfig()
    """Of one frame for ``verify`` and ``sort``, of one clip of several for ``clips`` and ``arrow``."""
    spacing: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    """Shortest and longest, in seconds. verify: from b to d, and at least the shortest from a to b and from d
    to e; sort: between neighbouring frames; clips: from a clip's last frame to the first of the next. By
    default (0.5, 2), (0.2, 0.6) and (0.27, 0.27)."""
    floor: NonNegativeFloat = 0.01
    """Motion there has to be between neighbours, in short sides of a frame: order can be seen only then."""
    head: Literal["concatenated", "pairwise"] | None = None
    """What sees the features of all places side by side, or (default of sort and clips) of every two."""
    hidden: tuple[PositiveInt, ...] = (128, 64)
    """concatenated: widths between the features of all places and the classes; () is Shuffle and Learn's
    single layer, which cannot compare the middle with the ends (see ``Concatenated``)."""
    pairs: PositiveInt = 512
    """pairwise: width of the layer that sees two places."""
    dropout: float = Field(0.5, ge=0, lt=1)
    jitter: NonNegativeInt = 0
    """Pixels by which each frame is moved on its own, so that order cannot be read from what drifts by less
    (OPN: 5 of 80)."""
    split_channels: bool = False
    """Each frame shows one of its channels only, so that order cannot be read from colour (OPN)."""
    augmentation: ClipAugmentation | None = ClipAugmentation(
        scale=(0.5, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.0
    )
    """What a recipe leaves out keeps these values."""

    @model_validator(mode="after")
    def _ordered(self) -> "OrderConfig":
        if self.spacing is not None and self.spacing[0] > self.spacing[1]:
            raise ValueError("spacing: expected (shortest, longest) in seconds, shortest <= longest")
        if self.task == "arrow" and self.head == "pairwise":
            raise ValueError("head: expected concatenated for task arrow, which shows a single clip")
        return self


class Order(Method):
    """Frames or clips of a video, shown in some order: which one is it?

    batch.clip    {"frames": (B, U·F, 3, S, S) float32, "shown": (B, K, places) int64, "order": (B, K) int64}:
                  U units of F frames; K questions, each with the units it shows and its class
    total         cross entropy over the B·K questions
    """

    Config = OrderConfig
    config: OrderConfig

    def __init__(self, config: OrderConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_clip_encoder(config.encoder)
        self.units, classes = UNITS[config.task], CLASSES[config.task]
        single = config.task in ("verify", "sort")
        if (self.encoder.frames == 1) != single:
            expected = "one frame" if single else "more than one frame"
            raise MmsslError(
                f"order: encoder.frames: expected {expected} for task {config.task}, "
                f"found {self.encoder.frames}"
            )
        dim, dropout = self.encoder.dim, config.dropout
        places = PLACES[config.task]
        self.head: nn.Module
        if places == 1:  # the direction of one clip is there or not: a linear question
            self.head = Concatenated(dim, 1, classes, dropout=dropout)
        elif (config.head or _HEADS[config.task]) == "concatenated":
            self.head = Concatenated(dim, places, classes, config.hidden, dropout)
        else:
            self.head = Pairwise(dim, places, classes, config.pairs, dropout)

    @property
    def views(self) -> Mapping[str, View]:
        c, e = self.config, self.encoder
        moments = sampler(c.task, e.frames, e.stride, c.spacing or SPACING[c.task], c.floor)
        return {
            "clip": OrderView(
                c.task, moments, e.image_size, e.mean, e.std, c.augmentation,
                jitter=c.jitter, split_channels=c.split_channels,
            )
        }  # fmt: skip

    def forward(self, batch: Batch) -> Loss:
        order = batch.clip["order"]
        logits, z = self.answer(batch)
        loss = cross_entropy(logits.flatten(0, 1).float(), order.flatten())
        right = (logits.argmax(dim=2) == order).float()
        parts = {"accuracy": right.mean()}
        if self.config.task == "verify":
            parts["balanced_accuracy"] = balanced(right).mean()
        return Loss(loss, parts, z.detach().flatten(0, 1))

    def answer(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (B, K, classes), and the features of all units z (B, U, d)."""
        units = batch.clip["frames"].unflatten(1, (self.units, -1))
        z = self.encoder(units.flatten(0, 1)).unflatten(0, units.shape[:2])
        shown = batch.clip["shown"]
        placed = z[torch.arange(len(z), device=z.device)[:, None, None], shown]  # (B, K, places, d)
        return self.head(placed.flatten(0, 1)).unflatten(0, shown.shape[:2]), z

    def encoders(self) -> Mapping[str, ClipEncoder]:
        return {"clip": self.encoder}

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        right = (self.answer(batch)[0].argmax(dim=2) == batch.clip["order"]).float()
        classes = CLASSES[self.config.task]
        match self.config.task:
            case "verify":
                asked = "4 triples of each video, 1 in order and 3 with the same ends around another middle"
                return {
                    "verification": Answers(
                        right.flatten(), f"{asked}; always answering 'shuffled' scores 75 %", chance=0.75
                    ),
                    "verification_balanced": Answers(
                        balanced(right), f"{asked}; mean of the accuracies on the two", chance=0.5
                    ),
                }
            case "sort":
                name, asked = "sorting", "4 frames of each video in 12 orders, no two each other's reverse"
            case "clips":
                name, asked = "clip_order", "3 clips of each video in all 6 orders"
            case "arrow":
                name, asked = "arrow_of_time", "one clip of each video, forwards or backwards"
        return {name: Answers(right.flatten(), f"{asked}; {classes} classes", chance=1 / classes)}


def balanced(right: Tensor) -> Tensor:
    """(B,) mean of the accuracies on both classes, of right answers (B, 4) of which the first is positive."""
    return (right[:, 0] + right[:, 1:].mean(dim=1)) / 2
