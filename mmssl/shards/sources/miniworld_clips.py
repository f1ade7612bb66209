"""Whole clips of the embedded procedural world, encoded as video while shards are built."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.miniworld import CLASSES, SPLITS, Clip, MiniworldConfig, clip
from mmssl.shards import encode
from mmssl.shards.sources.base import Item, Listing, Source, refuse_empty, to_json
from mmssl.shards.writer import RawSample

FieldName = Literal["video", "video_right", "flow", "boxes", "caption", "label", "meta"]

_COST = {
    "video": 0.15,
    "video_right": 0.15,
    "flow": 0.3,
}  # bytes a pixel, about; decides where shards are cut


class MiniworldClips(Source):
    """One sample per clip; two cameras see the same moments, frame by frame."""

    kind: Literal["miniworld_clips"] = "miniworld_clips"
    clips: dict[str, int] = Field(min_length=1)
    """Split name to number of clips; splits differ in textures, backgrounds and seeds."""
    fields: tuple[FieldName, ...] = ("video", "caption", "label", "meta")
    """What to store of a clip."""
    flow_encoding: Literal["jpeg", "kitti"] = "jpeg"
    """Of the field ``flow``, which is exact before it is encoded: ``jpeg`` is a few hundredths of a pixel
    off, ``kitti``, several times larger, 1/128 px."""
    crf: int = Field(default=18, ge=0, le=51)
    """Constant rate factor of H.264: lower is better and larger."""
    world: MiniworldConfig = Field(default_factory=MiniworldConfig)
    """Size, length and content of the clips."""

    def list_items(self) -> Listing:
        for split in self.clips:
            if split not in SPLITS:
                raise MmsslError(f"miniworld_clips: clips: no split {split!r}; expected {', '.join(SPLITS)}")
        cost = round(self.world.frames * self.world.size**2 * sum(_COST.get(name, 0) for name in self.fields))
        splits = {
            split: [
                Item(f"{index:06d}", f"clip {index} of {split}", cost, (split, index))
                for index in range(count)
            ]
            for split, count in self.clips.items()
        }
        refuse_empty(splits, "miniworld_clips")
        return Listing(splits, {name: list(names) for name, names in CLASSES.items()})

    def load(self, item: Item) -> Iterator[RawSample]:
        split, index = item.data
        rendered = clip(split, index, self.world)
        members: dict[str, bytes] = {}
        for name in self.fields:
            match name:
                case "video":
                    members["video.mp4"] = encode.h264(rendered.frames, rendered.fps, crf=self.crf)
                case "video_right":
                    members["video_right.mp4"] = encode.h264(
                        rendered.frames_right, rendered.fps, crf=self.crf
                    )
                case "flow":
                    members["flow.mkv"] = self._flow(rendered)
                case "boxes":
                    members["boxes.json"] = to_json(_boxes(rendered.boxes))
                case "caption":
                    members["caption.json"] = to_json(rendered.captions)
                case "label":
                    members["label.json"] = to_json(
                        {key: int(value) for key, value in rendered.labels.items()}
                    )
                case "meta":
                    members["meta.json"] = to_json(
                        {
                            "fps": rendered.fps,
                            "frames": len(rendered.frames),
                            "duration": round(len(rendered.frames) / rendered.fps, 6),
                            "width": self.world.size,
                            "height": self.world.size,
                            "motion": _motion(rendered.flow, rendered.fps),
                            "cuts": [],
                            **({"flow": self._about_flow()} if "flow" in self.fields else {}),
                        }
                    )
        yield RawSample(item.key, members)

    def _flow(self, rendered: Clip) -> bytes:
        encoded = encode.flow_png if self.flow_encoding == "kitti" else encode.flow_jpeg
        fields = [encoded(field) for field in rendered.flow]
        starts = [number / rendered.fps for number in range(len(fields))]
        return encode.flow_mkv(fields, starts, (self.world.size, self.world.size))

    def _about_flow(self) -> dict[str, Any]:
        """As in sets whose flow is estimated; see ``FlowOptions.about``."""
        size = {"width": self.world.size, "height": self.world.size}
        told = {"estimator": "exact", "preset": None, "gap": 1, "consistency": False}
        return told | size | {"encoding": self.flow_encoding}


def _motion(flow: np.ndarray, fps: float) -> list[float]:
    """Mean length of the true flow from each frame to the next, in frame sides a second; the last repeats."""
    if not len(flow):
        return [0.0]
    speeds = np.linalg.norm(flow, axis=-1).mean((1, 2)) / flow.shape[1] * fps
    return [round(float(speed), 4) for speed in (*speeds, speeds[-1])]


def _boxes(boxes: np.ndarray) -> list[Any]:
    """[frame][object][x, y, w, h]; null where an object is out of sight."""
    return [
        [[round(float(v), 4) if np.isfinite(v) else None for v in box] for box in frame] for frame in boxes
    ]
