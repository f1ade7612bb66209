"""Retrieval from one view of a sample to another: does a picture find its own depth among those of others?

Both views pass their encoders and heads into the common space that the method was trained in (Contrastive
Multiview Coding, Tian et al., ECCV 2020), and are compared by cosine. With one right answer a query, the
hit rate R@k is recall at k.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn.functional import interpolate

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.health import spaced
from mmssl.evaluate.strips import Strip, sheet
from mmssl.files import write_bytes
from mmssl.methods.base import Method
from mmssl.methods.multiview.views import Embedding
from mmssl.pictures import sight_picture
from mmssl.stream import scan
from mmssl.stream.batch import Batch

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

_EQUAL = 1e-6
"""Cosines of float32 features that differ by less are equal."""
_MATCHES, _SIDE = 5, 96
"""Matches beside a query, and pixels of a picture."""


class CrossModalConfig(EvaluationConfig):
    """Retrieval between the views of a method over several views."""

    name: Literal["cross_modal"] = "cross_modal"
    pairs: tuple[tuple[str, str], ...] = ()
    """Names of two views each, asked both ways: ``[[rgb, depth]]``; by default every two views."""
    samples: PositiveInt = 500
    """At most so many of the query split: evenly spaced in the order of their ids, the same every time."""
    k: tuple[PositiveInt, ...] = (1, 5, 10)
    shown: NonNegativeInt = 6
    """Queries in the picture of each direction, evenly spaced too."""


@dataclass(frozen=True)
class Embedded:
    """What the method makes of every view of n samples."""

    ids: Tensor
    """(n,) int64."""
    z: dict[str, Tensor]
    """View to (n, d) float32, unit vectors."""
    present: dict[str, Tensor]
    """View to (n,) bool."""
    asked: int
    """Samples that were looked for; those missing could not be read."""


class CrossModal(Evaluation):
    """``cross_modal/A_to_B``: R@k and median rank of a sample's own view B among all, by its view A.

    Pictures ``cross_modal_A_to_B.png`` show queries and what they find.
    """

    Config = CrossModalConfig

    def run(self, subject: "Subject") -> list[Score]:
        config: CrossModalConfig = self.config
        method = embedding(subject.method)
        pairs = config.pairs or tuple(combinations(method.names, 2))
        for name in {name for pair in pairs for name in pair} - set(method.names):
            known = ", ".join(method.names)
            raise MmsslError(f"evaluation cross_modal: pairs: expected views among {known}, found {name!r}")
        found = self._embed(subject, method)
        scores = []
        for pair in pairs:
            for a, b in (pair, pair[::-1]):
                both = found.present[a] & found.present[b]
                if not bool(both.any()):
                    raise MmsslError(
                        f"shard set {subject.manifest.name!r}: {subject.queries}: no sample has {a} and {b}"
                    )
                similarity = found.z[a][both].double() @ found.z[b][both].double().T
                scores += self._scores(subject, a, b, ranks(similarity), found)
                if subject.folder is not None and config.shown:
                    self._draw(subject, method, (a, b), similarity, found.ids[both])
        return scores

    @torch.inference_mode()
    def _embed(self, subject: "Subject", method: Embedding) -> Embedded:
        part = subject.part(subject.queries)
        every = torch.tensor(sorted(part.ids)) if part.ids is not None else torch.arange(part.samples)
        chosen = spaced(every, self.config.samples)
        batches = list(_looked_at(subject, method, chosen))
        if not batches:
            name = subject.manifest.name
            raise MmsslError(f"shard set {name!r}: split {subject.queries!r} has no readable sample")
        z: dict[str, list[Tensor]] = {name: [] for name in method.names}
        for batch in batches:
            for name, vectors in method.embed(batch.to(subject.device)).items():
                z[name].append(vectors.cpu())
        present = torch.cat([batch.views["present"].cpu() for batch in batches])
        return Embedded(
            torch.cat([batch.id for batch in batches]),
            {name: torch.cat(vectors) for name, vectors in z.items()},
            {name: present[:, number] for number, name in enumerate(method.names)},
            len(chosen),
        )

    def _scores(self, subject: "Subject", a: str, b: str, rank: Tensor, found: Embedded) -> list[Score]:
        n = len(rank)
        about = (
            f"{n} of {subject.queries}, evenly spaced in the order of ids; each view {a} ranks the {b} of "
            "all, among them its own, by cosine behind the heads; what is as similar counts as more so; "
            "views without augmentation"
        )
        if left_out := found.asked - n:
            about += f"; {left_out} unreadable or without {a} or {b} left out"
        scores = [
            Score(
                evaluation=f"cross_modal/{a}_to_{b}",
                metric=f"R@{k}",
                value=100 * float((rank <= k).double().mean()),
                unit="%",
                protocol=f"share of samples found among the first {k}; {about}",
                chance=100 * min(k, n) / n,
                ceiling=100.0,
                headline=k == self.config.k[0],
            )
            for k in self.config.k
        ]
        return [
            *scores,
            Score(
                evaluation=f"cross_modal/{a}_to_{b}",
                metric="median rank",
                value=float(rank.double().quantile(0.5)),
                unit="",
                protocol=f"median over samples of the rank of their own, from 1; {about}",
                chance=(n + 1) / 2,
                ceiling=1.0,
                better="lower",
                headline=False,
            ),
        ]

    @torch.inference_mode()
    def _draw(
        self, subject: "Subject", method: Embedding, pair: tuple[str, str], similarity: Tensor, ids: Tensor
    ) -> None:
        """Some queries, each followed by what it finds first."""
        assert subject.folder is not None
        a, b = pair
        rows = spaced(torch.arange(len(ids)), self.config.shown)
        nearest = similarity[rows].topk(min(_MATCHES, len(ids)), dim=1).indices
        wanted = torch.cat([ids[rows], ids[nearest].flatten()]).unique()
        seen: dict[tuple[str, int], Tensor] = {}
        for batch in _looked_at(subject, method, wanted):
            for name in pair:
                small = interpolate(sight_picture(method.shown(name), batch.views[name]), (_SIDE, _SIDE))
                seen |= {(name, id_): one for id_, one in zip(batch.id.tolist(), small, strict=True)}
        strips = [
            [Strip(seen[a, int(ids[row])][None], a)]
            + [Strip(seen[b, int(ids[j])][None], f"{b} {n}", j == row) for n, j in enumerate(its, 1)]
            for row, its in zip(rows.tolist(), nearest.tolist(), strict=True)
        ]
        write_bytes(subject.folder / "pictures" / f"cross_modal_{a}_to_{b}.png", sheet(strips))


def embedding(method: Method | None) -> Embedding:
    """The method, whose heads lead into a common space.

    Raises:
        MmsslError: there is none beside the encoders, or one without such heads.
    """
    if isinstance(method, Embedding):
        return method
    found = "an encoder alone" if method is None else f"method {method.config.name!r}"
    raise MmsslError(
        "evaluation cross_modal: expected `encoders` to name a train stage of a method that brings several "
        f"views into one space, with its heads; found {found}"
    )


def ranks(similarity: Tensor) -> Tensor:
    """(n,) int64 rank from 1 of the diagonal among each row of (n, n) cosines.

    What is as similar as the right answer, within the precision of features, is ranked before it, and so is
    what cannot be compared (NaN): a network that maps everything to one point finds nothing.
    """
    own = similarity.diagonal()[:, None]
    return (~(similarity < own - _EQUAL)).sum(dim=1)


def _looked_at(subject: "Subject", method: Embedding, ids: Tensor) -> Iterator[Batch]:
    """Batches of the samples of the query split with these ids, as the method sees them, but unaugmented."""
    part = subject.part(subject.queries)
    part = replace(part, ids=frozenset(ids.tolist()), samples=len(ids))
    kind = type(method.views["views"])
    view = kind({name: method.shown(name) for name in method.names}, None)  # type: ignore[call-arg]
    own = part.view(view)
    return part.own(scan(part.config, {"views": own}, batch_size=subject.batch_size, seed=subject.seed))
