"""Frames with camera poses: what evaluations of places compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.parts import MetaValue
from mmssl.stream.sample import Sample
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


@dataclass(frozen=True)
class Frames:
    """Frames with known poses, of the gallery or of the queries."""

    x: Tensor
    """(N, d) float32 features, for cosines."""
    ids: Tensor
    poses: Tensor
    """(N, 4, 4) float64, camera to world in metres."""
    world: Tensor
    """(N,) int64, equal where poses can be compared."""
    sequence: Tensor
    """(N,) int64."""
    seconds: Tensor
    """(N,) float64 in the sequence; NaN where unknown."""

    def __len__(self) -> int:
        return len(self.x)


def frames(subject: "Subject", split: str, encoder: str | None, world: str) -> Frames:
    """The frames of a split that can be read and have a pose.

    Raises:
        MmsslError: none has.
    """
    features = subject.features(split, encoder).directions
    known: dict[int, dict[str, Tensor]] = {}
    for batch in subject.scan(split, PoseView(world), f"poses of {split}", 1024):
        for row, id_ in enumerate(batch.id.tolist()):
            known[id_] = {name: values[row] for name, values in batch.input.items()}
    ids = features.ids.tolist()
    kept = [row for row, id_ in enumerate(ids) if id_ in known and bool(known[id_]["pose"].isfinite().all())]
    if not kept:
        raise MmsslError(
            f"shard set {subject.manifest.name!r}: {split}: expected frames with meta.pose, 4×4 from the "
            "camera to the world; found none"
        )
    pose, place, sequence, seconds = (
        torch.stack([known[ids[row]][name] for row in kept])
        for name in ("pose", "world", "sequence", "seconds")
    )
    rows = torch.tensor(kept)
    return Frames(features.x[rows], features.ids[rows], pose, place, sequence, seconds)


def pose_distances(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Metres and degrees (N, M) between the cameras of poses (N, 4, 4) and (M, 4, 4), camera to world.

    The angle is that of the rotation between both: cos θ = (trace(R_aᵀ R_b) - 1) / 2.
    """
    metres = torch.cdist(a[:, :3, 3], b[:, :3, 3], compute_mode="donot_use_mm_for_euclid_dist")
    cosine = (torch.einsum("nij,mij->nm", a[:, :3, :3], b[:, :3, :3]) - 1) / 2
    return metres, torch.rad2deg(cosine.clamp(-1, 1).arccos())


def adjacent(queries: Frames, gallery: Frames, seconds: float, *, same: bool) -> Tensor:
    """(M, N) bool: gallery frames that are no candidates for a query.

    These are frames of its sequence less than ``seconds`` away, and where both are of the ``same`` split
    itself; frames without a time are only kept from finding themselves.
    """
    apart = (queries.seconds[:, None] - gallery.seconds).abs()
    out = (queries.sequence[:, None] == gallery.sequence) & (apart < seconds)
    return out | (queries.ids[:, None] == gallery.ids) if same else out


class PoseView(View):
    """``pose`` (B, 4, 4) float64, NaN where there is none; ``world`` and ``sequence`` (B,) int64; ``seconds``
    (B,) float64, NaN where unknown."""

    fields = ("meta",)

    def __init__(self, world: str) -> None:
        """``world`` is a key of the metadata; ``KEY/..`` means the folder that its value lies in."""
        self._key = world.removesuffix("/..")
        self._folder = self._key != world
        self._world, self._sequence = MetaValue(self._key), MetaValue("sequence")

    def read(self, sample: Sample, draws: Draws) -> tuple[Any, ...]:
        meta = sample["meta"]
        world, sequence = self._world.read(sample, draws), self._sequence.read(sample, draws)
        if self._folder and world >= 0:
            world = MetaValue.number(str(meta[self._key]).rpartition("/")[0])
        return _pose(meta.get("pose")), world, sequence, _number(meta.get("timestamp"))

    def prepare(self, items: Sequence[tuple[Any, ...]], draws: Draws) -> dict[str, Tensor]:
        poses, worlds, sequences, seconds = zip(*items, strict=True)
        return {
            "pose": torch.from_numpy(np.stack(poses)),
            "world": torch.tensor(worlds, dtype=torch.int64),
            "sequence": torch.tensor(sequences, dtype=torch.int64),
            "seconds": torch.tensor(seconds, dtype=torch.float64),
        }

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        return dict(x)


def _pose(stored: Any) -> Any:
    """(4, 4) float64; NaN for what is no rigid motion, as trackers write where they were lost."""
    unknown = np.full((4, 4), np.nan)
    try:
        pose = np.array(stored, dtype=np.float64)
    except (TypeError, ValueError):
        return unknown
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        return unknown
    rigid = np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-2)
    return pose if rigid else unknown


def _number(stored: Any) -> float:
    return float(stored) if isinstance(stored, int | float) else float("nan")
