"""What a dense evaluation is shown: a sample as the encoders see it, and the truth of the same pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mmssl.modalities import IGNORED, modality_of
from mmssl.stream.sample import Sample
from mmssl.stream.views.aligned import AlignedViews
from mmssl.stream.views.base import View
from mmssl.stream.views.channels import refuse_unknown_classes
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.geometry import largest_square
from mmssl.stream.views.shown import Shown

Region = Literal["centre", "whole"]
"""The largest square in the centre; or the whole picture, pressed into the encoder's square."""

EIGEN = (45 / 480, 471 / 480, 41 / 640, 601 / 640)
"""Top, bottom, left, right as shares: rows 45 to 471 and columns 41 to 601 of NYU's 480 × 640 pixels (Eigen
et al., NeurIPS 2014), where its depth is not lost to the warp onto the colour camera."""


@dataclass(frozen=True)
class Truth:
    """A field of the sample, and which of its pixels are known."""

    field: str
    classes: int | None = None
    """Of a segmentation: ids must be smaller, or 255 = ignored; None = any."""
    cap: float | None = None
    """Of depth in metres: what is farther counts as unknown."""
    eigen: bool = False
    """Of depth: what lies outside the crop ``EIGEN`` counts as unknown."""

    @property
    def modality(self) -> str:
        return modality_of(self.field).name

    @property
    def unknown(self) -> int:
        """What unknown pixels hold."""
        return IGNORED if self.modality == "segmentation" else 0

    def read(self, sample: Sample, region: Region) -> Tensor:
        """(C, h, w) of the region as it is stored; unknown where the sample has no such field.

        Raises:
            Unreadable: the field does not decode, or a class id that is not declared.
        """
        if self.field not in sample:
            kind = torch.uint8 if self.modality == "segmentation" else torch.float32
            return torch.full((3 if self.modality == "normals" else 1, 1, 1), self.unknown, dtype=kind)
        x: Tensor = sample[self.field]
        height, width = x.shape[1:]
        if self.modality == "segmentation" and self.classes is not None:
            refuse_unknown_classes(self.field, x, self.classes)
        if self.modality == "depth":
            x = torch.where(x > (self.cap or np.inf), 0, x)
            if self.eigen:
                sides = (height, height, width, width)
                top, bottom, left, right = (round(e * side) for e, side in zip(EIGEN, sides, strict=True))
                inside = torch.zeros_like(x)
                inside[:, top:bottom, left:right] = 1
                x = x * inside
        if region == "whole":
            return x
        top, left, side, _ = (int(edge) for edge in largest_square(height, width))
        return x[:, top : top + side, left : left + side]

    def known(self, x: Tensor) -> Tensor:
        """(…, h, w) bool of truth (…, C, h, w)."""
        return (x != self.unknown).any(-3)


class DenseView(View):
    """What the encoders see, by their names, (B, C, S, S) float32 and normalised; and the truth.

    Either ``truth`` (B, C, H, W) at its own resolution, with unknown pixels to the right and below where the
    samples of a batch differ in size, and ``size`` (B, 2) int64, the height and width of each. Or with
    ``points`` = P, drawn with replacement among the known pixels of each sample, ``truth`` (B, C, P), and
    ``at`` (B, P, 2) float32, x and y of the pixels' centres, -1..1 from edge to edge of the region.

    Entries of the truth start with an underscore, which no encoder's name does.
    """

    def __init__(
        self, shown: Mapping[str, Shown], truth: Truth, region: Region, points: int | None = None
    ) -> None:
        self.look = AlignedViews(shown, None, whole=region == "whole")
        self.truth, self.region, self.points = truth, region, points
        self.fields = self.look.fields
        self.optional = (truth.field,)

    def read(self, sample: Sample, draws: Draws) -> Any:
        seen, truth = self.look.read(sample, draws), self.truth.read(sample, self.region)
        if self.points is None:
            return seen, truth
        return seen, *self._points(truth, draws, self.points)

    def _points(self, truth: Tensor, draws: Draws, points: int) -> tuple[Tensor, Tensor]:
        """Truth (C, P) and places (P, 2)."""
        height, width = truth.shape[1:]
        known = self.truth.known(truth).flatten().nonzero()[:, 0].numpy()
        if not len(known):
            return truth.new_full((len(truth), points), self.truth.unknown), torch.zeros(points, 2)
        chosen = known[draws.integers("points", points, 0, len(known))[0]]
        y, x = np.divmod(chosen, width)
        at = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], axis=1).astype(np.float32)
        return truth.flatten(1)[:, torch.from_numpy(chosen)], torch.from_numpy(at)

    def prepare(self, items: Sequence[Any], draws: Draws) -> dict[str, Tensor]:
        batch = self.look.prepare([item[0] for item in items], draws)
        truths = [item[1] for item in items]
        if self.points is not None:
            return {**batch, "_truth": torch.stack(truths), "_at": torch.stack([item[2] for item in items])}
        size = torch.tensor([truth.shape[1:] for truth in truths])
        height, width = size.amax(0).tolist()
        padded = truths[0].new_full((len(truths), len(truths[0]), height, width), self.truth.unknown)
        for target, truth in zip(padded, truths, strict=True):
            target[:, : truth.shape[1], : truth.shape[2]] = truth
        return {**batch, "_truth": padded, "_size": size}

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        kept = {name: value for name, value in x.items() if name.startswith("_")}
        return {**self.look.finish(x, draws), **kept}
