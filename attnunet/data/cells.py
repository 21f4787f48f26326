"""The cells of a CSV table that lists the files of a data set."""

import csv
import io
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from attnunet.data.slices import DataError, read_text


@dataclass(frozen=True)
class Rows:
    """The rows of a table.

    Attributes:
        columns: the names in the header.
        lines: maps the number of each line to the line's cells, by column.
        faults: a text for each row that is left out, because it has more cells than the header.
    """

    columns: list[str]
    lines: dict[int, dict[str, str]]
    faults: list[str]


def read_cells(file: Path, needed: Collection[str]) -> list[tuple[int, list[str]]]:
    """Return each line that is not empty, as its number and its cells. The first of these lines is the header.

    Commas, semicolons or tabs separate the cells. Each character is tried on the header. The first character that yields
    the `needed` columns is the separator. If none of them does, the comma is the separator.

    Raises:
        DataError: the file is no CSV.
    """
    content = read_text(file)
    header = next((line for line in content.splitlines() if line.strip(',;\t" ')), "")
    separators = (mark for mark in ",;\t" if set(needed) <= {name.strip(' "') for name in header.split(mark)})
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=next(separators, ","), strict=True)
    found: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            values = [cell.strip() for cell in row]
            if any(values):
                found.append((reader.line_num, values))
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}; is a quotation mark not closed?") from None
    return found or [(1, [])]


def read_rows(file: Path, needed: Collection[str]) -> Rows:
    """Return the rows of a table. A row may have fewer cells than the header. See `read_cells` for `needed` and the errors."""
    (_, columns), *lines = read_cells(file, needed)
    found = {line: dict(zip(columns, values, strict=False)) for line, values in lines if not any(values[len(columns) :])}
    faults = [f"{file}, line {line}: more cells than the header has" for line, _ in lines if line not in found]
    return Rows(columns, found, faults)


def locate(folder: Path, cell: str) -> Path:
    """Return the path that a cell names, relative to a folder.

    The cell may separate folders by slashes, or by backslashes as Windows does. An accented letter may be written as one
    character or as two, because macOS names files in the second way. The first way that names a path that is there counts.
    """
    slashed = cell.replace("\\", "/")
    spellings = [cell, slashed, unicodedata.normalize("NFC", slashed), unicodedata.normalize("NFD", slashed)]
    return next((folder / text for text in spellings if (folder / text).exists()), folder / slashed)
