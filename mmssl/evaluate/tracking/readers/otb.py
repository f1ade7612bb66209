"""OTB-2013, OTB-2015, TB-50 and TB-100: ``SEQ/img/0001.jpg``, ``SEQ/groundtruth_rect.txt``, counted from 1.

Wu, Lim, Yang, "Object Tracking Benchmark", TPAMI 2015. What is irregular:

- Frames that count are not always all: David 300–770, BlurCar1 247–988, BlurCar3 3–359, BlurCar4 18–397,
  Diving, Football1, Freeman3 and Freeman4 end early. The ground truth has a line for each frame that counts,
  or for each frame there is.
- Tiger1 starts at frame 6: the toolkit lets no run start at the frames that its ``initOmit`` lists, and for
  Tiger1 these are the first five. Other toolkits score it from frame 1.
- Jogging and Skating2 have two targets, in ``groundtruth_rect.1.txt`` and ``.2.txt`` or in folders of their
  own (``Jogging-1``); of Human4 only the second counts, the first one's file is empty.
- Numbers are separated by commas, tabs or spaces; Board's frames have five digits, KiteSurf's are PNG.

Ranges are those of the toolkits' sequence lists. Attributes are those of ``attrs.txt`` in the sequence's
folder, otherwise those that the authors' Python toolkit lists; plots of the older MATLAB toolkit count a few
sequences less (fast motion 39 instead of 43).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import BenchmarkConfig, choose, read_truth, sequence
from mmssl.evaluate.tracking.readers.numbered import Numbered
from mmssl.evaluate.tracking.readers.table import frame_range, table
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.text import read_lines
from mmssl.tracking.boxes import Boxes

OMITTED = {"Tiger1": 5}
"""Sequence to how many frames before the first that counts other toolkits' result files also cover."""
OTHER_NAMES = {"Human4.2": ("Human4",)}
"""Sequence to what other toolkits' result files call it, besides other spellings of the number."""


class OtbConfig(BenchmarkConfig):
    kind: Literal["otb"] = "otb"
    year: Literal[2013, 2015, 50, 100] | None = None
    """Read the sequences of OTB-2013 (51 targets), OTB-2015 = TB-100 (100) or TB-50 (50); by default whatever
    is in the folder."""


@dataclass(frozen=True)
class _Official:
    name: str
    folder: str
    first: int
    last: int
    lists: tuple[str, ...]
    attributes: tuple[str, ...]


def read_otb(config: OtbConfig) -> list[Sequence]:
    """Every target that is asked for, as ``Jogging.1`` where its folder has several.

    Raises:
        MmsslError: a sequence of the list is missing, frames are, or the truth does not fit them.
    """
    found = _targets(config.folder)
    official = {same_target(row.name): row for row in _official()}
    if config.year is None:
        named = {key: official[key].name if key in official else name for key, (name, _) in found.items()}
    else:
        year = "100" if config.year == 2015 else str(config.year)
        named = {key: row.name for key, row in official.items() if year in row.lists}
    names = list(named.values())
    groups = [official[key].folder if key in official else name for key, name in named.items()]
    chosen = choose(config, names, groups)
    if missing := [name for name in chosen if same_target(name) not in found]:
        shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        raise MmsslError(
            f"otb: {config.folder}: {len(missing)} of {len(chosen)} sequences are missing or without "
            f"groundtruth_rect.txt: {shown}; `sequences` picks those that are there"
        )
    return [_read(name, found[same_target(name)][1], official.get(same_target(name))) for name in chosen]


def same_target(name: str) -> str:
    """The same for all spellings of a target: ``Jogging.1``, ``jogging-1``, ``Jogging_1``."""
    return re.sub(r"[-_.](?=\d+$)", ".", name).casefold()


def _official() -> list[_Official]:
    rows = []
    for folder, frames, targets, lists, attributes in table("otb"):
        names = [folder if target == "-" else f"{folder}.{target}" for target in targets.split(",")]
        for name in names:
            known = (tuple(lists.split(",")), tuple(attributes.split(",")))
            rows.append(_Official(name, folder, *frame_range(frames), *known))
    return rows


def _targets(root: Path) -> dict[str, tuple[str, Path]]:
    """Of each target in the folder: its name and ground truth, by ``same_target``."""
    found = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        for path in sorted(folder.glob("groundtruth_rect*.txt")):
            number = path.stem.removeprefix("groundtruth_rect")
            if number and not path.read_bytes().strip():
                continue  # Human4's first target
            name = folder.name + number
            found[same_target(name)] = (name, path)
    return found


def _read(name: str, path: Path, known: _Official | None) -> Sequence:
    images = Numbered(path.parent / "img", "otb")
    first, last = (known.first, known.last) if known else (images.first, images.last)
    frames = images.frames(name, first, last)
    truth = _in_range(read_truth(path, origin=1), first, last, images.last, path)
    attributes = _attributes(path.parent) or (known.attributes if known else ())
    return sequence("otb", name, frames, truth, attributes=attributes)


def _in_range(boxes: Boxes, first: int, last: int, end: int, path: Path) -> Boxes:
    if len(boxes) == last - first + 1:
        return boxes
    if len(boxes) == end:
        return boxes[first - 1 : last]
    raise MmsslError(
        f"{path}: {len(boxes)} lines, expected {last - first + 1} (frames {first} to {last}) "
        f"or {end} (frames 1 to {end})"
    )


def _attributes(folder: Path) -> tuple[str, ...]:
    for name in ("attrs.txt", "attributes.txt"):
        if (folder / name).is_file():
            lines = read_lines(folder / name, "attributes such as IV, SV")
            return tuple(word for line in lines for word in re.split(r"[,\s]+", line) if word)
    return ()
