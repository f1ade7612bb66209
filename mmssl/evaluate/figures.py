"""Figures for the report: lines over a common axis, as plain data that the report draws."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmssl.files import write_bytes

FOLDER = "figures"
"""Inside the folder of an evaluate stage; every ``NAME.json`` in it is drawn."""


@dataclass(frozen=True)
class Lines:
    """One figure: one or several quantities against the same numbers.

    Raises:
        ValueError: no series, or one whose length is not that of ``x``.
    """

    title: str
    x_label: str
    y_label: str
    """With its unit."""
    x: Sequence[float]
    """(n,) in the order in which the points are joined."""
    series: Mapping[str, Sequence[float | None]]
    """Name to (n,) values; None leaves a gap."""
    chance: Sequence[float | None] | None = None
    """(n,) what guessing would give: a dashed line."""
    protocol: str = ""
    """One line that stands below the figure."""
    untrained: Sequence[tuple[str, str]] = ()
    """(evaluation, metric) of the score behind each of the n points, or nothing: the report draws what the
    untrained network scored there."""

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.series.items()}
        if self.chance is not None:
            lengths["chance"] = len(self.chance)
        if self.untrained:
            lengths["untrained"] = len(self.untrained)
        if not self.series or any(length != len(self.x) for length in lengths.values()):
            raise ValueError(
                f"figure {self.title!r}: expected series of {len(self.x)} points, found {lengths}"
            )


def write_lines(folder: Path | None, name: str, lines: Lines) -> None:
    """Write ``folder/figures/NAME.json``; nothing where there is no folder, as for untrained networks."""
    if folder is not None:
        content = json.dumps(asdict(lines), indent=2, ensure_ascii=False)  # series stay in their order
        write_bytes(folder / FOLDER / f"{name}.json", content.encode() + b"\n")
