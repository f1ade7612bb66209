"""Any shard set of videos with boxes: the first frame's boxes carried through the clip, in seconds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.parts import Chosen
from mmssl.evaluate.propagation.maps import Size
from mmssl.evaluate.propagation.regions import jaccard
from mmssl.evaluate.propagation.task import Answers, DataConfig, Masks, Value, Video
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import open_video
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws
from mmssl.tracking.boxes import Boxes
from mmssl.tracking.frames import Frames

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class ShardSetConfig(DataConfig):
    """Clips of the evaluate stage's own shard set, or of another one."""

    kind: Literal["shard_set"] = "shard_set"
    root: str | None = None
    """Another shard set; by default the one that the stage evaluates on."""
    split: str | None = None
    """By default the stage's queries; of another shard set ``val``."""
    clips: PositiveInt = 16
    """At most so many, evenly spread over the split."""
    frames: PositiveInt = 32
    """At most so many of each, from its start."""
    side: PositiveInt | None = None
    cell: PositiveInt = 4

    def task(self, subject: "Subject") -> "BoxesOfClips":
        if self.root is not None:
            subject = type(subject)(
                subject.encoders,
                self.root,
                queries=self.split or "val",
                device=subject.device,
                seed=subject.seed,
                workers=subject.config.workers,
            )
        return BoxesOfClips(self, subject, self.split or subject.queries)


class BoxesOfClips(Masks):
    """IoU of what became of a first box with the box that is true, region against region."""

    name = "boxes"

    def __init__(self, config: ShardSetConfig, subject: "Subject", split: str) -> None:
        self.config, self.subject, self.split = config, subject, split
        for field in ("video", "boxes"):
            if not subject.manifest.fields.get(field):
                raise MmsslError(
                    f"shard set {subject.manifest.name!r}: evaluation propagation: expected fields video and "
                    f"boxes; it has {', '.join(subject.manifest.fields)}"
                )
        self.about = (
            f"box masks: {subject.manifest.name}/{split}, at most {config.clips} clips evenly spread, first "
            f"{config.frames} frames; boxes of the first frame filled as masks, smaller ones on top, carried "
            "on; IoU with the masks of the true boxes drawn alike, of each object over the later frames that "
            "have its box, then the mean over objects"
        )

    def __iter__(self) -> Iterator[Video]:
        part = self.subject.part(self.split)
        ids = sorted(part.ids) if part.ids is not None else range(part.samples)
        spread = np.linspace(0, len(ids) - 1, min(self.config.clips, len(ids))).round().astype(int)
        view = Chosen(_Clip(self.config.frames), [ids[at] for at in spread])
        for batch in self.subject.scan(self.split, view, f"clips of {self.split}", batch_size=1):
            if (
                isinstance(batch.input, dict)
                and (video := self._video(batch.key[0], batch.input)) is not None
            ):
                yield video

    def _video(self, name: str, seen: dict[str, Any]) -> Video | None:
        """None where the first frame has no box, or no other one has it again."""
        size = (int(seen["frames"].shape[2]), int(seen["frames"].shape[3]))
        truth = filled(seen["boxes"], size)
        given = np.unique(truth[0])
        if not np.isin(truth[1:], given[given > 0]).any():
            return None
        return Video(name, Decoded(seen["frames"], name), size, truth, int(given.max()) + 1)

    def judge(self, answers: Answers, video: Video) -> dict[str, Any]:
        """Object to its mean IoU."""
        judged = {}
        for label in range(1, video.labels):
            there = np.flatnonzero((video.truth[1:] == label).any(axis=(1, 2))) + 1
            if len(there) and (video.truth[0] == label).any():
                judged[str(label)] = float(
                    np.mean([jaccard(answers[at] == label, video.truth[at] == label) for at in there])
                )
        return judged

    def combine(self, judged: Mapping[str, dict[str, Any]]) -> list[Value]:
        objects = np.array([value for video in judged.values() for value in video.values()])
        return [
            Value("IoU", 100 * float(objects.mean()), headline=True),
            Value("IoU recall", 100 * float((objects > 0.5).mean())),
        ]


def filled(boxes: Boxes, size: Size) -> NDArray[np.uint8]:
    """(T, H, W): number of the object, from 1, whose box (T, N, 4) covers a pixel's centre; 0 = nobody's."""
    masks = np.zeros((len(boxes), *size), dtype=np.uint8)
    for mask, frame in zip(masks, boxes, strict=True):
        area = frame[:, 2] * frame[:, 3]
        for row in np.argsort(-area, kind="stable"):  # the largest first, absent ones (NaN) last
            if area[row] > 0:
                corner = frame[row, :2] - 0.5  # the centre of the first pixel is (0, 0)
                left, top = np.maximum(np.ceil(corner), 0).astype(int)
                right, bottom = np.maximum(np.ceil(corner + frame[row, 2:]), 0).astype(int)
                mask[top:bottom, left:right] = row + 1
    return masks


class Decoded(Frames):
    """Frames (T, 3, H, W) uint8 that lie in memory."""

    def __init__(self, frames: Tensor, name: str) -> None:
        self.frames, self.name = frames, name

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> Tensor:
        return self.frames[number]


class _Clip(View):
    """``frames`` (T, 3, H, W) uint8 and ``boxes`` (T, N, 4) float64 of one video, for batches of one."""

    fields = ("video", "boxes")

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def read(self, sample: Sample, draws: Draws) -> dict[str, Any]:
        boxes = sample["boxes"]
        try:
            with open_video(sample["video"]) as video:
                if len(video) != len(boxes):
                    raise Unreadable("boxes", f"of {len(boxes)} frames; the video has {len(video)}")
                frames = video.read(np.arange(min(self.frames, len(video))))
        except ValueError as error:
            raise Unreadable("video", str(error)) from error
        if boxes.shape[1] > 255:
            raise Unreadable("boxes", f"{boxes.shape[1]} objects; expected 255 at most")
        return {"frames": frames, "boxes": boxes[: len(frames)].double().numpy()}

    def prepare(self, items: Sequence[Any], draws: Draws) -> dict[str, Any]:
        return dict(items[0])

    def finish(self, x: Any, draws: Draws) -> dict[str, Any]:
        return dict(x)
