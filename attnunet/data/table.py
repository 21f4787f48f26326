"""A user's own data set, which a CSV table describes."""

import csv
import io
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le, Len

from attnunet.data.pictures import Pictures
from attnunet.data.slices import DataError, Dataset, Slice, choose_channels, drop_patients, read_text, refuse

REQUIRED = ("patient", "image", "mask")
OPTIONAL = ("slice", "site")


def table(
    file: str | None = None,
    file_channels: list[str] = ("red", "green", "blue"),  # type: ignore[assignment]
    channels: list[str] | None = None,
    exclude: list[str] | str = (),  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    spacing: Annotated[list[Annotated[float, Gt(0), Le(1000)]], Len(3, 3)] | None = None,
    verify: bool = False,
) -> Dataset:
    """Return the data set that a CSV table describes. Each row is a slice.

    The columns patient, image and mask are needed. The columns slice (a whole number) and site are optional. If the column
    slice is missing, a patient's slices are numbered in the order of the rows. Other columns are ignored, and the notes name
    them. Paths are relative to the table's folder.

    Images are 8-bit TIFF, PNG or JPEG files. `file_channels` names their channels, of which there are one or three. Masks
    have 8 bits, one channel and at most two values. All slices of a patient must have the same size.

    Raises:
        DataError: there is no table; the number of channels is neither one nor three; a column is missing; a cell is empty; a
            file is not there; an image or a slice occurs twice.
    """
    if file is None or not Path(file).is_file():
        raise DataError(f"data=table needs data.file, a CSV with the columns {', '.join(REQUIRED)}; found {file}")
    if len(file_channels) not in (1, 3) or len(set(file_channels)) < len(file_channels):
        raise DataError(f"data.file_channels={list(file_channels)}: give one name (grey images) or three that differ")
    found, notes = read_rows(Path(file))
    slices, names = drop_patients(found, exclude), tuple(file_channels)
    picked = choose_channels(channels or file_channels, file_channels)
    known = tuple(spacing) if spacing else None
    return Dataset("table", slices, Pictures(len(names)), names, picked, intensity, verify, known, tuple(notes))


def read_rows(file: Path) -> tuple[list[Slice], list[str]]:
    """Return the table's slices, and a line that names the ignored columns, if there are any."""
    (_, columns), *lines = read_cells(file, REQUIRED)
    known = [name for name in columns if name in REQUIRED + OPTIONAL]
    if not set(REQUIRED) <= set(known) or len(set(known)) < len(known):
        raise DataError(f"{file}: columns {columns}; needed {list(REQUIRED)}, each once, allowed besides {list(OPTIONAL)}")

    slices: dict[tuple[str, int], Slice] = {}
    first: dict[str, tuple[str, int]] = {}
    count: dict[str, int] = {}
    faults: list[str] = []
    for line, values in lines:
        where, row = f"{file}, line {line}", dict(zip(columns, values, strict=False))
        if any(values[len(columns) :]):
            faults.append(f"{where}: more cells than the header has")
            continue
        if empty := [name for name in REQUIRED if not row.get(name)]:
            faults.append(f"{where}: no {', no '.join(empty)}")
            continue
        patient = row["patient"]
        count[patient] = count.get(patient, 0) + 1
        number = row.get("slice") or str(count[patient])
        image, mask = locate(file.parent, row["image"]), locate(file.parent, row["mask"])
        faults += [f"{where}: no file {path}" for path in (image, mask) if not os.path.isfile(path)]
        owner, earlier = first.setdefault(os.path.normpath(image), (patient, line))
        if earlier != line:
            faults.append(f"{where}: {image} stands in line {earlier} already, as a slice of patient {owner}")
        elif not re.fullmatch("-?[0-9]{1,18}", number):
            faults.append(f"{where}: slice {number!r} is not a whole number")
        elif (key := (patient, int(number))) in slices:
            faults.append(f"{where}: patient {patient} has a slice {number} already")
        else:
            slices[key] = Slice(*key, str(image), str(mask), row.get("site", ""))
    refuse(faults)
    if not slices:
        raise DataError(f"{file}: no rows below the header")
    ignored = [name for name in columns if name and name not in known]
    return list(slices.values()), [f"{file}: ignored columns: {', '.join(ignored)}"] if ignored else []


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


def locate(folder: Path, cell: str) -> Path:
    """Return the path that a cell names. The cell may separate folders by slashes, or by backslashes as Windows does."""
    path = folder / cell
    return path if os.path.isfile(path) else folder / cell.replace("\\", "/")
