"""A data set of one's own, described by a CSV table."""

import csv
import io
import re
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le, Len

from attnunet.data.slices import DataError, Dataset, Slice, chosen, text, without

REQUIRED = ("patient", "image", "mask")
OPTIONAL = ("slice", "site")


def table(
    file: str | None = None,
    file_channels: list[str] = ("red", "green", "blue"),  # type: ignore[assignment]
    channels: list[str] | None = None,
    exclude: list[str | int] | str = (),  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    spacing: Annotated[list[Annotated[float, Gt(0), Le(1000)]], Len(3, 3)] | None = None,
    verify: bool = False,
) -> Dataset:
    """One row a slice with the columns patient, image, mask and, if wanted, slice (a whole number) and site.

    Paths are relative to the table's folder. Images are 8-bit TIFF, PNG or JPEG with as many channels as `file_channels`
    names (one or three), masks 8-bit with one channel and at most two values. Without the column slice, a patient's rows
    are numbered as they come. Slices of one patient must be of one size.

    Raises:
        DataError: no table, two or four channels, missing or unknown columns, empty cells, a file that is not there, a
            slice twice.
    """
    if file is None or not Path(file).is_file():
        raise DataError(f"data=table needs data.file, a CSV with the columns {', '.join(REQUIRED)}; found {file}")
    if len(file_channels) not in (1, 3) or len(set(file_channels)) < len(file_channels):
        raise DataError(f"data.file_channels={list(file_channels)}: give one name (grey images) or three that differ")
    slices = without(rows(Path(file)), exclude)
    picked = chosen(channels or file_channels, file_channels)
    return Dataset("table", slices, tuple(file_channels), picked, intensity, verify, tuple(spacing) if spacing else None)


def rows(file: Path) -> list[Slice]:
    """The table's slices."""
    reader = csv.DictReader(io.StringIO(text(file)))
    columns = reader.fieldnames or []
    if not set(REQUIRED) <= set(columns) <= set(REQUIRED + OPTIONAL):
        raise DataError(f"{file}: columns {list(columns)}; needed {list(REQUIRED)}, allowed besides {list(OPTIONAL)}")

    owner: dict[Path, str] = {}
    slices: dict[tuple[str, int], Slice] = {}
    count: dict[str, int] = {}
    for line, cells in enumerate(reader, start=2):
        if None in cells:
            raise DataError(f"{file}, line {line}: more cells than the header has")
        row = {column: (value or "").strip() for column, value in cells.items()}
        for column in REQUIRED:
            if not row[column]:
                raise DataError(f"{file}, line {line}: no {column}")
        patient = row["patient"]
        count[patient] = count.get(patient, 0) + 1
        number = row.get("slice") or str(count[patient])
        if not re.fullmatch("-?[0-9]+", number):
            raise DataError(f"{file}, line {line}: slice {number!r} is not a whole number")
        image, mask = file.parent / row["image"], file.parent / row["mask"]
        for path in (image, mask):
            if not path.is_file():
                raise DataError(f"{file}, line {line}: no file {path}")
        if owner.setdefault(image, patient) != patient:
            raise DataError(f"{file}, line {line}: {image} belongs to patient {owner[image]} already")
        key = (patient, int(number))
        if key in slices:
            raise DataError(f"{file}, line {line}: patient {patient} has a slice {number} already")
        slices[key] = Slice(*key, str(image), str(mask), row.get("site") or "")
    if not slices:
        raise DataError(f"{file}: no rows below the header")
    return list(slices.values())
