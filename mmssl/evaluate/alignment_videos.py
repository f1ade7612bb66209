"""Matching moments between videos of the same process: order, phases, and what is recalled from others."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Score
from mmssl.evaluate.matching import Distance, kendall, nearest, recall
from mmssl.evaluate.resample import Resampled, bootstrap, mean
from mmssl.evaluate.timelines import Sequenced, Timelines

ROWS = 256
"""Moments compared with all others at a time."""


@dataclass(frozen=True)
class Process:
    """Videos of which some show the same process."""

    found: Timelines
    field: str
    """The camera."""
    name: str
    """Label name: videos of one of its classes show the same process; ``all``: every two videos do."""
    distance: Distance
    seed: int

    @property
    def who(self) -> str:
        return "videos" if self.name == "all" else f"videos of the same {self.name}"

    def pairs(self, most: int) -> Tensor:
        """(P, 2) int64: ordered pairs of different videos of the process; of more than ``most``, a draw.

        Raises:
            MmsslError: no such label, or no two videos of one class.
        """
        if self.name == "all":
            classes = torch.zeros(len(self.found), dtype=torch.int64)
        else:
            classes = torch.tensor([sequence.labels.get(self.name, -1) for sequence in self.found])
        same = (classes[:, None] == classes) & (classes >= 0) & ~torch.eye(len(self.found), dtype=torch.bool)
        pairs = same.nonzero()
        if not len(pairs):
            have = ", ".join(sorted({name for sequence in self.found for name in sequence.labels})) or "none"
            raise MmsslError(
                f"evaluation alignment: process: no two videos share a class of "
                f"{self.name!r}; expected `all` or one of the labels ({have})"
            )
        if len(pairs) > most:
            generator = torch.Generator().manual_seed(self.seed)
            pairs = pairs[torch.randperm(len(pairs), generator=generator)[:most].sort().values]
        return pairs

    def order(self, pairs: Tensor) -> list[Score]:
        """Kendall's τ of every pair (a, b): does time run forward in b while it does in a?"""
        tracks = [sequence.tracks[self.field].x for sequence in self.found]
        values = torch.tensor(
            [kendall(nearest(tracks[a], tracks[b], self.distance).argmax(1)) for a, b in pairs.tolist()],
            dtype=torch.float64,
        )
        undefined = values.isnan()
        spread = over_first(pairs, values.nan_to_num(0), self.seed)
        protocol = (
            f"Kendall's τ-b between the order of one video's moments and that of their nearest neighbours "
            f"({self.distance}) in another, mean over {len(pairs)} ordered pairs of {self.who}; "
            f"{int(undefined.sum())} pairs without a value count as 0; {self.found.words}; "
            "95 % interval by bootstrap over first videos"
        )
        return [
            Score(
                "alignment/order", "Kendall's τ", float(values.nan_to_num(0).mean()), "", protocol, 0.0, 1.0,
                interval=None if spread is None else spread.interval,
            ),
            Score(
                "alignment/order", "pairs without τ", 100 * float(undefined.double().mean()), "%", protocol,
                better="lower",
            ),
        ]  # fmt: skip

    def phase(self, pairs: Tensor) -> list[Score]:
        """How far the matched moment is in the other video's phases; nothing where no phases are labelled."""
        counted = [len(sequence.phases) for sequence in self.found]
        comparable = [(a, b) for a, b in pairs.tolist() if counted[a] == counted[b] > 0]
        progress = [phase_progress(sequence, self.field) for sequence in self.found]
        kept, errors, chances = [], [], []
        for a, b in comparable:
            inside_a, inside_b = ~progress[a].isnan(), ~progress[b].isnan()
            if not inside_a.any() or not inside_b.any():
                continue
            gap = (progress[a][inside_a][:, None] - progress[b][inside_b]).abs()
            x, y = (self.found.sequences[row].tracks[self.field].x for row in (a, b))
            weight = nearest(x[inside_a], y[inside_b], self.distance)
            kept.append((a, b))
            errors.append(float((weight * gap).sum(1).mean()))
            chances.append(float(gap.mean()))
        if not kept:
            return []
        value, chance = (torch.tensor(of, dtype=torch.float64) for of in (errors, chances))
        protocol = (
            "position (phases gone by plus the share of the current one, over all phases) of a moment "
            f"against that of its nearest neighbour ({self.distance}) in another video, mean over "
            f"{len(kept)} ordered pairs of {self.who} with equally many phases "
            f"({len(pairs) - len(kept)} pairs without); {self.found.words}; chance: a uniformly "
            "random moment; 95 % interval by bootstrap over first videos"
        )
        spread = over_first(torch.tensor(kept), value, self.seed)
        return [
            Score(
                "alignment/phase", "phase error", 100 * float(value.mean()), "%", protocol,
                100 * float(chance.mean()), 0.0, better="lower",
                interval=None if spread is None else spread.percent,
            )
        ]  # fmt: skip


def phase_progress(sequence: Sequenced, field: str) -> Tensor:
    """(n,) float64 in 0..1: how far the phases have got at each moment; NaN where none is labelled."""
    number, gone = sequence.phase_at(sequence.tracks[field].times)
    return (number + gone) / max(len(sequence.phases), 1)


@dataclass(frozen=True)
class Known:
    """Moments of many videos with a value each."""

    names: list[str]
    """Of the values."""
    x: Tensor
    """(N, d) float32."""
    y: Tensor
    """(N,) int64, indices of ``names``."""
    owner: Tensor
    """(N,) int64: the number of the video."""


def moments_with(found: Timelines, field: str, attribute: str, classes: Sequence[str] = ()) -> Known:
    """All moments of one camera whose phase or label is known.

    Raises:
        MmsslError: no moment has one, or only one video has any.
    """
    x, y, owner = [], [], []
    names: dict[str, int] = {}
    for row, sequence in enumerate(found):
        track = sequence.tracks[field]
        if attribute == "phase":
            number, _ = sequence.phase_at(track.times)
            own = [names.setdefault(phase.name, len(names)) for phase in sequence.phases]
            value = torch.tensor([*own, -1])[number]  # number -1 is the last entry
        else:
            label = sequence.labels.get(attribute, -1)
            name = classes[label] if 0 <= label < len(classes) else str(label)
            value = torch.full((len(track),), -1 if label < 0 else names.setdefault(name, len(names)))
        inside = value >= 0
        x.append(track.x[inside])
        y.append(value[inside])
        owner.append(torch.full((int(inside.sum()),), row))
    if sum(len(rows) > 0 for rows in owner) < 2:
        raise MmsslError(
            f"evaluation alignment: attributes: {attribute!r} is known in fewer than two videos; expected a "
            "label name, or `phase` where the metadata have phases"
        )
    return Known(list(names), torch.cat(x), torch.cat(y), torch.cat(owner))


def recalled(attribute: str, known: Known, words: str, distance: Distance, most: int) -> list[Score]:
    """Nearest neighbours among other videos' moments; at most ``most`` moments ask, evenly spaced."""
    names, x, y, owner = known.names, known.x, known.y, known.owner
    asking = torch.arange(len(x))
    if len(x) > most:
        asking = torch.linspace(0, len(x) - 1, most).round().long()
    hits, chances = torch.zeros(len(asking)).double(), torch.zeros(len(asking)).double()
    for part in torch.arange(len(asking)).split(ROWS):
        rows = asking[part]
        others = owner[rows, None] != owner
        right = (y[rows, None] == y) & others
        weight = nearest(x[rows], x, distance, others)
        hits[part] = (weight * right).sum(1)
        chances[part] = right.sum(1).double() / others.sum(1).clamp_min(1)
    found_classes, recalls = recall(hits, y[asking])
    never = [names[int(c)] for c, r in zip(found_classes, recalls, strict=True) if r == 0]
    protocol = (
        f"nearest neighbour ({distance}) among the moments of all other videos; recall@1 of "
        f"each class, mean over all {len(recalls)} classes, of which {len(never)} are never found and "
        f"count as 0; {len(asking)} of {len(x)} labelled moments ask; {words}; chance: a random moment"
    )
    return [
        Score(
            f"alignment/recall {attribute}", "recall@1", 100 * float(recalls.mean()), "%", protocol,
            100 * float(recall(chances, y[asking])[1].mean()), 100.0,
        ),
        Score(
            f"alignment/recall {attribute}", "classes never found", float(len(never)), "classes",
            protocol + (f"; never found: {', '.join(never[:20])}" if never else ""), better="lower",
        ),
    ]  # fmt: skip


def over_first(pairs: Tensor, values: Tensor, seed: int) -> Resampled | None:
    """Bootstrap of the mean of ``values`` (P,), with the pairs of one first video drawn together."""
    _, rows = pairs[:, 0].unique(return_inverse=True)
    totals = torch.zeros(int(rows.max()) + 1, 2, dtype=torch.float64)
    totals.index_add_(0, rows, torch.stack([values, torch.ones_like(values)], dim=1))
    return bootstrap(totals, mean, seed)
