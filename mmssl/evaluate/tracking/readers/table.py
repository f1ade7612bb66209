"""The benchmarks' own lists: which sequences there are, and which of their frames count."""

from pathlib import Path

from mmssl.evaluate.tracking.text import read_lines

_DATA = Path(__file__).resolve().parent.parent / "data"


def table(name: str) -> list[list[str]]:
    """The words of every line of ``data/NAME.txt``, without comments."""
    lines = read_lines(_DATA / f"{name}.txt", "a list that comes with mmssl")
    return [line.split() for line in lines if not line.startswith("#")]


def frame_range(text: str) -> tuple[int, int]:
    """``300-770`` as numbers."""
    first, last = text.split("-")
    return int(first), int(last)
