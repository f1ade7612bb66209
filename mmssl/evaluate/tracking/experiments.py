"""Which runs of a tracker a benchmark asks for: where it starts, with which box, and in which direction.

One-pass (OPE), temporal and spatial robustness (TRE, SRE: Wu et al., CVPR 2013 and TPAMI 2015, with the
numbers of their toolkit), from anchors (VOT 2020 on), and restarted after failures (VOT up to 2019).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.protocols.frame_size import frame_size
from mmssl.evaluate.tracking.protocols.vot_anchor import visited
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.tracking.boxes import Boxes
from mmssl.tracking.frames import Frames

Experiment = Literal["ope", "tre", "sre", "vot_reset", "vot_anchor"]

WORDS: dict[Experiment, str] = {
    "ope": "OPE: one pass from the first frame",
    "tre": "TRE: 20 starts spread over each sequence, each to the end, frames of all pooled",
    "sre": "SRE: 12 passes from a first box that is shifted or scaled by 10 or 20 %, frames of all pooled",
    "vot_reset": "started again 5 frames after a failure; one run, for repetitions would be the same",
    "vot_anchor": "from every anchor (each 50th frame where none are named) to an end of the sequence",
}
"""What a score's protocol says of the experiment."""

SEGMENTS, SHORTEST = 20, 20
"""Runs of TRE, and the frames that the last of them has at least."""
SHIFT = 0.1
SCALES = (0.8, 0.9, 1.1, 1.2)
ANCHOR_STEP = 50
"""Frames between anchors where a benchmark names none, as VOT 2020 places them."""


@dataclass(frozen=True)
class Run:
    """One start of a tracker, and the frames that it sees from there on, in order."""

    name: str
    """``ope``, ``tre_07``, ``sre_left``; of an anchor its signed frame."""
    whole: Sequence
    numbers: NDArray[np.int64]
    """(n,) frames of the whole sequence, ascending or descending."""
    box: Boxes
    """(4,) that the tracker is given on the first of them."""

    @property
    def sequence(self) -> Sequence:
        """What the run is judged against: the frames it saw, in its order."""
        return part(self.whole, self.numbers)


def ope(sequence: Sequence) -> list[Run]:
    """One pass from the first frame."""
    return [_run("ope", sequence, np.arange(len(sequence)))]


def tre(sequence: Sequence) -> list[Run]:
    """20 starts, spread over the frames with a box, each run to the end; the last has 20 frames or more.

    As the toolkit does: of the E frames that may be started from, numbers ⌊1 + k · E / 19⌋ and E. A sequence
    too short for that is run once.
    """
    one_based = sequence.truth + np.array([1, 1, 0, 0])
    starts = np.flatnonzero((one_based > 0).all(axis=-1))  # NaN is not greater either
    starts = starts[len(sequence) - starts >= SHORTEST]
    if not len(starts):
        return [_run("tre_01", sequence, np.arange(len(sequence)))]
    step = len(starts) / (SEGMENTS - 1)
    count = int((len(starts) - 1) / step + 1e-9) + 1
    chosen = [*np.floor(1 + step * np.arange(count) + 1e-9).astype(np.int64) - 1, len(starts) - 1]
    return [
        _run(f"tre_{number:02d}", sequence, np.arange(starts[at], len(sequence)))
        for number, at in enumerate(chosen, 1)
    ]


def sre(sequence: Sequence) -> list[Run]:
    """12 runs from the first frame whose box is wrong by a tenth: shifted, a corner drawn out, or scaled."""
    numbers = np.arange(len(sequence))
    first = _run("sre", sequence, numbers)
    width, height = frame_size(sequence)
    return [
        Run(f"sre_{name}", sequence, numbers, _cut(box, width, height)) for name, box in _disturbed(first.box)
    ]


def _disturbed(box: Boxes) -> Iterator[tuple[str, Boxes]]:
    """The toolkit's boxes, rounded to whole pixels as there.

    A shift moves the box by a tenth of its side. A corner shift moves one corner outwards; its opposite
    stays.
    """
    x, y, w, h = box
    right, down = _round(SHIFT * w + 0.5), _round(SHIFT * h + 0.5)
    for name, dx, dy in (("left", -right, 0), ("right", right, 0), ("up", 0, -down), ("down", 0, down)):
        yield name, np.array([x + dx, y + dy, w, h])
    left, top = _round(x - SHIFT * w), _round(y - SHIFT * h)
    end, bottom = _round(x + w - 1 + SHIFT * w) + 1, _round(y + h - 1 + SHIFT * h) + 1
    for vertical, y0, y1 in (("top", top, y + h), ("bottom", y, bottom)):
        for horizontal, x0, x1 in (("left", left, x + w), ("right", x, end)):
            yield f"{vertical}_{horizontal}", np.array([x0, y0, x1 - x0, y1 - y0])
    for scale in SCALES:
        sides = scale * box[2:]
        yield f"scale_{scale:g}", _round(np.concatenate([box[:2] + box[2:] / 2 - sides / 2, sides]))


def _round(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.floor(np.asarray(x) + 0.5)


def _cut(box: Boxes, width: float, height: float) -> Boxes:
    """As the toolkit does: a corner outside the image moves in, then the far sides are cut."""
    corner = np.maximum(box[:2], 0)
    return np.concatenate([corner, np.minimum(box[2:], (width, height) - corner)])


def vot_anchor(sequence: Sequence) -> list[Run]:
    """From every anchor forward to the end, or backward to the start if its number is negative."""
    return [_run(str(anchor), sequence, visited(anchor, len(sequence))) for anchor in sequence.anchors]


def anchored(sequence: Sequence) -> Sequence:
    """With anchors every 50 frames and on the last one, each towards the farther end, where it names none.

    As VOT 2020 places them (Kristan et al., 2020); frames without a box are left out.
    """
    last = len(sequence) - 1
    frames = sorted({*range(0, last, ANCHOR_STEP), last})
    own = tuple(at if last - at >= at else -at for at in frames if has_box(sequence.truth[at]))
    return sequence if sequence.anchors else replace(sequence, anchors=own)


RUNS: dict[str, Callable[[Sequence], list[Run]]] = {
    "ope": ope,
    "tre": tre,
    "sre": sre,
    "vot_anchor": vot_anchor,
}
"""Experiments whose runs are known beforehand; VOT's reset-based one (``supervised``) is not among them."""


def part(sequence: Sequence, numbers: NDArray[np.int64]) -> Sequence:
    """The sequence's frames ``numbers``, in that order, with all that is known of them; no anchors."""
    if np.array_equal(numbers, np.arange(len(sequence))):
        return sequence
    rows: dict[str, Any] = {
        name: None if (values := getattr(sequence, name)) is None else values[numbers]
        for name in ("polygons", "absent", "cover")
    }
    tags = {name: values[numbers] for name, values in sequence.frame_attributes.items()}
    return replace(
        sequence,
        frames=SomeFrames(sequence.frames, numbers),
        truth=sequence.truth[numbers],
        frame_attributes=tags,
        anchors=(),
        **rows,
    )


class SomeFrames(Frames):
    """Some frames of others, in any order."""

    def __init__(self, frames: Frames, numbers: NDArray[np.int64]) -> None:
        self.frames, self.numbers, self.name = frames, numbers, frames.name

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Tensor:
        return self.frames[int(self.numbers[number])]


def start_box(sequence: Sequence, number: int) -> Boxes:
    """The truth of a frame, to start from.

    Raises:
        MmsslError: the frame has no box, or one without area.
    """
    box = sequence.truth[number]
    if not has_box(box):
        raise MmsslError(
            f"{sequence.name}: frame {number}: expected a box to start the tracker with, found {box.tolist()}"
        )
    return box


def has_box(box: Boxes) -> bool:
    return bool(np.isfinite(box).all() and (box[2:] > 0).all())


def _run(name: str, sequence: Sequence, numbers: NDArray[np.int64]) -> Run:
    return Run(name, sequence, numbers, start_box(sequence, int(numbers[0])))
