"""One look at several modalities of a still sample: cut and mirrored alike, each as its encoder takes it.

Colours are derived after the cut (Contrastive Multiview Coding, Tian et al., ECCV 2020). Those of L, ab and
the like stay as they are: jitter would destroy what they share with each other. Those of rgb may change,
where it is to be compared with depth or flow, which say nothing of colours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.modalities import IGNORED
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.views.base import View
from mmssl.stream.views.channels import channels, refuse_unknown_classes
from mmssl.stream.views.clip_augmentation import ClipAugmentation
from mmssl.stream.views.crops import Kernel, draw_crops, draw_flips
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.geometry import Box, cut, largest_square, scaled
from mmssl.stream.views.shown import Shown

_ASPECT = 0.02
"""How far the shapes of a sample's modalities may be from one another."""


class CropFlip(Config):
    """A random resized crop and a mirror image, of all modalities alike."""

    scale: tuple[PositiveFloat, Annotated[float, Field(gt=0, le=1)]] = (0.2, 1.0)
    """Share of the area, uniform between the two."""
    ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """Width over height, log-uniform between the two."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of mirroring left and right."""

    @model_validator(mode="after")
    def _ordered(self) -> "CropFlip":
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected the smaller number first, found [{low}, {high}]")
        return self


@dataclass(frozen=True)
class Cut:
    """What ``read`` keeps of one sample."""

    pixels: dict[tuple[str, int], Tensor]
    """(field, size) to (C, size, size), as ``geometry.cut`` gives it; nothing of absent fields."""
    seen: frozenset[tuple[str, int]]
    """Those that show anything: a pixel of known depth, direction, motion or class."""


class AlignedViews(View):
    """Name of a sight to (B, C, S, S) float32, normalised; ``present`` (B, V) bool in the order of ``shown``.

    A field is decoded once for all sights made of it, and cut once for all of one size, one sample at a time
    in ``read``. Modalities of a sample may differ in resolution; the crop is drawn for the finest. What a
    sample lacks is shown as zeros. A sight of depth, normals, flow or classes is absent as well where the
    crop has no known pixel.

    Args:
        shown: sights of still samples.
        augmentation: one random crop and flip a sample, and with ``ClipAugmentation`` colours of rgb; None is
            the largest square in the centre.
        whole: without augmentation, the whole picture pressed into a square instead.

    Raises:
        MmsslError: a sight of clips or of several flow fields, which are made of videos.
    """

    def __init__(
        self,
        shown: Mapping[str, Shown],
        augmentation: CropFlip | ClipAugmentation | None,
        *,
        whole: bool = False,
    ) -> None:
        for name, sight in shown.items():
            if sight.frames is not None or (sight.modality == "flow" and sight.channels != 2):
                what = "a clip" if sight.frames is not None else f"{sight.channels // 2} flow fields"
                raise MmsslError(f"view {name!r}: {what} of still samples; expected samples that are videos")
        self.shown = dict(shown)
        self.augmentation, self.whole = augmentation, whole
        required = dict.fromkeys(sight.field for sight in shown.values() if not sight.optional)
        self.fields = tuple(required)
        self.optional = tuple(
            dict.fromkeys(sight.field for sight in shown.values() if sight.field not in required)
        )
        self._modalities = {sight.field: sight.modality for sight in shown.values()}
        self._cuts = tuple(dict.fromkeys((sight.field, sight.size) for sight in shown.values()))

    def read(self, sample: Sample, draws: Draws) -> Cut:
        pictures = {field: sample[field] for field in self.fields}
        pictures |= {field: sample[field] for field in self.optional if field in sample}
        if not pictures:
            raise Unreadable(self.optional[0], f"absent, like all of {', '.join(self.optional)}")
        for sight in self.shown.values():
            if sight.modality == "segmentation" and sight.field in pictures:
                refuse_unknown_classes(sight.field, pictures[sight.field], sight.channels)
        finest = max(pictures, key=lambda field: pictures[field].shape[1] * pictures[field].shape[2])
        height, width = pictures[finest].shape[1:]
        everything: Box = (0, 0, height, width)
        box, flip = (everything, False) if self.whole else drawn(self.augmentation, height, width, draws)
        kept, seen = {}, set()
        for field, size in self._cuts:
            if field not in pictures:
                continue
            picture, modality = pictures[field], self._modalities[field]
            h, w = picture.shape[1:]
            if abs(w * height / (h * width) - 1) > _ASPECT:
                raise Unreadable(
                    field, f"{w}x{h} pixels beside {finest} of {width}x{height}; expected the same shape"
                )
            kernel: Kernel = "bicubic" if self.augmentation is None else "bilinear"
            own = box if (h, w) == (height, width) else scaled(box, h / height, w / width)
            kept[field, size] = cut(modality, picture, own, size, flip, kernel)
            if _shows(modality, kept[field, size]):
                seen.add((field, size))
            elif field in self.fields and not _shows(modality, picture):
                raise Unreadable(field, "no pixel of it is known")
        return Cut(kept, frozenset(seen))

    def prepare(self, items: Sequence[Cut], draws: Draws) -> dict[str, Tensor]:
        """``FIELD.SIZE`` to (B, c, size, size) as it was cut, zeros where absent; and ``present``."""
        batch = {}
        for field, size in self._cuts:
            known = [item.pixels[field, size] for item in items if (field, size) in item.pixels]
            blank = torch.zeros_like(known[0]) if known else _blank(self._modalities[field], size)
            batch[f"{field}.{size}"] = torch.stack([item.pixels.get((field, size), blank) for item in items])
        sights = [(sight.field, sight.size) for sight in self.shown.values()]
        batch["present"] = torch.tensor([[at in item.seen for at in sights] for item in items])
        return batch

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        batch = {}
        for number, (name, sight) in enumerate(self.shown.items()):
            pixels = x[f"{sight.field}.{sight.size}"]
            if isinstance(self.augmentation, ClipAugmentation) and sight.sees == "rgb":
                seen = self.augmentation.changed(pixels[:, None], draws, sight.mean, sight.std)[:, 0]
            else:
                seen = channels(sight, pixels)
            if sight.field in self.optional:
                seen = torch.where(x["present"][:, number, None, None, None], seen, 0)
            batch[name] = seen
        return {**batch, "present": x["present"]}


class SightView(View):
    """One sight of every sample, (B, C, S, S) float32, normalised: the largest square in the centre.

    For evaluations: a sample without it, or without a known pixel of it, is one that cannot be read.
    """

    def __init__(self, shown: Shown) -> None:
        self.look = AlignedViews({"sight": replace(shown, optional=False)}, None)
        self.fields = self.look.fields

    def read(self, sample: Sample, draws: Draws) -> Cut:
        return self.look.read(sample, draws)

    def prepare(self, items: Sequence[Cut], draws: Draws) -> dict[str, Tensor]:
        return self.look.prepare(items, draws)

    def finish(self, x: Any, draws: Draws) -> Tensor:
        return self.look.finish(x, draws)["sight"]


def drawn(
    augmentation: CropFlip | ClipAugmentation | None, height: int, width: int, draws: Draws
) -> tuple[Box, bool]:
    """The box of one sample that all its modalities show, and whether they are mirrored."""
    if augmentation is None:
        return largest_square(height, width), False
    sizes = np.array([[height, width]])
    box = draw_crops(draws, sizes, augmentation.scale, augmentation.ratio)[0].tolist()
    return tuple(box), bool(draw_flips(draws, augmentation.flip)[0])


def _shows(modality: str, x: Tensor) -> bool:
    """Whether any pixel of (C, H, W) is known."""
    if modality == "image":
        return True
    if modality == "segmentation":
        return bool((x != IGNORED).any())
    return bool(torch.isfinite(x).any() if modality == "flow" else (x != 0).any())


def _blank(modality: str, size: int) -> Tensor:
    """A picture for batches in which no sample has one."""
    planes = {"image": 3, "segmentation": 1, "depth": 1, "normals": 3, "flow": 2}[modality]
    kind = torch.uint8 if modality in ("image", "segmentation") else torch.float32
    return torch.zeros(planes, size, size, dtype=kind)
