"""Tables for the report: rows of words and numbers, as plain data that the report sets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmssl.files import write_json

FOLDER = "tables"
"""Inside the folder of an evaluate stage; every ``NAME.json`` in it is shown."""

Cell = str | int | float | None
"""None is an empty cell; numbers are set as the report sets all numbers."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    Raises:
        ValueError: a row has not as many cells as there are columns.
    """

    title: str
    columns: Sequence[str]
    """With units."""
    rows: Sequence[Sequence[Cell]]
    protocol: str = ""
    """One line that stands below the table."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: expected rows of {len(self.columns)} cells, found {len(row)}"
                )


def write_table(folder: Path | None, name: str, table: Table) -> None:
    """Write ``folder/tables/NAME.json``; nothing where there is no folder, as for untrained networks."""
    if folder is not None:
        write_json(folder / FOLDER / f"{name}.json", asdict(table))
