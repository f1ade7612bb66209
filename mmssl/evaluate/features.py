"""Features of one split, and how those of several encoders become one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from mmssl.evaluate.looks import Look


@dataclass(frozen=True)
class Features:
    """Pooled features of one split, in the order of the shards."""

    x: Tensor
    """(N, d) float32; (N, V, …) where clips and crops are kept apart."""
    labels: dict[str, Tensor]
    """Label name to (N,) int64; -1 = the sample has no such label."""
    ids: Tensor
    """(N,) int64 stable sample ids."""
    keys: list[str]
    unreadable: int = 0
    """Samples of the split that could not be read and are in none of the arrays."""
    widths: tuple[int, ...] = ()
    """Dimensions of each encoder's part of d, where those of several are put side by side."""

    def __len__(self) -> int:
        return len(self.x)

    def labelled(self, name: str) -> tuple[Tensor, Tensor, int]:
        """Features (M, …) and labels (M,) of the samples that have the label, and how many have none."""
        labels = self.labels[name]
        has = labels >= 0
        return self.x[has], labels[has], int((~has).sum())

    def rows(self, rows: Tensor) -> "Features":
        """Some of the samples; those left out count as unreadable."""
        labels = {name: values[rows] for name, values in self.labels.items()}
        keys = [self.keys[row] for row in rows.tolist()]
        left_out = self.unreadable + len(self) - len(rows)
        return replace(
            self, x=self.x[rows], labels=labels, ids=self.ids[rows], keys=keys, unreadable=left_out
        )

    @property
    def directions(self) -> "Features":
        """What cosines are taken of: of several encoders each part at unit length, so that each counts alike.

        The features of one encoder stay as they are.
        """
        return replace(self, x=unit_parts(self.x, self.widths))


def unit_parts(x: Tensor, widths: Sequence[int]) -> Tensor:
    """``x`` (…, Σ widths) with each part at unit length; ``x`` itself where there are no parts."""
    if not widths:
        return x
    return torch.cat([normalize(part, dim=-1) for part in x.split(list(widths), dim=-1)], dim=-1)


def described(look: Look, found: Mapping[str, Features]) -> str:
    """What a look shows, and how many samples of each split were left out as unreadable."""
    return told(look.words, found)


def told(words: str, found: Mapping[str, Features]) -> str:
    """``words``, and how many samples of each split were left out as unreadable."""
    left_out = {split: features.unreadable for split, features in found.items()}
    counts = [f"{count} of {split} unreadable and left out" for split, count in left_out.items() if count]
    return "; ".join([words, *counts])


def words_of(looks: Mapping[str, Look]) -> str:
    """What each of several encoders sees; of a single one its own words."""
    if len(looks) == 1:
        return next(iter(looks.values())).words
    each = "; ".join(f"{name}: {look.words}" for name, look in looks.items())
    return (
        f"features of {' and '.join(looks)} side by side (for cosines each of unit length), which see {each}"
    )


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """(N, …, d1 + d2 + …) of (N, …, d1), (N, …, d2) …; one view of a sample stands beside each of several."""
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, -1) for part in parts], dim=-1)


def all_tokens(parts: Sequence[Tensor]) -> Tensor:
    """Tokens (N, V, n1, d1), (N, V, n2, d2) … → (N, V, n1 + n2 + …, d1 + d2 + …): each in dimensions of its
    own, zero in the others', so that one attention can tell them apart and look at all of them."""
    widths = [part.shape[-1] for part in parts]
    total, views = sum(widths), max(part.shape[1] for part in parts)
    placed = []
    for number, part in enumerate(parts):
        before = sum(widths[:number])
        placed.append(pad(part, (before, total - before - widths[number])).expand(-1, views, -1, -1))
    return torch.cat(placed, dim=2)


def joined(parts: Sequence[Features], join: Callable[[Sequence[Tensor]], Tensor] = side_by_side) -> Features:
    """Features of the same split by several encoders as one, of the samples that all of them could read."""
    if len(parts) == 1:
        return parts[0]
    common = set(parts[0].ids.tolist()).intersection(*(part.ids.tolist() for part in parts[1:]))
    kept = []
    for part in parts:
        rows = [row for row, id_ in enumerate(part.ids.tolist()) if id_ in common]
        kept.append(part.rows(torch.tensor(rows, dtype=torch.int64)))
    return replace(
        kept[0], x=join([part.x for part in kept]), widths=tuple(part.x.shape[-1] for part in kept)
    )


def join_labels(labels: Sequence[Mapping[str, Tensor]], ids: Sequence[Tensor]) -> dict[str, Tensor]:
    """Concatenate the labels of all batches; a batch without a label name counts as having none (-1)."""
    names = sorted({name for batch in labels for name in batch})
    return {
        name: torch.cat(
            [
                batch[name] if name in batch else torch.full_like(rows, -1)
                for batch, rows in zip(labels, ids, strict=True)
            ]
        )
        for name in names
    }
