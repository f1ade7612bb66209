"""Frames as maps of unit features whose cells cover the frame evenly."""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.models.encoder import Encoder
from mmssl.models.feature_map import FeatureMap
from mmssl.stream.views.photometric import normalise
from mmssl.tracking.frames import Frames

AT_ONCE = 4
"""Frames that go through the encoder together."""

Size = tuple[int, int]
"""Height and width."""


class Maps:
    """An encoder's stage, shown whole frames.

    A frame is resized (bilinear, antialiased) so that its sides are multiples of a cell, the nearest ones:
    at most half a cell is stretched away. Networks that are built for one size of image (ViT, Swin) are
    copied and set to the frames' size by timm's ``set_input_size``, which resamples their positions
    bicubically; the encoder itself stays as it is.

    Args:
        encoder: any image encoder, in evaluation mode.
        stage: see ``FeatureMap``.
        cell: pixels a side; maps that are finer than this are averaged down to it, or as near as whole
            numbers of their own cells come; those that are coarser stay.

    Raises:
        MmsslError: no such stage, or a network of fixed size that timm cannot set to another.
    """

    def __init__(self, encoder: Encoder, stage: int | None, cell: int, device: torch.device) -> None:
        self.features = FeatureMap(encoder, stage)
        self.encoder, self.device = encoder, device
        self.fixed = _fixed(encoder)
        if self.fixed and not hasattr(encoder.backbone, "set_input_size"):
            raise MmsslError(
                f"evaluation propagation: encoder: {encoder.config.name} takes images of "
                f"{encoder.image_size} px only; expected one that takes any size, or that "
                "timm's set_input_size can change"
            )
        stride = self._stride()
        self.pooled = max(1, cell // stride)
        """Cells of the stage's map, a side, that are averaged to one."""
        self.cell = stride * self.pooled
        """Pixels of the resized frame a side."""
        self._set: tuple[Size, FeatureMap] | None = None

    def size(self, frame: Size, side: int | None, square: bool) -> Size:
        """Height and width that a frame is resized to; its shorter side becomes ``side`` (None: stays)."""
        scale = 1.0 if side is None else side / min(frame)
        wanted = (side, side) if square and side is not None else (frame[0] * scale, frame[1] * scale)
        height, width = (max(1, round(n / self.cell)) * self.cell for n in wanted)
        return height, width

    def grid(self, size: Size) -> Size:
        """Height and width of the map of a frame of ``size``."""
        return size[0] // self.cell, size[1] // self.cell

    def __call__(self, frames: Frames, own: Size, size: Size) -> Iterator[Tensor]:
        """(C, h, w) float32 unit features on the device, frame by frame.

        Args:
            own: height and width of the frames.
            size: what they are resized to, see ``size``.

        Raises:
            MmsslError: a frame cannot be read, or is not of its own size; names it.
        """
        features = self._sized(size)
        for start in range(0, len(frames), AT_ONCE):
            batch = [frames[number] for number in range(start, min(start + AT_ONCE, len(frames)))]
            for number, frame in enumerate(batch, start):
                if frame.shape[1:] != own:
                    found, wanted = f"{frame.shape[2]}x{frame.shape[1]}", f"{own[1]}x{own[0]}"
                    raise MmsslError(f"{frames.name}: frame {number} is {found} pixels; expected {wanted}")
            yield from self._encoded(features, batch, size)

    @torch.inference_mode()
    def _encoded(self, features: FeatureMap, batch: Sequence[Tensor], size: Size) -> Tensor:
        x = torch.stack(list(batch)).to(self.device)
        if x.shape[2:] != size:
            x = F.interpolate(x.float(), size, mode="bilinear", antialias=True)
        x = normalise(x, self.encoder.mean, self.encoder.std)
        found = features(x.contiguous(memory_format=torch.channels_last)).float()
        if self.pooled > 1:
            found = F.avg_pool2d(found, self.pooled)
        return F.normalize(found, dim=1)

    def _sized(self, size: Size) -> FeatureMap:
        """The network for frames of that size; of fixed networks the last size's is kept."""
        if not self.fixed or size == (self.encoder.image_size, self.encoder.image_size):
            return self.features
        if self._set is None or self._set[0] != size:
            features = copy.deepcopy(self.features)
            change: Any = features.encoder.backbone.set_input_size
            change(img_size=size)
            self._set = size, features
        return self._set[1]

    @torch.inference_mode()
    def _stride(self) -> int:
        """Pixels a cell of the stage's map, measured: small stems are not in timm's tables."""
        side = self.encoder.image_size if self.fixed else 64 * math.ceil(self.encoder.image_size / 64)
        found = self.features(torch.zeros(1, 3, side, side, device=self.device))
        return max(1, side // found.shape[-1])


def _fixed(encoder: Encoder) -> bool:
    """Whether the network takes images of one size only, as timm says."""
    known = timm.get_pretrained_cfg(encoder.config.name)
    return known is not None and bool(known.fixed_input_size)
