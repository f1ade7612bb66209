"""Numbers in text files, as benchmarks and trackers write them: commas, tabs, semicolons or spaces."""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError

_BETWEEN = re.compile(r"\s*[,;]\s*|\s+")


def read_lines(path: Path, expected: str) -> list[str]:
    """The lines of a text file, stripped, without the blank ones at its end.

    Args:
        expected: what the file should have been, for the error message.

    Raises:
        MmsslError: it is missing or not text.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise MmsslError(f"{path}: no such file; expected {expected}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise MmsslError(f"{path}: cannot be read as text ({error}); expected {expected}") from error
    return [line.strip() for line in text.rstrip().splitlines()]


def read_names(path: Path, expected: str) -> list[str]:
    """The names in a list file, one a line; blank lines do not count.

    Raises:
        MmsslError: it is missing, not text, or has no name in it.
    """
    names = [line for line in read_lines(path, expected) if line]
    if not names:
        raise MmsslError(f"{path}: empty; expected {expected}")
    return names


def split_numbers(line: str) -> list[float]:
    """The numbers of one line; ``nan`` in any spelling is one, and a separator may end the line.

    Raises:
        ValueError: something in it is no number.
    """
    words = _BETWEEN.split(line.strip())
    while words and not words[-1]:  # a separator at the end of the line
        words.pop()
    return [float(word) for word in words]


def read_table(path: Path, columns: Collection[int], expected: str) -> NDArray[np.float64]:
    """(lines, columns) float64; every line has the same number of numbers, and ``columns`` says which may be.

    Raises:
        MmsslError: the file is missing or empty, or a line, named by its number, is not what is expected.
    """
    lines = read_lines(path, expected)
    allowed = " or ".join(map(str, columns))
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = split_numbers(line)
        except ValueError as error:
            raise MmsslError(f"{path}:{number}: {line!r:.80} ({error}); expected {expected}") from error
        width = f"{allowed} numbers" if not rows else f"{len(rows[0])} numbers, as in the lines before"
        if len(row) not in columns or (rows and len(row) != len(rows[0])):
            raise MmsslError(
                f"{path}:{number}: {len(row)} numbers ({line!r:.80}); expected {width}: {expected}"
            )
        rows.append(row)
    if not rows:
        raise MmsslError(f"{path}: empty; expected {expected}")
    return np.array(rows, dtype=np.float64)


def read_series(path: Path, expected: str) -> NDArray[np.float64]:
    """(n,) float64 in one line or one a line.

    Raises:
        MmsslError: the file is missing or empty, or a line is not numbers.
    """
    lines = read_lines(path, expected)
    if len(lines) > 1:
        return read_table(path, (1,), expected)[:, 0]
    try:
        values = split_numbers(lines[0]) if lines else []
    except ValueError as error:
        raise MmsslError(f"{path}:1: {lines[0]!r:.80} ({error}); expected {expected}") from error
    if not values:
        raise MmsslError(f"{path}: empty; expected {expected}")
    return np.array(values, dtype=np.float64)


def read_flags(path: Path, frames: int, expected: str) -> NDArray[np.bool_]:
    """(frames,) of 0 and 1, in one line or one a line.

    Raises:
        MmsslError: the file is missing, has another number of flags, or other values.
    """
    values = read_series(path, expected)
    if len(values) != frames:
        raise MmsslError(f"{path}: {len(values)} flags, expected {frames}, one a frame: {expected}")
    if wrong := set(values.tolist()) - {0.0, 1.0}:
        raise MmsslError(f"{path}: {sorted(wrong)[0]:g}, expected 0 or 1: {expected}")
    return values == 1
