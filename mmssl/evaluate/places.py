"""Place retrieval: does a frame find others that were taken from nearly the same place, by the camera's pose?

A match is right where its camera stood within ``max_metres`` of the query's and looked within ``max_degrees``
of its direction. Frames just before and after a query are easy to find and are left out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.poses import Frames, adjacent, frames, pose_distances
from mmssl.evaluate.strips import Strip, sheet
from mmssl.files import write_bytes

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

_MATCHES, _SIDE = 5, 96
"""Matches beside a query, and pixels of a picture."""


class PlacesConfig(EvaluationConfig):
    """Retrieval of frames by the place they were taken from; needs ``meta.pose``."""

    name: Literal["places"] = "places"
    encoder: str | None = None
    """By the name of the view it reads, or ``A+B`` for both; by default the only one there is."""
    k: tuple[PositiveInt, ...] = (1, 5)
    max_metres: PositiveFloat = 0.3
    """Distance between two cameras that makes a match right, together with the angle."""
    max_degrees: float = Field(default=20.0, gt=0, le=180)
    """Angle of the rotation from one camera to the other."""
    min_seconds: NonNegativeFloat = 1.0
    """Frames of the query's own sequence that are nearer in time are no candidates; nor is itself ever."""
    world: str = "sequence"
    """Key of the metadata that is the same for frames whose poses share one coordinate system: frames of
    other worlds are candidates that are never right. Those without the key are of one world. ``sequence/..``
    is the folder that a sequence lies in: in 7-Scenes chess/seq-01 and chess/seq-02 share a world."""
    shown: NonNegativeInt = 6
    """Queries in the picture, evenly spaced."""


class Places(Evaluation):
    """``places``: R@k, and how far from the query the camera of the nearest frame stood and looked."""

    Config = PlacesConfig

    def run(self, subject: "Subject") -> list[Score]:
        config: PlacesConfig = self.config
        splits = (subject.gallery, subject.queries)
        gallery, queries = (frames(subject, split, config.encoder, config.world) for split in splits)
        lost = sum(len(subject.features(split, config.encoder)) for split in dict.fromkeys(splits))
        lost -= len(queries) + (len(gallery) if splits[0] != splits[1] else 0)
        metres, degrees = pose_distances(queries.poses, gallery.poses)
        comparable = queries.world[:, None] == gallery.world
        candidate = ~adjacent(queries, gallery, config.min_seconds, same=splits[0] == splits[1])
        near = comparable & (metres <= config.max_metres) & (degrees <= config.max_degrees)
        similarity = normalize(queries.x, dim=1) @ normalize(gallery.x, dim=1).T
        order = similarity.masked_fill(~candidate, -torch.inf).argsort(dim=1, descending=True, stable=True)
        about = (
            f"gallery {splits[0]} ({len(gallery)}), queries {splits[1]} ({len(queries)}), cosine; "
            f"a match is right within {config.max_metres:g} m and {config.max_degrees:g}° of the query's "
            f"pose, in the same meta.{config.world}; frames of its sequence within {config.min_seconds:g} s "
            f"are no candidates; {subject.about(*splits, encoder=config.encoder)}"
        )
        if lost:
            about += f"; {lost} without a valid pose left out"
        scores = recalls(order, near, candidate, config.k, about)
        scores += self._distances(order[:, 0], metres, degrees, comparable & candidate, about)
        if subject.folder is not None and config.shown:
            self._draw(subject, gallery, queries, order, near & candidate, metres)
        return scores

    def _distances(
        self, first: Tensor, metres: Tensor, degrees: Tensor, comparable: Tensor, about: str
    ) -> list[Score]:
        """Of the nearest frame of every query, over those where it is of the same world."""
        row = torch.arange(len(first))
        same = comparable[row, first]
        if not bool(same.any()):
            return []
        any_ = comparable[same]
        scores = []
        for metric, distance, unit in (("distance of first", metres, "m"), ("angle of first", degrees, "°")):
            own = distance[same]
            chance = own.where(any_, 0).sum(1) / any_.sum(1)
            scores.append(
                Score(
                    evaluation="places",
                    metric=metric,
                    value=float(own[torch.arange(len(own)), first[same]].mean()),
                    unit=unit,
                    protocol=(
                        f"mean over the {int(same.sum())} queries whose nearest frame is of the same world; "
                        f"chance: any frame of it; ceiling: the nearest by this measure; {about}"
                    ),
                    chance=float(chance.mean()),
                    ceiling=float(own.where(any_, torch.inf).amin(1).mean()),
                    better="lower",
                    headline=False,
                )
            )
        return scores

    def _draw(
        self,
        subject: "Subject",
        gallery: Frames,
        queries: Frames,
        order: Tensor,
        right: Tensor,
        metres: Tensor,
    ) -> None:
        """Some queries, each followed by its nearest frames and how far their cameras are."""
        assert subject.folder is not None
        count = min(self.config.shown, len(queries))
        rows = torch.linspace(0, len(queries) - 1, count).round().long().unique().tolist()
        found = {row: order[row, : min(_MATCHES, len(gallery))].tolist() for row in rows}
        asked = subject.film(subject.queries, queries.ids[rows].tolist(), 1, _SIDE)
        wanted = sorted({int(gallery.ids[j]) for its in found.values() for j in its})
        shown = subject.film(subject.gallery, wanted, 1, _SIDE)
        strips = []
        for row, its in found.items():
            strip = [Strip(asked[int(queries.ids[row])], "")]
            for j in its:
                same = bool(queries.world[row] == gallery.world[j])
                far = f"{float(metres[row, j]):.2f} m" if same else "elsewhere"
                strip.append(Strip(shown[int(gallery.ids[j])], far, bool(right[row, j])))
            strips.append(strip)
        write_bytes(subject.folder / "pictures" / "places.png", sheet(strips))


def recalls(order: Tensor, near: Tensor, candidate: Tensor, ks: Sequence[int], about: str) -> list[Score]:
    """R@k of gallery rows ``order`` (M, N), candidates first; chance draws k candidates without replacement.

    Args:
        near: (M, N) bool, which of the gallery's frames would be right.
        candidate: (M, N) bool, which may be found at all.
    """
    right = near & candidate
    hits, size = right.sum(1).double(), candidate.sum(1).double()
    in_order = right.gather(1, order)
    scores = []
    for k in ks:
        drawn = torch.arange(k, dtype=torch.float64)
        left = (size[:, None] - drawn).clamp_min(0)
        miss = torch.where(left > 0, (left - hits[:, None]).clamp_min(0) / left.clamp_min(1), 1.0).prod(1)
        scores.append(
            Score(
                evaluation="places",
                metric=f"R@{k}",
                value=100 * float(in_order[:, :k].any(1).double().mean()),
                unit="%",
                protocol=(
                    f"share of queries with a right match among the {k} nearest; chance: {k} candidates "
                    f"drawn without replacement; ceiling: queries that have a right candidate; {about}"
                ),
                chance=100 * float((1 - miss).mean()),
                ceiling=100 * float((hits > 0).double().mean()),
                headline=k == ks[0],
            )
        )
    return scores
