"""Nearest-neighbour retrieval: is there a sample of the query's class among the k nearest of the gallery?

Protocol of Xu et al., "Self-Supervised Spatiotemporal Learning via Video Clip Order Prediction" (CVPR 2019,
section 4.3) and its successors: ten uniform clips of every video, the mean of their features, cosine
similarity. Unlike in their code no video is dropped, of the gallery or of the queries.
"""

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.classify import Task, pose
from mmssl.evaluate.strips import Strip, sheet
from mmssl.files import write_bytes

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Features, Subject

CHUNK = 1024
"""Queries compared with the gallery at a time."""
_FRAMES, _MATCHES, _SIDE = 3, 4, 64
"""Frames of a strip, matches beside a query, and pixels of a frame in the picture."""


class RetrievalConfig(EvaluationConfig):
    """Recall at k of nearest-neighbour retrieval."""

    name: Literal["retrieval"] = "retrieval"
    encoder: str | None = None
    """By the name of the view it reads, or ``A+B`` for both; by default the only one there is."""
    clips: PositiveInt | None = 10
    """Uniform clips of a video whose features are averaged; null: as many as the stage says."""
    k: tuple[PositiveInt, ...] = (1, 5, 10, 20, 50)
    labels: tuple[str, ...] = ()
    """Label names by which a match is right; empty = every label that the gallery and the queries have."""
    shown: NonNegativeInt = 8
    """Queries in the picture of film strips, drawn from the subject's seed."""


class Retrieval(Evaluation):
    """R@k for each label name and k, and ``pictures/retrieval_LABEL.png``.

    Where gallery and queries are the same split, a query does not find itself.
    """

    Config = RetrievalConfig

    def run(self, subject: "Subject") -> list[Score]:
        config = self.config
        splits = (subject.gallery, subject.queries)
        found = [subject.features(one, config.encoder, clips=config.clips) for one in splits]
        gallery, queries = (each.directions for each in found)
        about = subject.about(*splits, encoder=config.encoder, clips=config.clips)
        scores = []
        for task in pose(subject, splits, (gallery, queries), config.labels, about):
            own = torch.arange(len(task.x)) if splits[0] == splits[1] else None
            nearest = neighbours(task.x, task.queries, max(config.k), own)
            right = task.y[nearest] == task.truth[:, None]
            for k in config.k:
                scores.append(self._score(task, right, k, own is not None))
            if subject.folder is not None and config.shown:
                self._draw(subject, task, gallery, queries, nearest)
        return scores

    def _score(self, task: Task, right: Tensor, k: int, excluded: bool) -> Score:
        size = min(k, right.shape[1])
        clipped = f" (all; asked for {k})" if size < k else ""
        without = "; a query does not find itself" if excluded else ""
        data = task.data.rpartition("; chance is")[0]
        return Score(
            evaluation=f"retrieval/{task.label}",
            metric=f"R@{k}",
            value=100 * recall_at(right, k),
            unit="%",
            protocol=(
                f"share of queries with a sample of their class among the {size}{clipped} nearest, "
                f"cosine; {data}{without}; chance: {size} drawn without replacement from this gallery"
            ),
            chance=100 * recall_by_chance(task.y, task.truth, k, excluded),
            ceiling=100.0,
            headline=k == self.config.k[0],
        )

    def _draw(
        self, subject: "Subject", task: Task, gallery: "Features", queries: "Features", nearest: Tensor
    ) -> None:
        """Film strips of some queries, each followed by those of its nearest neighbours."""
        assert subject.folder is not None
        generator = torch.Generator().manual_seed(subject.seed)
        rows = (
            torch.randperm(len(task.truth), generator=generator)[: self.config.shown].sort().values.tolist()
        )
        found = nearest[rows, :_MATCHES].cpu()
        asked_ids = queries.ids[queries.labels[task.label] >= 0][rows].tolist()
        found_ids = gallery.ids[gallery.labels[task.label] >= 0][found].tolist()
        asked = subject.film(subject.queries, asked_ids, _FRAMES, _SIDE)
        matches = subject.film(subject.gallery, sorted({i for row in found_ids for i in row}), _FRAMES, _SIDE)
        names = subject.classes.get(task.label, [str(number) for number in range(task.classes)])
        strips = [
            [Strip(asked[asked_ids[at]], names[int(task.truth[row])])]
            + [
                Strip(matches[id_], names[int(task.y[j])], bool(task.y[j] == task.truth[row]))
                for id_, j in zip(found_ids[at], found[at].tolist(), strict=True)
            ]
            for at, row in enumerate(rows)
        ]
        write_bytes(subject.folder / "pictures" / f"retrieval_{task.label}.png", sheet(strips))


def neighbours(gallery: Tensor, queries: Tensor, k: int, own: Tensor | None = None) -> Tensor:
    """(M, min(k, N)) int64: rows of ``gallery`` (N, d), those nearest to each of ``queries`` (M, d) first.

    ``own`` (M,) is the row of the gallery that is the query itself, and is not found; at most N - 1 are then.
    """
    gallery, queries = normalize(gallery.float(), dim=1), normalize(queries.float(), dim=1)
    k = min(k, len(gallery) - (own is not None))
    found = []
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ gallery.T
        if own is not None:
            similarity.scatter_(1, own[start : start + CHUNK, None].to(similarity.device), -torch.inf)
        found.append(similarity.topk(k, dim=1).indices)
    return torch.cat(found)


def recall_at(right: Tensor, k: int) -> float:
    """Share of the rows of ``right`` (M, K) bool, best match first, with a True among the first k."""
    return float(right[:, :k].any(dim=1).double().mean())


def recall_by_chance(gallery: Tensor, queries: Tensor, k: int, excluded: bool = False) -> float:
    """R@k of k samples drawn without replacement: the mean over queries of 1 - C(N - n, k) / C(N, k).

    ``gallery`` (N,) and ``queries`` (M,) are labels, n is the number of the gallery's samples of the query's
    class; with ``excluded`` the query itself is one of them, and cannot be drawn.
    """
    size = len(gallery) - int(excluded)
    same = torch.bincount(gallery, minlength=int(queries.max()) + 1)[queries] - int(excluded)
    k = min(k, size)
    drawn = torch.arange(k, dtype=torch.float64)
    miss = ((size - same[:, None].cpu().double() - drawn).clamp_min(0) / (size - drawn)).prod(1)
    return float(1 - miss.mean())
