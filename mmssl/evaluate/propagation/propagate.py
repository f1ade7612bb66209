"""Labels of a first frame carried through a video by the similarity of features.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (DINO, ICCV 2021, appendix) and
Jabri et al., "Space-Time Correspondence as a Contrastive Random Walk" (CRW, NeurIPS 2020, section 4.1). With
unit features q of a cell and c_j of the cells of a context, the first frame and the last few, the label of q
is Σ_j A_j l_j over its k most similar c_j within a window around it, A = softmax(qᵀc_j / T) over these k.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from mmssl.config import Config

TILE = 16
"""Side in cells of the squares of queries that are compared with their surroundings in one product: bounds
memory at (16 + 2 r)² similarities for each query and frame of the context, whatever the size of the map."""


class Rule(Config):
    """How labels are carried from frame to frame."""

    previous: NonNegativeInt
    """n, frames just before the current one that are its context beside the first."""
    k: PositiveInt
    """Most similar cells of the whole context that are heard; fewer where there are fewer."""
    radius: NonNegativeInt
    """r, in cells: how far a label may jump from one frame of the context."""
    temperature: PositiveFloat
    """T of the softmax over the k."""
    window: Literal["square", "disc"]
    """Cells no further than r down and across, or those at a Euclidean distance below r."""
    first_anywhere: bool
    """The first frame is compared as a whole: no window."""
    repeat_first: bool
    """Before there are n previous frames the first one stands in for those that are missing, windowed."""
    shrink: Literal["nearest-exact", "bilinear"]
    """How the first mask becomes soft labels of cells: one pixel of each, or the four around its centre."""
    stretch: bool
    """Each label's map is stretched to 0..1 before labels are compared."""


PRESETS: dict[str, Rule] = {
    "dino": Rule(
        previous=7, k=5, radius=12, temperature=0.1, window="square",
        first_anywhere=False, repeat_first=False, shrink="nearest-exact", stretch=True,
    ),
    "crw": Rule(
        previous=20, k=10, radius=12, temperature=0.05, window="disc",
        first_anywhere=True, repeat_first=True, shrink="bilinear", stretch=False,
    ),
}  # fmt: skip
"""As the public evaluations of the two papers have it. The first of CRW's equal similarities, which 20 copies
of the first frame are full of, are as many as k; in DINO's code all that equal the k-th count."""


def propagate(maps: Iterable[Tensor], labels: Tensor, rule: Rule) -> Iterator[Tensor]:
    """Soft labels (L, h, w) of the second frame, the third, and so on.

    Args:
        maps: (C, h, w) unit features of each frame, from the first on.
        labels: (L, h, w) of the first frame's cells, on the device of the maps.
    """
    frames = iter(maps)
    first = cells(next(frames)), cells(labels)
    before = deque([first] * (rule.previous if rule.repeat_first else 0), maxlen=rule.previous)
    for map_ in frames:
        query = cells(map_)
        near = list(before) if rule.first_anywhere else [first, *before]
        found = carried(query, near, first if rule.first_anywhere else None, rule)
        yield found.permute(2, 0, 1)
        before.append((query, found))


def cells(map_: Tensor) -> Tensor:
    """(C, h, w) → (h, w, C) contiguous: what lies at a cell lies side by side."""
    return map_.permute(1, 2, 0).contiguous()


Frame = tuple[Tensor, Tensor]
"""Of the context: unit features (h, w, C) and labels (h, w, L)."""


def carried(query: Tensor, near: list[Frame], anywhere: Frame | None, rule: Rule) -> Tensor:
    """Labels (h, w, L) of ``query`` (h, w, C): from frames within the window, and from one without a window.

    A cell for which neither is there (no frame, or an empty window) gets no label: zeros.
    """
    height, width, _ = query.shape
    everything = [] if anywhere is None else [anywhere]
    labels = (near + everything)[0][1]
    found = labels.new_zeros(height, width, labels.shape[-1])
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = slice(top, top + TILE), slice(left, left + TILE)
            around = _around(top, height, rule.radius), _around(left, width, rule.radius)
            q = query[tile].flatten(0, 1)
            keys = [frame[around].flatten(0, 1) for frame, _ in near]
            values = [label[around].flatten(0, 1) for _, label in near]
            inside = within(tile, around, (height, width), rule, query.device)
            allowed = [inside] * len(near)
            for frame, label in everything:
                keys.append(frame.flatten(0, 1))
                values.append(label.flatten(0, 1))
                allowed.append(inside.new_ones(len(q), height * width))
            similarity = q @ torch.cat(keys).T
            similarity.masked_fill_(~torch.cat(allowed, dim=1), -torch.inf)
            best, index = similarity.topk(min(rule.k, similarity.shape[1]), dim=1)
            weight = (best / rule.temperature).softmax(dim=1).nan_to_num(0)  # −∞ throughout: nobody to ask
            carried_here = torch.einsum("qk,qkl->ql", weight, torch.cat(values)[index])
            found[tile] = carried_here.unflatten(0, found[tile].shape[:2])
    return found


def within(
    tile: tuple[slice, slice],
    around: tuple[slice, slice],
    size: tuple[int, int],
    rule: Rule,
    device: torch.device,
) -> Tensor:
    """(cells of the tile, cells around it) bool: which may be heard."""
    (y, x), (v, u) = (
        [torch.arange(side, device=device)[part] for side, part in zip(size, where, strict=True)]
        for where in (tile, around)
    )
    down, across = (y[:, None] - v).abs(), (x[:, None] - u).abs()
    if rule.window == "square":
        inside = (down <= rule.radius)[:, None, :, None] & (across <= rule.radius)[None, :, None, :]
    else:
        squares = down.square()[:, None, :, None] + across.square()[None, :, None, :]
        inside = squares < rule.radius**2
    return inside.flatten(0, 1).flatten(1)


def _around(start: int, side: int, radius: int) -> slice:
    return slice(max(0, start - radius), min(side, start + TILE + radius))
