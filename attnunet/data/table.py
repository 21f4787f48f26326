"""A user's own data set, which a CSV table describes: slices with a row each, or scans with a row each."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le, Len

from attnunet.data.cells import Rows, locate, read_rows
from attnunet.data.decoders.dicom import is_dicom
from attnunet.data.decoders.nifti import is_nifti
from attnunet.data.nifti import list_scans
from attnunet.data.pictures import Pictures
from attnunet.data.sequences import note_gaps
from attnunet.data.slices import DataError, Dataset, Slice, choose_channels, drop_patients, number_through, refuse
from attnunet.data.volumes import Choices, make_dataset

REQUIRED = ("patient", "image", "mask")
OPTIONAL = ("scan", "slice", "site")


def table(
    file: str | None = None,
    file_channels: list[str] = ("red", "green", "blue"),  # type: ignore[assignment]
    channels: list[str] | None = None,
    labels: list[int] | None = None,
    background: list[int] = (0,),  # type: ignore[assignment]
    missing: Literal["refuse", "zero", "copy"] = "refuse",
    axis: Literal["axial", "coronal", "sagittal"] | None = None,
    pixel_size: Annotated[float, Gt(0), Le(100)] | None = None,
    exclude: list[str] | str = (),  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    spacing: Annotated[list[Annotated[float, Gt(0), Le(1000)]], Len(3, 3)] | None = None,
    verify: bool = False,
) -> Dataset:
    """Return the data set that a CSV table describes. Each row is a slice, or each row is a scan.

    The columns patient, image and mask are needed. The columns scan and site are optional. Other columns are ignored, and the
    notes name them. Paths are relative to the table's folder. `labels` are the values of a mask that mean lesion. Without
    `labels`, one value besides those of `background` is allowed, and it means lesion.

    If the masks are TIFF, PNG or JPEG files, each row is a slice. Images are TIFF, PNG or JPEG files. `file_channels` names
    their channels. The column slice (a whole number) is optional. If it is missing, the slices of a scan are numbered in the
    order of the rows. All slices of a scan must have the same size. With a `spacing`, the notes name the missing numbers.

    If the masks are NIfTI files, DICOM SEG files or folders, each row is a scan, and its image is a NIfTI file or a folder
    with a DICOM series. In place of the column image, there may be a column for each name of `file_channels`.

    Raises:
        DataError: there is no table; two channels have the same name; a column is missing; a cell is empty; a file is not
            there; an image, a slice or a scan occurs twice; a key is set that the rows have no use for; see `make_dataset`.
    """
    if file is None or not Path(file).is_file():
        raise DataError(f"data=table needs data.file, a CSV with the columns {', '.join(REQUIRED)}; found {file}")
    names = tuple(file_channels)
    if not names or len(set(names)) < len(names):
        raise DataError(f"data.file_channels={list(names)}: give one name (grey images), or names that differ")
    path = Path(file)
    rows = read_rows(path, ("patient", "mask"))
    choices = Choices(None if labels is None else tuple(labels), tuple(background), missing, axis, pixel_size)
    if lists_volumes(path.parent, rows.lines.values()):
        refuse_keys({"spacing": spacing}, f"{path} lists volumes, whose headers tell it")
        columns = sequence_columns(path, rows.columns, names)
        scans = list_scans(path, rows, columns, "mask")
        dataset = make_dataset("table", scans, names, channels, choices, exclude, intensity, verify)
        used = {"patient", "mask", "scan", "site", *columns.values()}
        return replace(dataset, notes=(*dataset.notes, *note_ignored(path, rows.columns, used)))
    of_volumes = {"missing": missing if missing != "refuse" else None, "axis": axis, "pixel_size": pixel_size}
    refuse_keys(of_volumes, f"{path} lists slices, and this key is for volumes")
    kept = drop_patients(list_slices(path, rows), exclude)
    source, picked = Pictures(len(names), choices.labels, choices.background), choose_channels(channels or names, names)
    known = tuple(spacing) if spacing else None
    notes = (*note_ignored(path, rows.columns, {*REQUIRED, *OPTIONAL}), *note_gaps(kept, known))
    return Dataset("table", number_through(kept), source, names, picked, intensity, verify, known, notes)


def lists_volumes(folder: Path, rows: Collection[Mapping[str, str]]) -> bool:
    """Return whether the first mask of a table is a volume: a NIfTI file, a DICOM file or a folder."""
    cell = next((row["mask"] for row in rows if row.get("mask")), "")
    path = locate(folder, cell)
    return bool(cell) and (is_nifti(cell) or path.is_dir() or (path.is_file() and is_dicom(path)))


def refuse_keys(given: Mapping[str, object], why: str) -> None:
    """Raise DataError if a key of data=table that has no effect is set. `why` tells why it has none."""
    refuse([f"data.{name}={value}: {why}; allowed: the default" for name, value in given.items() if value is not None])


def sequence_columns(file: Path, columns: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the column that names the volumes of each sequence.

    Raises:
        DataError: a sequence has no column, or columns have the same name.
    """
    found = {name: name for name in names} if set(names) <= set(columns) else dict.fromkeys(names[:1], "image")
    needed = ["patient", *found.values(), "mask"]
    if len(found) < len(names) or any(columns.count(name) != 1 for name in needed):
        raise DataError(
            f"{file}: columns {columns}; volumes need patient, mask and a column for each of "
            f"data.file_channels={list(names)}, each once, or the column image if data.file_channels has one name"
        )
    return found


def list_slices(file: Path, rows: Rows) -> list[Slice]:
    """Return the slices that the rows of a table list.

    Raises:
        DataError: see `table`.
    """
    columns, faults = rows.columns, rows.faults
    known = [name for name in columns if name in REQUIRED + OPTIONAL]
    if not set(REQUIRED) <= set(known) or len(set(known)) < len(known):
        raise DataError(f"{file}: columns {columns}; needed {list(REQUIRED)}, each once, allowed besides {list(OPTIONAL)}")
    numbered = any(row.get("slice") for row in rows.lines.values())

    slices: dict[tuple[str, str, int], Slice] = {}
    first: dict[str, tuple[str, int]] = {}
    count: dict[tuple[str, str], int] = {}
    for line, row in rows.lines.items():
        where = f"{file}, line {line}"
        if empty := [name for name in REQUIRED if not row.get(name)]:
            faults.append(f"{where}: no {', no '.join(empty)}")
            continue
        patient, scan = row["patient"], row.get("scan", "")
        count[patient, scan] = count.get((patient, scan), 0) + 1
        number = row.get("slice", "") if numbered else str(count[patient, scan])
        image, mask = locate(file.parent, row["image"]), locate(file.parent, row["mask"])
        faults += [f"{where}: no file {path}" for path in (image, mask) if not os.path.isfile(path)]
        owner, earlier = first.setdefault(os.path.normpath(image), (patient, line))
        if earlier != line:
            faults.append(f"{where}: {image} stands in line {earlier} already, as a slice of patient {owner}")
        elif not number:
            faults.append(f"{where}: no slice, but other rows have one; allowed: a number in every row, or in none")
        elif not re.fullmatch("-?[0-9]{1,18}", number):
            faults.append(f"{where}: slice {number!r} is not a whole number")
        elif (key := (patient, scan, int(number))) in slices:
            faults.append(f"{where}: patient {' '.join(filter(None, (patient, scan)))} has a slice {number} already")
        else:
            slices[key] = Slice(patient, int(number), str(image), str(mask), row.get("site", ""), scan=scan)
    refuse(faults)
    if not slices:
        raise DataError(f"{file}: no rows below the header")
    return list(slices.values())


def note_ignored(file: Path, columns: Sequence[str], used: Collection[str]) -> tuple[str, ...]:
    """Return a line that names the columns that are not used, or nothing if there are none."""
    ignored = [name for name in columns if name and name not in used]
    return (f"{file}: ignored columns: {', '.join(ignored)}",) if ignored else ()
