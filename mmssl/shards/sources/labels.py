"""Label images to class ids: palette and index PNGs, tables of names, and what is left out."""

import csv
import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.modalities import IGNORED
from mmssl.shards.sources.base import BadInput


class Labels(Config):
    """Which classes a shard set's segmentation has, and which raw labels they are."""

    classes: tuple[str, ...] = Field(default=(), max_length=IGNORED)
    """Names in the order of their ids 0, 1, …; by default all classes of the table, in its order. Raw labels
    of other names are ignored."""
    table: str | None = None
    """A .csv or .tsv with a line of column names, or Gupta's classMapping40.mat (mapClass, className), that
    says which class each raw label is. Without it a raw label is its own class."""
    raw: str = "id"
    """The table's column with the raw number or name."""
    name: str = "class"
    """The table's column with the class name; empty = ignored."""
    first: int = Field(default=1, ge=0)
    """The raw number of the first class, in label images without a table."""
    ignore: tuple[int, ...] = (0, IGNORED)
    """Raw numbers of pixels without a label, where they are no class's."""

    def names(self) -> list[str]:
        """The class names by id.

        Raises:
            MmsslError: neither classes nor a table, a class that the table lacks, or more than 255 classes.
        """
        known = list(dict.fromkeys(name for name in self._table().values() if name))
        if not self.classes and not known:
            raise MmsslError("labels: neither classes nor a table; expected the names of the classes")
        for name in self.classes if self.table else ():
            if _plain(name) not in map(_plain, known):
                raise MmsslError(f"{self.table}: no class {name!r}; expected one of {', '.join(known)}")
        if len(known) > IGNORED and not self.classes:
            raise MmsslError(
                f"{self.table}: {len(known)} classes; expected at most {IGNORED}: list labels.classes"
            )
        return list(self.classes) or known

    def by_number(self) -> dict[int, int]:
        """Raw number to class id, or 255."""
        names = self.names()
        if self.table is None:
            return {self.first + id_: id_ for id_ in range(len(names))}
        return {int(raw): _id(name, names) for raw, name in self._table().items() if raw.isdigit()}

    def numbered(self, raw_names: list[str]) -> dict[int, int]:
        """The same for raw numbers that count, from 1, the entries of a list of raw names."""
        names, table = self.names(), self._table()
        plain = {_plain(raw): name for raw, name in table.items()}
        return {
            number: _id(plain.get(_plain(raw), table.get(str(number), "")) if table else raw, names)
            for number, raw in enumerate(raw_names, 1)
        }

    def ids(self, raw: np.ndarray, known: Mapping[int, int]) -> np.ndarray:
        """(H, W) raw numbers to (H, W) uint8 class ids, 255 = ignored.

        Raises:
            BadInput: a number that is neither known nor to be ignored.
        """
        numbers, places = np.unique(raw, return_inverse=True)
        ids = np.empty(len(numbers), np.uint8)
        for at, number in enumerate(numbers.tolist()):
            if number not in known and number not in self.ignore:
                classes = len(self.names())
                raise BadInput(
                    f"label {number}; expected one of the {classes} declared classes (raw numbers "
                    f"{min(known)}..{max(known)}) or labels.ignore {list(self.ignore)}"
                )
            ids[at] = known.get(number, IGNORED)
        return ids[places].reshape(raw.shape)

    def _table(self) -> dict[str, str]:
        return _read_table(self.table, self.raw, self.name) if self.table else {}


def label_image(data: bytes) -> np.ndarray:
    """(H, W) raw numbers of an 8- or 16-bit index PNG, or the indices of a palette PNG.

    Raises:
        BadInput: damaged, or an image of colours, which name no classes.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            mode, raw = image.mode, np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"labels are not a readable PNG ({error})") from error
    if mode not in ("L", "P") and not mode.startswith("I;16"):
        raise BadInput(f"labels have pixels of mode {mode}; expected indices, with or without a palette")
    return raw


def _id(name: str, names: list[str]) -> int:
    wanted = _plain(name)
    return next((id_ for id_, known in enumerate(names) if _plain(known) == wanted), IGNORED)


def _plain(name: str) -> str:
    """``Floor_mat`` and ``floor mat`` are the same class."""
    return name.strip().replace("_", " ").replace("-", " ").casefold()


@lru_cache(maxsize=4)
def _read_table(path: str, raw: str, name: str) -> dict[str, str]:
    """Raw name or number to class name, in the order of the file."""
    if path.lower().endswith(".mat"):
        return _read_mapping(path)
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t" if path.lower().endswith(".tsv") else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MmsslError(f"{path}: {error}; expected a table of labels") from error
    for column in (raw, name):
        if not rows or column not in rows[0]:
            raise MmsslError(
                f"{path}: no column {column!r}; found {', '.join(map(str, rows[0])) if rows else 'nothing'}"
            )
    return {row[raw].strip(): (row[name] or "").strip() for row in rows if row[raw]}


def _read_mapping(path: str) -> dict[str, str]:
    """The .mat of Gupta, Arbeláez and Malik (CVPR 2013): number, from 1, to one of 40 class names."""
    content = load_mat(path)
    if "mapClass" not in content or "className" not in content:
        raise MmsslError(f"{path}: expected mapClass and className, found {', '.join(content)}")
    numbers = np.asarray(content["mapClass"]).ravel().astype(int)
    names = strings(content["className"])
    if numbers.max(initial=0) > len(names) or numbers.min(initial=0) < 0:
        raise MmsslError(f"{path}: mapClass up to {numbers.max()}; expected 0..{len(names)}")
    # Classes in the order of className, whichever raw label comes first.
    order = sorted(range(len(numbers)), key=lambda at: numbers[at])
    return {str(at + 1): names[numbers[at] - 1] if numbers[at] else "" for at in order}


def load_mat(path: str) -> dict[str, np.ndarray]:
    """The variables of a MATLAB file that the configuration names.

    Raises:
        MmsslError: missing, damaged, or of version 7.3.
    """
    try:
        return parse_mat(Path(path).expanduser().read_bytes())
    except (OSError, BadInput) as error:
        raise MmsslError(f"{path}: {error}; expected a MATLAB file of version 5 to 7") from error


def parse_mat(data: bytes) -> dict[str, np.ndarray]:
    """The variables of a MATLAB file of version 5 to 7. Objects stay bytes: nothing is executed.

    Raises:
        BadInput: damaged, or of version 7.3.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(io.BytesIO(data))
    except NotImplementedError as error:
        raise BadInput("MATLAB file of version 7.3; expected 5 to 7 (save -v7)") from error
    except Exception as error:  # whatever a damaged file makes of the reader
        raise BadInput(f"not a readable MATLAB file ({error})") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def strings(cells: np.ndarray) -> list[str]:
    """The texts of a MATLAB cell array; an empty one is ``""``."""
    return [str(cell.item()) if np.size(cell) else "" for cell in np.asarray(cells).ravel()]
