"""Videos as sequences of features: what an encoder says at regular moments, having seen nothing later."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.looks import seeing_colours
from mmssl.models.artifact import VisualEncoder
from mmssl.models.encoder import Encoder
from mmssl.stream.clips.base import Timeline
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import open_video
from mmssl.stream.views.base import View
from mmssl.stream.views.centre import CentreCrop
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.photometric import normalise

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

DECODED = 64
"""Frames of full size that lie in memory at a time."""


@dataclass(frozen=True)
class Track:
    """One camera's video, moment by moment."""

    x: Tensor
    """(n, d) float32; row i has seen the window of the encoder that ends at ``times[i]``."""
    times: Tensor
    """(n,) float64 seconds: 0, step, 2 · step …, before the end of the video."""
    duration: float
    """Seconds."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Phase:
    """A labelled stretch of a video."""

    start: float
    """Seconds, included."""
    end: float
    """Seconds, not included."""
    name: str


@dataclass(frozen=True)
class Sequenced:
    """One sample of a split."""

    id: int
    key: str
    labels: Mapping[str, int]
    """Label name to class index; -1 = it has none."""
    tracks: Mapping[str, Track]
    """Field of the camera to its track."""
    phases: tuple[Phase, ...]
    """In the order of their starts; empty where nothing is labelled."""

    def phase_at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the phase (n,) int64 at each moment, -1 where none is labelled, and the fraction of its
        time that has gone by (n,) float64 in 0..1, NaN there. Of phases that overlap the later one counts."""
        number = torch.full_like(times, -1, dtype=torch.int64)
        gone = torch.full_like(times, torch.nan)
        for index, phase in enumerate(self.phases):
            inside = (times >= phase.start) & (times < phase.end)
            number[inside] = index
            gone[inside] = (times[inside] - phase.start) / (phase.end - phase.start)
        return number, gone


@dataclass(frozen=True)
class Timelines:
    """All readable samples of a split, in order."""

    sequences: tuple[Sequenced, ...]
    words: str
    """How they were seen and what was left out, for protocols."""

    def __iter__(self) -> Iterator[Sequenced]:
        return iter(self.sequences)

    def __len__(self) -> int:
        return len(self.sequences)


_remembered: "weakref.WeakKeyDictionary[Subject, dict[Any, Timelines]]" = weakref.WeakKeyDictionary()
"""What was computed for a subject: several evaluations ask for the same videos at the same moments."""


def timelines(
    subject: "Subject",
    split: str,
    *,
    encoder: str | None = None,
    fields: Sequence[str] = ("video",),
    step: float = 0.1,
) -> Timelines:
    """Features of every video of ``split`` at every ``step`` seconds; computed once a subject.

    An image encoder sees the frame of the moment, a clip encoder the window of its own frames and stride that
    ends there; windows that begin before the video repeat its first frame. Every video is decoded once.

    Raises:
        MmsslError: no readable video with these fields, or metadata that are not as ``shards`` writes them.
    """
    own = _remembered.setdefault(subject, {})
    key = (split, encoder or next(iter(subject.encoders)), tuple(fields), step)
    if key not in own:
        own[key] = _walk_all(subject, split, seeing_colours(subject.encoder(encoder)), tuple(fields), step)
    return own[key]


@torch.inference_mode()
def _walk_all(
    subject: "Subject", split: str, encoder: VisualEncoder, fields: tuple[str, ...], step: float
) -> Timelines:
    view = Walk(fields, encoder, step)
    sequences = []
    for batch in subject.scan(split, view, f"moments of {split}", batch_size=1):
        seen = batch.input
        tracks = {
            field: Track(
                _encode(encoder, seen[field], subject.device, subject.batch_size),
                torch.from_numpy(seen[field].times),
                seen[field].duration,
            )
            for field in fields
        }
        labels = {name: int(values[0]) for name, values in batch.label.items()}
        sequences.append(
            Sequenced(int(batch.id[0]), batch.key[0], labels, tracks, _phases(seen["phases"], batch.key[0]))
        )
    if not sequences:
        raise MmsslError(f"evaluation: split {split!r} has no readable sample with {', '.join(fields)}")
    words = f"{len(sequences)} videos of {split} every {step:g} s, {view.words}"
    if left_out := subject.manifest.split(split).samples - len(sequences):
        words += f"; {left_out} unreadable and left out"
    return Timelines(tuple(sequences), words)


def _encode(encoder: VisualEncoder, shown: "_Shown", device: torch.device, batch: int) -> Tensor:
    """(n, d) float32; ``batch`` counts frames, so that long windows take no more memory than single ones."""
    rows = max(1, batch // shown.windows.shape[1])
    found = []
    for windows in torch.from_numpy(shown.windows).split(rows):
        x = normalise(shown.frames[windows].to(device), encoder.mean, encoder.std)
        found.append(encoder(x[:, 0] if isinstance(encoder, Encoder) else x).float().cpu())
    return torch.cat(found)


@dataclass(frozen=True)
class _Shown:
    """One camera's video, cut to the encoder's size."""

    frames: Tensor
    """(u, 3, S, S) uint8: each frame that some window shows, once."""
    windows: NDArray[np.int64]
    """(n, T) rows of ``frames``."""
    times: NDArray[np.float64]
    """(n,) seconds."""
    duration: float


class Walk(View):
    """All windows of a video, for batches of one sample: ``_Shown`` by field, and ``phases`` as stored."""

    optional = ("meta",)

    def __init__(self, fields: tuple[str, ...], encoder: VisualEncoder, step: float) -> None:
        self.fields = fields
        self.step = step
        size = encoder.image_size
        window, stride = (1, 0.0) if isinstance(encoder, Encoder) else (encoder.frames, encoder.stride)
        self.before = (np.arange(window) - (window - 1)) * stride
        """(T,) seconds from the moment to each frame of its window, ascending to 0."""
        self._centre = CentreCrop(size, encoder.mean, encoder.std, resize=size)
        one = f"{window} frames every {stride:g} s up to the moment" if window > 1 else "one frame"
        self.words = f"{one}, {size} px centre crop"

    def read(self, sample: Sample, draws: Draws) -> dict[str, Any]:
        meta = sample.meta
        shown: dict[str, Any] = {field: self._camera(sample, field, draws) for field in self.fields}
        return shown | {"phases": meta.get("phases", [])}

    def _camera(self, sample: Sample, field: str, draws: Draws) -> _Shown:
        try:
            with open_video(sample[field]) as video:
                times = self._moments(video.duration)
                moments = (times[:, None] + self.before).reshape(-1)
                numbers, windows = np.unique(
                    Timeline(video.times, video.duration).frames_at(moments), return_inverse=True
                )
                cut = [
                    self._centre.prepare(list(video.read(numbers[at : at + DECODED])), draws)
                    for at in range(0, len(numbers), DECODED)
                ]
                return _Shown(torch.cat(cut), windows.reshape(len(times), -1), times, video.duration)
        except ValueError as error:
            raise Unreadable(field, str(error)) from error

    def _moments(self, duration: float) -> NDArray[np.float64]:
        """0, step, 2 · step …, before the end; at least one."""
        return np.arange(max(1, int(np.ceil(duration / self.step - 1e-6))), dtype=np.float64) * self.step

    def prepare(self, items: Sequence[Any], draws: Draws) -> dict[str, Any]:
        if len(items) != 1:
            raise ValueError(f"{len(items)} videos; expected one at a time, since they differ in length")
        return dict(items[0])

    def finish(self, x: Any, draws: Draws) -> dict[str, Any]:
        return dict(x)  # still uint8: what is encoded next becomes float, not the whole video


def _phases(stored: Any, key: str) -> tuple[Phase, ...]:
    try:
        phases = [Phase(float(one["start"]), float(one["end"]), str(one["name"])) for one in stored]
    except (TypeError, KeyError, ValueError) as error:
        raise MmsslError(f"{key}: meta.phases: expected a list of start, end and name ({error})") from error
    for phase in phases:
        if not phase.start <= phase.end:
            span = f"{phase.name!r} from {phase.start} to {phase.end} s"
            raise MmsslError(f"{key}: meta.phases: {span}; expected start ≤ end")
    return tuple(sorted(phases, key=lambda phase: (phase.start, phase.end)))
