"""The embedded procedural world (``mmssl.miniworld``), rendered while shards are built."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.miniworld import CLASSES, SPLITS, Clip, MiniworldConfig, clip
from mmssl.shards import encode
from mmssl.shards.sources.base import Item, Listing, Source, refuse_empty, to_json
from mmssl.shards.writer import RawSample

FieldName = Literal[
    "image", "image_right", "depth", "normals", "segmentation", "flow", "boxes", "caption", "label", "meta"
]

# Bytes a pixel that each map takes about; decides where shards are cut, nothing else.
_COST = {"image": 0.7, "image_right": 0.7, "depth": 1.0, "normals": 1.0, "segmentation": 0.1, "flow": 4.0}


class Miniworld(Source):
    """One sample per chosen frame of every clip; all its truth is exact."""

    kind: Literal["miniworld"] = "miniworld"
    clips: dict[str, int] = Field(min_length=1)
    """Split name to number of clips; splits differ in textures, backgrounds and seeds."""
    frames_per_clip: int = Field(default=4, ge=1)
    """Frames taken of each clip, evenly spread; only frames that have a next one, so that all have flow."""
    fields: tuple[FieldName, ...] = ("image", "caption", "label", "meta")
    """What to store of a frame; a pixel's class in ``segmentation`` is the shape of what it shows."""
    world: MiniworldConfig = Field(default_factory=MiniworldConfig)
    """Size, length and content of the clips."""

    def list_items(self) -> Listing:
        for split in self.clips:
            if split not in SPLITS:
                raise MmsslError(f"miniworld: clips: no split {split!r}; expected {', '.join(SPLITS)}")
        if self.frames_per_clip > self.world.frames - 1:
            raise MmsslError(
                f"miniworld: frames_per_clip: {self.frames_per_clip}, expected less than the "
                f"{self.world.frames} of world.frames"
            )
        cost = round(
            self.frames_per_clip * self.world.size**2 * sum(_COST.get(name, 0) for name in self.fields)
        )
        splits = {
            split: [
                Item(f"{index:06d}", f"clip {index} of {split}", cost, (split, index))
                for index in range(count)
            ]
            for split, count in self.clips.items()
        }
        refuse_empty(splits, "miniworld")
        classes = {name: list(names) for name, names in CLASSES.items()}
        if "segmentation" in self.fields:
            classes["segmentation"] = ["background", *CLASSES["shape"]]
        return Listing(splits, classes)

    def load(self, item: Item) -> Iterator[RawSample]:
        split, index = item.data
        rendered = clip(split, index, self.world)
        steps = self.world.frames - 1
        for chosen in range(self.frames_per_clip):
            frame = chosen * steps // self.frames_per_clip
            members = [_member(rendered, frame, name) for name in self.fields]
            yield RawSample(f"{item.key}-{frame:03d}", dict(members))


def _member(rendered: Clip, frame: int, name: FieldName) -> tuple[str, bytes]:
    """Column and encoded bytes of one field of one frame."""
    match name:
        case "image":
            return "image.jpg", encode.jpeg(rendered.frames[frame])
        case "image_right":
            return "image_right.jpg", encode.jpeg(rendered.frames_right[frame])
        case "depth":
            return "depth.png", encode.depth_png(rendered.depth[frame])
        case "normals":
            return "normals.png", encode.normals_png(rendered.normals[frame])
        case "segmentation":
            return "segmentation.png", encode.segmentation_png(_shapes(rendered, frame))
        case "flow":
            return "flow.png", encode.flow_png(rendered.flow[frame])
        case "boxes":
            boxes = [[_number(value) for value in box] for box in rendered.boxes[frame]]
            return "boxes.json", to_json([boxes])
        case "caption":
            return "caption.json", to_json(rendered.captions)
        case "label":
            return "label.json", to_json({label: int(value) for label, value in rendered.labels.items()})
        case "meta":
            return "meta.json", to_json(_meta(rendered, frame))


def _shapes(rendered: Clip, frame: int) -> np.ndarray:
    """(H, W) uint8: 0 = background, n + 1 = an object of shape n, the main one or another."""
    ids = [0, *(1 + CLASSES["shape"].index(shape) for shape in rendered.shapes)]
    return np.array(ids, np.uint8)[rendered.segmentation[frame]]


def _meta(rendered: Clip, frame: int) -> dict[str, Any]:
    """Time in seconds, and both cameras; poses are camera to world, as in every RGB-D shard set."""
    return {
        "fps": rendered.fps,
        "frame": frame,
        "frames": len(rendered.frames),
        "timestamp": frame / rendered.fps,
        "intrinsics": rendered.intrinsics.tolist(),
        "pose": np.linalg.inv(rendered.poses[frame]).round(9).tolist(),
        "pose_right": np.linalg.inv(rendered.poses_right[frame]).round(9).tolist(),
    }


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
