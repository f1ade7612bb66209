"""Tables as rows: CSV, TSV and JSONL, Flickr's token files, and the JSON of data sets with captions."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmssl.errors import MmsslError
from mmssl.shards.sources.official_captions import Row, official_rows

EXTENSIONS = (".csv", ".tsv", ".jsonl", ".json", ".token", ".txt")
_TOKEN = re.compile(r"(?P<image>[^\t]+)#(?P<number>\d+)\t(?P<caption>.*)")
"""``1000268201_693b08cb0e.jpg#0<tab>A child in a pink dress``: Hodosh, Young and Hockenmaier, JAIR 2013."""


def read_table(path: str, quotes: bool = True) -> Iterator[tuple[int, Row]]:
    """(line, column name to value) of every row; in a ``.json`` file, its number from 1 in place of the line.

    CSV and TSV begin with a line of names; a ``.csv`` whose names are parted by tabs or bars is read so.
    ``.txt`` is a token file, columns ``image``, ``number`` and ``caption``, or else such a CSV.
    ``quotes``: fields of CSV and TSV may stand in double quotes, and then hold anything.

    Raises:
        MmsslError: missing, not UTF-8, another extension, or a line that does not parse.
    """
    extension = Path(path).suffix.lower()
    if extension not in EXTENSIONS:
        raise MmsslError(f"{path}: expected a table: {', '.join(EXTENSIONS)}")
    text = _text(path)
    if extension == ".json":
        try:
            content = json.loads(text)
        except ValueError as error:
            raise MmsslError(f"{path}: not JSON ({error})") from error
        yield from enumerate(official_rows(path, content), 1)
    elif extension == ".jsonl":
        yield from _json_lines(path, text)
    elif extension == ".token" or (extension == ".txt" and _TOKEN.match(text.partition("\n")[0])):
        yield from _token_lines(path, text)
    else:
        yield from _separated(path, text, "\t" if extension == ".tsv" else _separator(text), quotes)


def read_list(path: str) -> list[str]:
    """The names in a text file, one a line.

    Raises:
        MmsslError: missing, not UTF-8, without any, or with one twice.
    """
    names = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not names:
        raise MmsslError(f"{path}: empty; expected a file name on each line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MmsslError(f"{path}: {twice!r} is listed twice")
    return names


def _text(path: str) -> str:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise MmsslError(f"{path}: not readable ({error}); expected a table") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise MmsslError(
            f"{path}: line {line}: not readable, byte {error.object[error.start]:#04x} is not UTF-8; "
            "expected a table in UTF-8"
        ) from error


def _separator(text: str) -> str:
    names = text.partition("\n")[0]
    return next((mark for mark in ",\t|" if mark in names), ",")


def _separated(path: str, text: str, separator: str, quotes: bool) -> Iterator[tuple[int, Row]]:
    quoting = csv.QUOTE_MINIMAL if quotes and separator != "|" else csv.QUOTE_NONE
    options: dict[str, Any] = {"delimiter": separator, "quoting": quoting}
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True, **options)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        for row in reader:
            if None in row:
                raise MmsslError(f"{path}: line {reader.line_num}: more fields than column names")
            yield reader.line_num, {name: value.strip() if value else "" for name, value in row.items()}
    except csv.Error as error:
        raise MmsslError(
            f"{path}: line {reader.line_num}: {error}; where quotes are mere letters, set quotes: false"
        ) from error


def _token_lines(path: str, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            found = _TOKEN.fullmatch(line)
            if found is None:
                raise MmsslError(f"{path}: line {number}: {line!r:.80}; expected FILE#NUMBER<tab>CAPTION")
            yield number, dict(found.groupdict())


def _json_lines(path: str, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise MmsslError(f"{path}: line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise MmsslError(f"{path}: line {number}: expected an object")
        yield number, row
