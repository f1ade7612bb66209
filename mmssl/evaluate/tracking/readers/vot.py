"""VOT 2013–2020: ``list.txt``, ``SEQ/color/00000001.jpg``, ``SEQ/groundtruth.txt``, counted from 0.

Kristan et al., "A Novel Performance Evaluation Methodology for Single-Target Trackers", TPAMI 2016, and the
challenges' reports. The truth is a box (2013) or four corners (2014–2019); a line 0 or of NaN says that there
is none. VOT2020's masks are refused by name. Images lie in ``color``, in ``img`` as some copies have them,
beside the truth, or where the file ``sequence`` says (``channels.color=color/%08d.jpg``). Flags by frame are
in ``NAME.tag`` or ``NAME.label``, which may end early: then they are 0. ``anchor.value`` marks where the
anchor-based runs of VOT2020 start: above 0 forward, below 0 backward.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers.base import (
    BenchmarkConfig,
    check_length,
    choose,
    folders_with,
    need_folders,
    sequence,
)
from mmssl.evaluate.tracking.readers.numbered import Numbered
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.text import read_lines, read_names, read_series, split_numbers
from mmssl.tracking.boxes import enclosing


class VotConfig(BenchmarkConfig):
    kind: Literal["vot"] = "vot"


def read_vot(config: VotConfig) -> list[Sequence]:
    """The sequences of ``list.txt``, or without it every folder with a ``groundtruth.txt``.

    Raises:
        MmsslError: sequences of the list are missing, the truth is of masks, or does not fit the frames.
    """
    path = config.folder / "list.txt"
    if path.is_file():
        chosen = choose(config, read_names(path, "names of sequences, one a line"))
        need_folders(config, str(path), [(name, config.folder / name) for name in chosen])
    else:
        chosen = choose(config, folders_with(config.folder, "groundtruth.txt"))
    return [_read(config.folder / name, name) for name in chosen]


def _read(folder: Path, name: str) -> Sequence:
    about = _properties(folder / "sequence")
    frames = Numbered(_images(folder, about), "vot").frames(name)
    count = len(frames)
    path = folder / "groundtruth.txt"
    regions = _regions(path)
    check_length(path, len(regions), count)
    size = None
    if about.get("width", "").isdecimal() and about.get("height", "").isdecimal():
        size = (int(about["width"]), int(about["height"]))
    tags = {
        path.stem: _flags(path, count) for path in sorted((*folder.glob("*.tag"), *folder.glob("*.label")))
    }
    if regions.shape[1] == 4:
        truth, polygons = regions, None
    else:
        truth, polygons = enclosing(regions), regions
    return sequence(
        "vot",
        name,
        frames,
        truth,
        polygons=polygons,
        frame_attributes=tags,
        anchors=_anchors(folder / "anchor.value", count),
        size=size,
    )


def _properties(path: Path) -> dict[str, str]:
    """``key=value`` of the file ``sequence``; VOT before 2017 has none."""
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in read_lines(path, "key=value on every line"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _images(folder: Path, about: dict[str, str]) -> Path:
    if channel := about.get("channels.color"):
        place = folder / channel.replace("\\", "/")
        return place.parent if place.suffix else place
    return next((folder / name for name in ("color", "img") if (folder / name).is_dir()), folder)


def _regions(path: Path) -> NDArray[np.float64]:
    """(T, 4) boxes or (T, 8) corners; NaN rows where a line says that there is nothing."""
    rows: list[list[float]] = []
    for number, line in enumerate(read_lines(path, "a box or four corners on every line"), 1):
        if line.startswith("m"):
            raise MmsslError(f"{path}:{number}: a mask, as of VOT2020; expected a box or four corners")
        try:
            row = split_numbers(line)
        except ValueError as error:
            raise MmsslError(
                f"{path}:{number}: {line!r:.80} ({error}); expected a box or four corners"
            ) from error
        if len(row) not in (1, 4, 8) or (len(row) == 1 and row != [0]):
            raise MmsslError(
                f"{path}:{number}: {len(row)} numbers ({line!r:.80}); expected a box (4) or four corners (8)"
            )
        rows.append(row)
    widths = {len(row) for row in rows if len(row) > 1}
    if len(widths) != 1:
        found = "both boxes and corners" if widths else "no region"
        raise MmsslError(f"{path}: {found}; expected boxes or corners throughout")
    width = widths.pop()
    return np.array([row if len(row) == width else [np.nan] * width for row in rows])


def _flags(path: Path, frames: int) -> NDArray[np.bool_]:
    return _values(path, frames) == 1


def _anchors(path: Path, frames: int) -> tuple[int, ...]:
    if not path.is_file():
        return ()
    values = _values(path, frames)
    return tuple(int(frame) if values[frame] > 0 else -int(frame) for frame in np.flatnonzero(values))


def _values(path: Path, frames: int) -> NDArray[np.float64]:
    """(frames,) with zeros for those that the file does not reach."""
    if not path.read_bytes().strip():
        return np.zeros(frames)
    values = read_series(path, "a number for every frame")
    if len(values) > frames:
        raise MmsslError(f"{path}: {len(values)} lines, expected at most {frames}, one a frame")
    return np.concatenate([values, np.zeros(frames - len(values))])
