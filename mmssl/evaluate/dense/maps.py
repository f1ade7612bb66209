"""Frozen feature maps of one or several encoders, and what heads are fitted to."""

import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmssl.errors import MmsslError
from mmssl.evaluate.dense.heads import Gallery, sampled
from mmssl.evaluate.dense.view import DenseView, Region, Truth
from mmssl.evaluate.parts import Chosen
from mmssl.evaluate.subject import view_field
from mmssl.models.feature_map import FeatureMap, frame_encoder
from mmssl.stream.views.shown import Shown

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

FEWEST, MOST = 16, 4096
"""Points of a picture that heads are fitted to."""


class Maps:
    """What encoders see of a sample to (B, d, h, w) float32: their maps side by side, on the finest grid.

    Args:
        encoder: name of one, or of several with ``+`` between.
        stages: of every encoder; see ``FeatureMap``.

    Raises:
        MmsslError: an encoder of whole clips or of texts, or one without such a stage.
    """

    def __init__(
        self, subject: "Subject", encoder: str | None, stages: Sequence[int | None], evaluation: str
    ) -> None:
        self.device = subject.device
        self.shown: dict[str, Shown] = {}
        self._maps: dict[str, list[FeatureMap]] = {}
        for name in subject.names(encoder):
            one = frame_encoder(subject.encoders[name], f"evaluation {evaluation}: encoder {name}")
            self.shown[name] = Shown.to(one, video=False, field=view_field(subject.method, name))
            self._maps[name] = [FeatureMap(one, stage) for stage in stages]

    @torch.inference_mode()
    def __call__(self, seen: Mapping[str, Tensor]) -> Tensor:
        found = []
        for name, maps in self._maps.items():
            x = seen[name].to(self.device).contiguous(memory_format=torch.channels_last)
            found += [one(x).float() for one in maps]
        height, width = (max(one.shape[axis] for one in found) for axis in (2, 3))
        return torch.cat([_on(one, height, width) for one in found], dim=1)


def _on(maps: Tensor, height: int, width: int) -> Tensor:
    if maps.shape[2:] == (height, width):
        return maps
    return interpolate(maps, (height, width), mode="bilinear", align_corners=False)


def gather(
    subject: "Subject", maps: Maps, truth: Truth, region: Region, points: int, *, keep_maps: bool
) -> Gallery:
    """What a head is fitted to: about ``points`` of the gallery, the same number of every picture.

    There are at least 16 of a picture: of more pictures than that allows some are taken, evenly spread.
    Maps are kept in a temporary file, which goes with them.

    Raises:
        MmsslError: less than two pictures have a known pixel.
    """
    part = subject.part(subject.gallery)
    ids = sorted(part.ids) if part.ids is not None else list(range(part.samples))
    ids = ids[:: max(1, -(-len(ids) * FEWEST // points))]
    view = DenseView(maps.shown, truth, region, min(max(points // max(len(ids), 1), FEWEST), MOST))
    rows, places, truths = [], [], []
    kept = _Kept(len(ids)) if keep_maps else None
    for batch in subject.scan(subject.gallery, Chosen(view, ids), f"feature maps of {subject.gallery}"):
        if not isinstance(batch.input, dict):  # none of the chosen
            continue
        true, at = batch.input["_truth"], batch.input["_at"]
        has = truth.known(true[..., None])[..., 0].all(1)  # (B,)
        found = maps(batch.input)[has.to(maps.device)]
        if kept is None:
            rows.append(sampled(found, at[has].to(maps.device)).cpu())
        else:
            kept.add(found)
        places.append(at[has])
        truths.append(true[has].transpose(1, 2))
    pictures = sum(map(len, places))
    if pictures < 2:
        raise MmsslError(
            f"shard set {subject.manifest.name!r}: {subject.gallery}: {truth.field}: {pictures} samples with "
            "a known pixel; expected at least two, one of them to hold out"
        )
    device = subject.device
    return Gallery(
        maps=torch.empty(0) if kept is None else kept.maps,
        rows=torch.cat(rows).to(device) if rows else torch.empty(0),
        at=torch.cat(places).to(device),
        truth=torch.cat(truths).to(device),
    )


class _Kept:
    """Feature maps of at most ``most`` pictures as float16, in a file: they need not fit into memory."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self._maps: np.memmap | None = None

    def add(self, maps: Tensor) -> None:
        if self._maps is None:
            with tempfile.TemporaryFile() as file:  # the mapping keeps it, without a name, until it goes
                self._maps = np.memmap(file, np.float16, "w+", shape=(self.most, *maps.shape[1:]))
        self._maps[self.count : self.count + len(maps)] = maps.half().cpu().numpy()
        self.count += len(maps)

    @property
    def maps(self) -> Tensor:
        return torch.from_numpy(self._maps)[: self.count]
