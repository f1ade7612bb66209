"""DAVIS 2016 (one object) and 2017 (several): masks of the first frame carried through the video, J and F.

Perazzi et al. (CVPR 2016); Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation".
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from mmssl.errors import MmsslError
from mmssl.evaluate.propagation.files import chosen, images, read_masks
from mmssl.evaluate.propagation.regions import contour_accuracy, jaccard, statistics
from mmssl.evaluate.propagation.task import Answers, DataConfig, Masks, Value, Video
from mmssl.evaluate.tracking.text import read_names
from mmssl.tracking.frames import ImageFiles

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

VOID = 255
"""Of 2017's masks: pixels that belong to nobody; background, as in the public evaluation."""


class DavisConfig(DataConfig):
    """``JPEGImages/480p/SEQ/*.jpg`` and ``Annotations/480p/SEQ/*.png`` under ``root``."""

    kind: Literal["davis"] = "davis"
    root: str
    year: Literal[2016, 2017] = 2017
    """2016: whatever is not 0 in a mask is the one object; 2017: masks are numbers of objects."""
    split: str = "val"
    """List in ``ImageSets``; where the year has no lists there, all sequences of the folder."""
    resolution: str = "480p"
    sequences: tuple[str, ...] = ()
    """Some of them; empty = all."""
    side: PositiveInt | None = 480

    def task(self, subject: "Subject") -> "Davis":
        return Davis(self)


class Davis(Masks):
    """J&F and what it is made of."""

    def __init__(self, config: DavisConfig) -> None:
        self.config = config
        self.root = Path(config.root)
        self.name = f"davis{config.year}"
        self.sequences = chosen(self._listed(), config.sequences, self.root)
        self.about = (
            f"DAVIS {config.year}, {len(self.sequences)} sequences at {config.resolution}; J: IoU, an empty "
            "union is 1; F: contours within ceil(0.008 · diagonal) px; of each object over all frames but "
            "the first and the last, then the mean over objects; recall: share of frames above 50 %; decay: "
            "first quarter less last"
        )

    def _listed(self) -> list[str]:
        """From ``ImageSets/YEAR/SPLIT.txt``, or 2016's ``ImageSets/480p/SPLIT.txt``, lines of two files."""
        year, lists = self.config.year, self.root / "ImageSets"
        folders = [lists / str(year)] + [lists / self.config.resolution] * (year == 2016)
        present = [folder for folder in folders if folder.is_dir()]
        if present:
            lines = read_names(present[0] / f"{self.config.split}.txt", "a list, one entry a line")
            found = [Path(line.split()[0]).parent.name if "/" in line else line for line in lines]
            return list(dict.fromkeys(found))
        masks = self.root / "Annotations" / self.config.resolution
        folders = sorted(path for path in masks.glob("*") if path.is_dir())
        if not folders:
            raise MmsslError(f"{masks}: expected a folder of masks for each sequence, found none")
        return [path.name for path in folders]

    def __iter__(self) -> Iterator[Video]:
        for name in self.sequences:
            yield self._video(name)

    def _video(self, name: str) -> Video:
        where = self.config.resolution, name
        frames = images(self.root.joinpath("JPEGImages", *where), ".jpg", ".jpeg", ".png")
        folder = self.root.joinpath("Annotations", *where)
        stored = read_masks(folder, frames)
        truth = (
            (stored > 0).astype(np.uint8) if self.config.year == 2016 else np.where(stored == VOID, 0, stored)
        )
        if len(frames) < 3:
            raise MmsslError(
                f"{folder}: {len(frames)} frames; expected 3 at least, the first and last do not count"
            )
        if not truth[0].any():
            hint = (
                f" but {VOID}, which is nobody in 2017; of DAVIS 2016? (year: 2016)"
                if stored[0].any()
                else ""
            )
            raise MmsslError(
                f"{folder / frames[0].stem}.png: expected an object in the first frame, found none{hint}"
            )
        size = (truth.shape[1], truth.shape[2])
        return Video(name, ImageFiles(frames, name), size, truth, int(truth[0].max()) + 1)

    def judge(self, answers: Answers, video: Video) -> dict[str, Any]:
        """Object to J and F over its frames."""
        return {
            str(label): {
                measure.__name__: [
                    round(measure(found == label, true == label), 6)
                    for found, true in zip(answers[1:-1], video.truth[1:-1], strict=True)
                ]
                for measure in (jaccard, contour_accuracy)
            }
            for label in range(1, video.labels)
        }

    def combine(self, judged: Mapping[str, dict[str, Any]]) -> list[Value]:
        objects = [one for video in judged.values() for one in video.values()]
        found: dict[str, NDArray[np.float64]] = {}
        for letter, measure in (("J", jaccard), ("F", contour_accuracy)):
            each = [statistics(np.array(one[measure.__name__])) for one in objects]
            found[letter] = 100 * np.mean(each, axis=0)
        values = [Value("J&F", float(found["J"][0] + found["F"][0]) / 2, headline=True)]
        for letter, (mean, recall, decay) in found.items():
            values.append(Value(letter, float(mean)))
            values.append(Value(f"{letter} recall", float(recall)))
            values.append(Value(f"{letter} decay", float(decay), better="lower"))
        return values
