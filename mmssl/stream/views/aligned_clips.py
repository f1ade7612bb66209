"""Several sights of one moment of a video: frames, clips and stacks of flow, all of them cut out alike."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Timeline
from mmssl.stream.decode import EncodedFlow, EncodedVideo
from mmssl.stream.flow import FlowReader, open_flow
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import VideoReader, open_video
from mmssl.stream.views.aligned import CropFlip, drawn
from mmssl.stream.views.base import View
from mmssl.stream.views.channels import channels
from mmssl.stream.views.clip_augmentation import ClipAugmentation
from mmssl.stream.views.crops import resize_frames
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.geometry import Box, cut, scaled
from mmssl.stream.views.shown import Shown

Reader = VideoReader | FlowReader
Numbers = NDArray[np.int64]
Times = NDArray[np.float64]
_SLACK = 1e-6
"""Seconds, as in ``Timeline``."""


class AlignedClips(View):
    """Samples that are videos, and their flow: every sight of one moment t, all of them cut out alike.

    One moment is drawn for each sample and pass: the time of a frame (of a field, where only flow is shown),
    uniform among those from which everything fits. Each sight shows what lies ``after`` seconds behind it:

    - a frame (B, C, S, S): what is on screen;
    - a clip (B, T, C, S, S): what is on screen every ``stride`` seconds from there on;
    - of a flow with C = 2n channels n fields in a row, u and v of each in turn, in sides of the view a gap;
      zeros where it is unknown.

    Nothing is too short: where not everything fits, t is 0, and what would lie behind the end is the last
    frame or field (``shown_at``). Flow may be stored smaller than the video: the crop is the same share of
    both. Colours stay, unless the augmentation is one that changes them; it then draws for each sight of rgb
    by itself.

    Batch entry: name to float32, and ``present`` (B, V) bool in the order of ``shown``. An optional sight
    that a sample lacks is zeros; flow is absent as well where no pixel of the crop is known.

    Args:
        shown: name to what is shown; every field is a video or the flow of one.
        augmentation: None is the largest square in the centre.

    Raises:
        MmsslError: a sight that is neither of a video's images nor of its flow.
    """

    def __init__(
        self, shown: Mapping[str, Shown], augmentation: CropFlip | ClipAugmentation | None = None
    ) -> None:
        for name, sight in shown.items():
            if sight.modality not in ("image", "flow"):
                raise MmsslError(f"view {name!r}: {sight.sees} of videos; expected their images or flow")
        self.shown = dict(shown)
        self.augmentation = augmentation
        self.fields = tuple(dict.fromkeys(sight.field for sight in shown.values() if not sight.optional))
        some = (sight.field for sight in shown.values() if sight.field not in self.fields)
        self.optional = tuple(dict.fromkeys(some))

    def read(self, sample: Sample, draws: Draws) -> dict[str, Tensor]:
        """Name to pixels (n, c, size, size), as ``geometry.cut`` gives them, of each sight the sample has."""
        seen = {name: sight for name, sight in self.shown.items() if sight.field in sample}
        lacking = set(self.fields) - set(sample.members)
        if lacking or not seen:
            field = min(lacking or self.optional)
            raise Unreadable(field, f"absent; the sample has {', '.join(sample.members)}")
        # videos before flow: moments are those of their frames, and the crop is drawn on their finer grid
        flows = {sight.field: sight.modality == "flow" for sight in seen.values()}
        with ExitStack() as stack:
            readers: dict[str, Reader] = {}
            for field in sorted(flows, key=flows.__getitem__):
                readers[field] = _opened(sample, field)
                stack.callback(readers[field].close)
            times = {field: reader.times for field, reader in readers.items()}
            moments = self._moments(seen.values(), times, draws)
            numbers = {name: shown_at(s, times[s.field], moments) for name, s in seen.items()}
            return self._cut(seen, readers, numbers, draws)

    def _moments(self, seen: Iterable[Shown], times: Mapping[str, Times], draws: Draws) -> Times:
        """(m,) seconds; the first field of ``times`` says which there are."""
        lead = next(iter(times.values()))
        latest = min(room(sight, times[sight.field]) for sight in seen)
        fitting = max(1, int(np.searchsorted(lead, latest + _SLACK, side="right")))
        return lead[draws.integers("moment", 1, 0, fitting)[0]]

    def _cut(
        self,
        seen: Mapping[str, Shown],
        readers: Mapping[str, Reader],
        numbers: Mapping[str, Numbers],
        draws: Draws,
    ) -> dict[str, Tensor]:
        """Each field is read once for all its sights."""
        pixels: dict[str, Tensor] = {}
        lead: tuple[int, int] | None = None
        for field, reader in readers.items():
            own = [name for name in seen if seen[name].field == field]
            wanted = np.unique(np.concatenate([numbers[name] for name in own]))
            with _unreadable(field):
                found = reader.read(wanted)
            if field in self.fields and not _known(found):
                raise Unreadable(field, "no pixel of it is known")
            height, width = found.shape[2:]
            if lead is None:
                lead, (box, flip) = (height, width), drawn(self.augmentation, height, width, draws)
            there = box if lead == (height, width) else scaled(box, height / lead[0], width / lead[1])
            for name in own:
                rows = torch.from_numpy(np.searchsorted(wanted, numbers[name]))
                pixels[name] = self._resized(seen[name], found[rows], there, flip)
        return pixels

    def _resized(self, sight: Shown, x: Tensor, box: Box, flip: bool) -> Tensor:
        """(n, c, size, size): the same box of all n pictures."""
        if sight.modality == "flow":
            return torch.stack([cut("flow", field, box, sight.size, flip) for field in x])
        top, left, height, width = (round(side) for side in box)
        part = x[:, :, top : top + max(1, height), left : left + max(1, width)]
        return resize_frames(part, sight.size, flip, "bicubic" if self.augmentation is None else "bilinear")

    def prepare(self, items: Sequence[dict[str, Tensor]], draws: Draws) -> dict[str, Tensor]:
        """Name to (B, n, c, size, size) as it was cut, zeros where absent; and ``present``."""
        batch = {}
        for name, sight in self.shown.items():
            known = [item[name] for item in items if name in item]
            blank = torch.zeros_like(known[0]) if known else _blank(sight)
            batch[name] = torch.stack([item.get(name, blank) for item in items])
        present = [[name in item and _known(item[name]) for name in self.shown] for item in items]
        return {**batch, "present": torch.tensor(present)}

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        batch = {}
        for number, (name, sight) in enumerate(self.shown.items()):
            seen = self._finished(sight, x[name], draws.named(name))
            if sight.field in self.optional:
                seen = torch.where(x["present"][:, number, None, None, None, None], seen, 0)
            batch[name] = seen[:, 0] if sight.frames is None else seen
        return {**batch, "present": x["present"]}

    def _finished(self, sight: Shown, x: Tensor, draws: Draws) -> Tensor:
        """(B, n, c, size, size) as it was cut → (B, T, C, size, size) float32."""
        if isinstance(self.augmentation, ClipAugmentation) and sight.sees == "rgb":
            return self.augmentation.changed(x, draws, sight.mean, sight.std)
        pictures = x.flatten(0, 1).unflatten(0, (-1, fields_of(sight))).flatten(1, 2)
        return channels(sight, pictures).unflatten(0, (len(x), -1))


class SightClips(AlignedClips):
    """One sight at ``clips`` moments of each sample, for evaluations: the largest square in the centre.

    ``frames`` (B, clips · T, C, S, S) float32 as ``ClipView`` has it, T = 1 for encoders of single pictures,
    and ``times`` (B, clips · T) float64 in seconds, of each frame or of the first field of each stack.

    Clips are spread from the first that fits to the last; a single one lies in the middle. Pictures and
    stacks lie in the middles of ``clips`` equal parts of the video.
    """

    def __init__(self, shown: Shown, clips: int) -> None:
        super().__init__({"frames": replace(shown, optional=False)})
        self.sight, self.clips = self.shown["frames"], clips

    def _moments(self, seen: Iterable[Shown], times: Mapping[str, Times], draws: Draws) -> Times:
        own = times[self.sight.field]
        if self.sight.frames is None:
            end = float(own[-1]) * len(own) / max(1, len(own) - 1)  # of the last frame, at an even rate
            return np.asarray((np.arange(self.clips) + 0.5) * (end / self.clips), np.float64)
        latest = max(0.0, room(self.sight, own))
        return np.linspace(0, latest, self.clips) if self.clips > 1 else np.array([latest / 2])

    def _cut(
        self,
        seen: Mapping[str, Shown],
        readers: Mapping[str, Reader],
        numbers: Mapping[str, Numbers],
        draws: Draws,
    ) -> dict[str, Tensor]:
        times = readers[self.sight.field].times[numbers["frames"][:: fields_of(self.sight)]]
        return {**super()._cut(seen, readers, numbers, draws), "times": torch.from_numpy(times)}

    def prepare(self, items: Sequence[dict[str, Tensor]], draws: Draws) -> dict[str, Tensor]:
        return {**super().prepare(items, draws), "times": torch.stack([item["times"] for item in items])}

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        return {"frames": self._finished(self.sight, x["frames"], draws), "times": x["times"]}


def fields_of(sight: Shown) -> int:
    """Pictures stacked in the channels of one: the fields of a flow, 1 of images."""
    return sight.channels // 2 if sight.modality == "flow" else 1


def room(sight: Shown, times: Times) -> float:
    """The last moment, in seconds, from which all that a sight shows is there; negative where it never is."""
    last = times[max(0, len(times) - fields_of(sight))]
    return float(last) - sight.after - ((sight.frames or 1) - 1) * sight.stride


def shown_at(sight: Shown, times: Times, moments: Times) -> Numbers:
    """Numbers (m · T · n,) of the frames or fields, of those at ``times``, that a sight shows of m moments.

    A frame is the one on screen. A stack of n fields begins with the nearest; it begins earlier where it
    would lead behind the last field, and where there are fewer than n fields, the last is repeated.
    """
    asked = (moments[:, None] + sight.after + np.arange(sight.frames or 1) * sight.stride).reshape(-1)
    if sight.modality != "flow":
        return Timeline(times, float(times[-1])).frames_at(asked)
    n = fields_of(sight)
    first = np.minimum(np.abs(asked[:, None] - times).argmin(axis=1), max(0, len(times) - n))
    return np.minimum(first[:, None] + np.arange(n), len(times) - 1).reshape(-1)


def _known(x: Tensor) -> bool:
    """Whether any pixel shows anything: of flow (n, 2, H, W), NaN is unknown; the first known field tells."""
    return not x.is_floating_point() or any(np.isfinite(field.numpy()).any() for field in x)


def _blank(sight: Shown) -> Tensor:
    """What stands for a sight that no sample of a batch has."""
    square = (sight.size, sight.size)
    if sight.modality == "flow":
        return torch.zeros((sight.frames or 1) * fields_of(sight), 2, *square)
    return torch.zeros(sight.frames or 1, 3, *square, dtype=torch.uint8)


def _opened(sample: Sample, field: str) -> VideoReader | FlowReader:
    with _unreadable(field):
        encoded = sample[field]
        if isinstance(encoded, EncodedVideo):
            return open_video(encoded)
        if isinstance(encoded, EncodedFlow):
            return open_flow(encoded)
        raise ValueError("a single picture; expected a video, or the flow of one (mkv)")


@contextmanager
def _unreadable(field: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise Unreadable(field, str(error)) from error
