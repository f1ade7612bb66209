"""Takes that several cameras recorded at once: one sample each, synchronised by time."""

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator

from mmssl.errors import MmsslError
from mmssl.shards.sources.base import BadInput, Item, Listing, Source
from mmssl.shards.sources.files import open_files
from mmssl.shards.sources.sequences import assign
from mmssl.shards.sources.videos import EXTENSIONS, clip_samples
from mmssl.shards.video import Clip, RawVideo, VideoOptions, transcode
from mmssl.shards.writer import RawSample, safe_key


def _all_train() -> dict[str, tuple[str, ...]]:
    return {"train": ("*",)}


class MultiCamera(Source, VideoOptions):
    """One sample per take or segment: ``video`` of the first camera, ``video_NAME`` of each other one.

    Frame i of all of them is the same moment, to half a frame of the raw videos; what not all cameras saw
    is cut off. ``meta`` is that of ``video``; ``meta.cameras`` has each camera's field, offset, original
    duration, the second of its own time at which the sample begins, motion and cuts. Flow of the other
    cameras is called ``flow_NAME``.
    """

    kind: Literal["multi_camera"] = "multi_camera"
    root: str
    """Folder or zip archive."""
    pattern: str = "{take}/{camera}"
    """Where the files lie under root, without extension: ``{camera}/{take}``, ``{take}_view{camera}`` …"""
    cameras: tuple[str, ...] = ()
    """Names as the files have them, the first one for ``video``; none given = all that are found, sorted."""
    offsets: dict[str, float] = Field(default_factory=dict)
    """Camera to the seconds by which it was started after the others: its time 0 is this common time."""
    splits: dict[str, tuple[str, ...]] = Field(default_factory=_all_train, min_length=1)
    """Split name to patterns of takes."""

    @field_validator("pattern")
    @classmethod
    def _names_both(cls, value: str) -> str:
        if value.count("{take}") != 1 or value.count("{camera}") != 1:
            raise ValueError("expected {take} and {camera}, each once")
        return value

    @field_validator("encoding")
    @classmethod
    def _resamples(cls, value: object) -> object:
        if getattr(value, "mode", None) == "copy":
            raise ValueError("copied videos cannot be synchronised; expected mode h264 or jpeg")
        return value

    def list_items(self) -> Listing:
        found = self._takes()
        known = sorted({camera for files in found.values() for camera in files})
        cameras = self.cameras or tuple(known)
        for name, what in [(name, "cameras") for name in cameras] + [
            (name, "offsets") for name in self.offsets
        ]:
            if name not in known:
                raise MmsslError(f"{self.root}: {what}: no camera {name!r}; found {', '.join(known)}")
        roles = {camera: _field(camera, at) for at, camera in enumerate(cameras)}
        if len(set(roles.values())) < len(cameras):
            raise MmsslError(
                f"{self.root}: cameras {', '.join(cameras)}: expected names that differ in letters"
            )
        items = {}
        for take, files in found.items():
            data = tuple((camera, role, files.get(camera, ("", 0))[0]) for camera, role in roles.items())
            size = sum(files[camera][1] for camera in cameras if camera in files)
            items[take] = Item(safe_key(take), take, size, data)
        assigned = assign(sorted(items), self.splits, self.root)
        return Listing({split: [items[take] for take in takes] for split, takes in assigned.items()}, {})

    def _takes(self) -> dict[str, dict[str, tuple[str, int]]]:
        """Take to camera to (path, bytes)."""
        form = re.escape(self.pattern)
        form = form.replace(re.escape("{take}"), "(?P<take>.+)")
        form = form.replace(re.escape("{camera}"), "(?P<camera>[^/]+)")
        found: dict[str, dict[str, tuple[str, int]]] = {}
        for path, size in open_files(self.root).list():
            name, _, extension = path.rpartition(".")
            match = re.fullmatch(form, name)
            if extension.lower() in EXTENSIONS and match:
                files = found.setdefault(match["take"], {})
                if match["camera"] in files:
                    raise MmsslError(f"{self.root}: {path!r} and {files[match['camera']][0]!r}: expected one")
                files[match["camera"]] = path, size
        if not found:
            raise MmsslError(f"{self.root}: no videos of the form {self.pattern}.mp4")
        return found

    def load(self, item: Item) -> Iterator[RawSample]:
        tree = open_files(self.root)
        raws: dict[str, RawVideo] = {}
        for camera, _, path in item.data:
            try:
                if not path:
                    raise BadInput("missing")
                raws[camera] = RawVideo(tree.read(path), self.encoding.max_side)
            except BadInput as error:
                raise BadInput(f"camera {camera}: {error}") from error
        offsets = {camera: Fraction(str(self.offsets.get(camera, 0))) for camera in raws}
        rate = min(raw.rate for raw in raws.values())
        start = max(offsets.values())
        end = min(offsets[camera] + raw.duration for camera, raw in raws.items())
        if start >= end:
            raise BadInput("the cameras have no moment in common; are the offsets right?")
        clips: dict[str, list[Clip]] = {}
        for camera, raw in raws.items():
            own = offsets[camera]
            try:
                clips[camera] = transcode(raw.frames(), rate, end - own, self, start - own)
            except BadInput as error:
                raise BadInput(f"camera {camera}: {error}") from error
        (first, _, _), *others = item.data
        told = []
        for number, clip in enumerate(clips[first]):
            about = {
                camera: {
                    "field": role,
                    "source": path,
                    "offset": float(offsets[camera]),
                    "start": clips[camera][number].start,
                    "original_duration": round(float(raws[camera].duration), 6),
                    **{
                        name: clips[camera][number].meta[name]
                        for name in ("width", "height", "motion", "cuts")
                    },
                }
                for camera, role, path in item.data
            }
            told.append(replace(clip, meta={**clip.meta, "cameras": about}))

        def views(number: int) -> dict[str, bytes]:
            seen = {role: clips[camera][number] for camera, role, _ in others}
            stored = {f"{role}.{clip.extension}": clip.data for role, clip in seen.items()}
            for role, clip in seen.items():
                for column, data in clip.members.items():
                    field, _, extension = column.partition(".")
                    stored[f"{field}{role.removeprefix('video')}.{extension}"] = data
            return stored

        yield from clip_samples(item.key, told, self, {"source": item.path}, views)


def _field(camera: str, position: int) -> str:
    return "video" if position == 0 else f"video_{re.sub('[^A-Za-z0-9]+', '_', camera).strip('_')}"
