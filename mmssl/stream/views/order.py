"""Views that ask in which order things were: moments as they followed each other, and how they are shown.

Frames are in the order of time (but for ``arrow``, whose question they are), and ``shown`` says which of
them a network is given at which place: a frame is encoded once, however many questions it is part of.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.stream.clips.tuples import FiveFrames, Seconds, Tuples, Units
from mmssl.stream.video import VideoReader
from mmssl.stream.views.clip import ClipAugmentation, ClipView, Shown
from mmssl.stream.views.crops import Kernel, crop_resize, draw_crops, draw_flips
from mmssl.stream.views.draws import Draws

Task = Literal["verify", "sort", "clips", "arrow"]

UNITS: dict[Task, int] = {"verify": 5, "sort": 4, "clips": 3, "arrow": 1}
"""How many frames or clips are encoded for one sample."""
PLACES: dict[Task, int] = {"verify": 3, "sort": 4, "clips": 3, "arrow": 1}
"""How many of them one question shows."""
CLASSES: dict[Task, int] = {"verify": 2, "sort": 12, "clips": 6, "arrow": 2}

A, B, C, D, E = range(5)
POSITIVES = np.array([(B, C, D), (D, C, B)])
"""In order, forwards or backwards: class 1."""
NEGATIVES = np.array([(B, A, D), (B, E, D), (D, A, B), (D, E, B)])
"""The same ends around a moment from before or behind them: class 0."""


def arrangements(places: int, *, reversible: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every permutation of 0 .. places - 1, (places!, places), and the class of each, (places!,).

    Classes are numbered as they first appear in lexicographic order. With ``reversible`` a permutation and
    its reverse are one class: single frames rarely tell which way time runs (OPN, Lee et al., ICCV 2017).
    """
    orders = list(permutations(range(places)))
    canonical = [min(order, order[::-1]) if reversible else order for order in orders]
    number = {order: index for index, order in enumerate(dict.fromkeys(canonical))}
    return np.array(orders), np.array([number[order] for order in canonical])


def ask(task: Task, draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which units are shown, (N, K, places), and the right answers, (N, K), to K questions about a sample.

    verify: one of POSITIVES and three of NEGATIVES, so that every batch is 25 % positive (K = 4);
    sort, clips: every class once (K = 12, 6). The papers draw one order for a sample; asking for all of them
    costs the head alone, and spares the gradient the noise of which one was drawn, which can keep orders of
    three clips at chance;
    arrow: the clip, forwards (1) or backwards (0).
    """
    n = len(draws)
    if task == "verify":
        positive = POSITIVES[draws.integers("positive", 1, 0, 2)]
        negative = NEGATIVES[draws.permutation("negatives", 4)[:, :3]]
        return np.concatenate([positive, negative], axis=1), np.tile([1, 0, 0, 0], (n, 1))
    if task == "arrow":
        return np.zeros((n, 1, 1), dtype=np.int64), draws.integers("direction", 1, 0, 2)
    orders, classes = arrangements(UNITS[task], reversible=task == "sort")
    every = np.arange(CLASSES[task])
    versions = np.stack([orders[classes == number] for number in every])  # (classes, 1 or 2, places)
    drawn = draws.integers("version", len(every), 0, versions.shape[1])
    return versions[every, drawn], np.tile(every, (n, 1))


def sampler(task: Task, frames: int, stride: float, spacing: Seconds, floor: float) -> Tuples:
    """The moments of a task, for units of ``frames`` frames every ``stride`` seconds."""
    if task == "verify":
        return FiveFrames(spacing, floor)
    return Units(UNITS[task], frames, stride, spacing, floor)


class OrderView(ClipView):
    """``frames`` (B, units · F, 3, size, size) float32, ``times`` as of a ClipView, ``shown`` (B, K, places)
    int64 and ``order`` (B, K) int64; see ``ask``.

    Frames are cut alike and flipped alike, but for ``clips``, where every clip has a crop of its own (VCOP,
    Xu et al., CVPR 2019), and for the jitter.

    Args:
        jitter: every frame's crop is moved by up to so many pixels of its own (OPN).
        split_channels: every frame shows one of its channels, drawn for it alone, three times (ibid.).
    """

    def __init__(
        self,
        task: Task,
        sampler: Tuples,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augmentation: ClipAugmentation | None = None,
        *,
        jitter: int = 0,
        split_channels: bool = False,
    ) -> None:
        super().__init__(sampler, size, mean, std, augmentation)
        self.task: Task = task
        self.jitter, self.split_channels = jitter, split_channels

    def _cut(self, video: VideoReader, numbers: NDArray[np.int64], draws: Draws) -> Tensor:
        alike = not self.jitter and (self.task != "clips" or self.augmentation is None)
        cut = (super()._cut if alike else self._cut_apart)(video, numbers, draws)
        if not self.split_channels:
            return cut
        channel = torch.from_numpy(draws.integers("channel", len(cut), 0, 3)[0])
        return cut[torch.arange(len(cut)), channel][:, None].expand(-1, 3, -1, -1).contiguous()

    def _cut_apart(self, video: VideoReader, numbers: NDArray[np.int64], draws: Draws) -> Tensor:
        """As ``_cut``, with a box for each frame; all frames are mirrored or none."""
        sizes, frames = np.array([[video.height, video.width]]), len(numbers)
        kernel: Kernel = "bicubic" if self.augmentation is None else "bilinear"
        if self.augmentation is None:
            side, flip = sizes.min(), np.False_
            box = np.concatenate([(sizes - side) // 2, [[side, side]]], axis=1)
        else:
            scale, ratio = self.augmentation.scale, self.augmentation.ratio
            streams = [draws.view(u) for u in range(UNITS["clips"])] if self.task == "clips" else [draws]
            box = np.concatenate([draw_crops(stream, sizes, scale, ratio) for stream in streams])
            flip = draw_flips(draws, self.augmentation.flip)[0]
        boxes = np.repeat(box, frames // len(box), axis=0)
        if self.jitter:
            unit = 2 * draws.uniform("jitter", 2 * frames).reshape(frames, 2).astype(np.float64) - 1
            moved = boxes[:, :2] + np.rint(unit * self.jitter * boxes[:, 2:] / self.size).astype(np.int64)
            boxes[:, :2] = moved.clip(0, sizes - boxes[:, 2:])
        flips = np.full((frames, 1), flip)
        return crop_resize(list(video.read(numbers)), boxes[:, None], self.size, flips, kernel)[:, 0]

    def prepare(self, items: Sequence[Shown], draws: Draws) -> dict[str, Tensor]:
        x = super().prepare(items, draws)
        shown, order = (torch.from_numpy(part) for part in ask(self.task, draws))
        if self.task == "arrow":
            back = order[:, 0] == 0
            x = {name: torch.where(_like(back, part), part.flip(1), part) for name, part in x.items()}
        return x | {"shown": shown, "order": order}

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        return super().finish(x, draws) | {"shown": x["shown"], "order": x["order"]}


def _like(rows: Tensor, x: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (x.ndim - 1))
