"""RGB-D frame folders: 7-Scenes (and others of its form), and TUM RGB-D."""

from typing import Literal

from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards.sources.files import Files
from mmssl.shards.sources.frames import Folders, Frame, RGBDFrames
from mmssl.shards.sources.labels import Labels
from mmssl.shards.sources.tum import camera_file, read_sequence


class RGBD(RGBDFrames):
    """A folder is a sequence in the manner of TUM if it has an ``rgb.txt``, in that of 7-Scenes (Shotton et
    al., CVPR 2013) if it has ``*.color.*`` files: ``frame-N.color.png`` or ``.jpg``, ``.depth.png``,
    ``.pose.txt``, and optionally ``.label.png``.

    7-Scenes' colour and depth cameras are not calibrated to each other, so its maps are a few pixels apart.
    """

    kind: Literal["rgbd"] = "rgbd"
    fps: float = Field(default=30, gt=0)
    """Turns frame numbers into timestamps where there are none (7-Scenes)."""
    max_gap: float = Field(default=0.02, gt=0)
    """Seconds by which an image, its depth and its pose may be apart (TUM). An image without depth is counted
    as unreadable."""
    labels: Labels | None = None
    """Classes of ``*.label.png`` files; without it they are not read."""

    def sequences(self, folders: Folders) -> list[str]:
        found = sorted(
            folder
            for folder, files in folders.items()
            if "rgb.txt" in files or any(".color." in name for name in files)
        )
        if not found:
            raise MmsslError(f"{self.root}: no RGB-D sequences; expected rgb.txt, or frame-*.color.* files")
        return found

    def frames(self, tree: Files, folder: str, folders: Folders) -> list[Frame]:
        if "rgb.txt" in folders[folder]:
            return read_sequence(tree, folder, folders, self.max_gap)
        files = folders[folder]
        frames = []
        for name in sorted(files):
            stem, mark, _ = name.partition(".color.")
            if not mark:
                continue
            digits = stem.rpartition("-")[2]
            if not digits.isdigit():
                raise MmsslError(f"{tree.root}/{folder}/{name}: expected frame-NUMBER.color.*")

            def beside(suffix: str, stem: str = stem) -> str | None:
                return f"{folder}/{stem}{suffix}" if f"{stem}{suffix}" in files else None

            depth = beside(".depth.png")
            frames.append(
                Frame(
                    sequence=folder,
                    name=stem,
                    timestamp=int(digits) / self.fps,
                    image=f"{folder}/{name}",
                    depth=depth,
                    pose_file=beside(".pose.txt"),
                    camera_file=camera_file(folder, files),
                    labels=beside(".label.png"),
                    problem=None if depth else f"no {stem}.depth.png beside it",
                )
            )
        return sorted(frames, key=lambda frame: frame.timestamp)

    def segmentation(self) -> Labels | None:
        return self.labels
