"""LaSOT: ``CLASS/CLASS-N/{img/00000001.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}``, from 1.

Fan et al., "LaSOT: A High-quality Benchmark for Large-scale Single Object Tracking", CVPR 2019. A frame is
absent where either flag is set; its box is then mostly zeros. Pixels are taken to count from 1, as in the
MATLAB toolkit that scores them; the paper does not say. Attributes are not part of the data set.
"""

from typing import Literal

from mmssl.evaluate.tracking.readers.base import (
    BenchmarkConfig,
    choose,
    fitting_truth,
    folders_with,
    need_folders,
    sequence,
)
from mmssl.evaluate.tracking.readers.numbered import Numbered
from mmssl.evaluate.tracking.readers.table import table
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.text import read_flags, read_names


class LasotConfig(BenchmarkConfig):
    kind: Literal["lasot"] = "lasot"
    split: Literal["test", "train", "all"] = "test"
    """The 280 test sequences of protocol II (``testing_set.txt`` where the folder has one), those of
    ``training_set.txt``, or all that are there."""


def read_lasot(config: LasotConfig) -> list[Sequence]:
    """The sequences of the split.

    Raises:
        MmsslError: sequences of the split are missing, frames are, or flags and truth do not fit them.
    """
    source, known = _named(config)
    chosen = choose(config, known, [_class(name) for name in known])
    need_folders(config, source, [(name, config.folder / _class(name) / name) for name in chosen])
    return [_read(config, name) for name in chosen]


def _named(config: LasotConfig) -> tuple[str, list[str]]:
    root = config.folder
    if config.split == "all":
        classes = sorted(entry for entry in root.iterdir() if entry.is_dir())
        return str(root), [name for entry in classes for name in folders_with(entry, "groundtruth.txt")]
    path = root / ("testing_set.txt" if config.split == "test" else "training_set.txt")
    if config.split == "train" or path.is_file():
        return str(path), read_names(path, "names of sequences such as airplane-1, one a line")
    return "the test set", [f"{name}-{number}" for name, *numbers in table("lasot") for number in numbers]


def _class(name: str) -> str:
    return name.rpartition("-")[0]


def _read(config: LasotConfig, name: str) -> Sequence:
    folder = config.folder / _class(name) / name
    frames = Numbered(folder / "img", "lasot").frames(name)
    truth = fitting_truth(folder / "groundtruth.txt", len(frames), origin=1)
    occluded = read_flags(folder / "full_occlusion.txt", len(frames), "1 where the target is occluded")
    outside = read_flags(folder / "out_of_view.txt", len(frames), "1 where the target is out of view")
    return sequence("lasot", name, frames, truth, absent=occluded | outside)
