"""A user's own NIfTI files: each sequence is a file, and so is the label. They are found by name or listed in a CSV."""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le

from attnunet.data import listing, sequences
from attnunet.data.cells import Rows, locate, read_rows
from attnunet.data.decoders.nifti import is_nifti
from attnunet.data.slices import DataError, Dataset, refuse
from attnunet.data.volumes import Choices, Scan, make_dataset

NEEDED = """data=nifti needs one of
  data.root, a folder of files PATIENT_SEQUENCE.nii.gz, or PATIENT/SEQUENCE.nii.gz, and a label PATIENT_seg.nii.gz
  data.file, a CSV with the columns patient, label and one for each sequence"""
COLUMNS = ("patient", "label")
OPTIONAL = ("scan", "site")


def nifti(
    root: str | None = None,
    file: str | None = None,
    label: str = "seg",
    channels: list[str] | None = None,
    labels: list[int] = (1,),  # type: ignore[assignment]
    background: list[int] = (0,),  # type: ignore[assignment]
    missing: Literal["refuse", "zero", "copy"] = "refuse",
    axis: Literal["axial", "coronal", "sagittal"] | None = None,
    pixel_size: Annotated[float, Gt(0), Le(100)] | None = None,
    exclude: list[str] | str = (),  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    verify: bool = False,
) -> Dataset:
    """Return the data set of the NIfTI files that lie below `root`, or that the CSV `file` lists.

    Below `root`, a file's name ends with the name of the sequence, or with `label`. The patient is the part of the name before
    that, or the folder if there is no such part. Sessions of BIDS are scans of one patient.

    `file` has the columns patient and label. The columns scan and site are optional. Every other column is a sequence. Paths
    are relative to the folder of `file`.

    Raises:
        DataError: neither root nor file is given, or both are; a scan has no label; see `sequences.group` and
            `volumes.make_dataset`.
    """
    if (root is None) == (file is None):
        raise DataError(f"data.root={root}, data.file={file}\n\n{NEEDED}")
    given = str(root)
    scans = read_scans(Path(file)) if file else find_scans(Path(given), find_volumes(given), label, channels or ())
    names = dict.fromkeys(name for scan in scans for name in scan.images)
    choices = Choices(tuple(labels), tuple(background), missing, axis, pixel_size)
    return make_dataset("nifti", scans, tuple(names), channels, choices, exclude, intensity, verify)


def find_volumes(root: str) -> list[Path]:
    """Return the NIfTI files below a folder. Raise DataError if there are none."""
    if not Path(root).is_dir():
        raise DataError(f"data.root={root}: no such folder\n\n{NEEDED}")
    files, faults = listing.list_files(Path(root))
    refuse(faults)
    if not (found := [path for path in files if is_nifti(path.name)]):
        raise DataError(f"data.root={root}: no NIfTI files there\n\n{NEEDED}")
    return found


def find_scans(root: Path, volumes: Iterable[Path], label: str, names: Collection[str]) -> list[Scan]:
    """Return the scans that volumes below `root` form. The volumes' names tell the scan; see `sequences.group`.

    Raises:
        DataError: a scan has no label or no image; see `sequences.group`.
    """
    found, faults = sequences.group(volumes, root, [*names, label])
    scans = []
    for (patient, scan), images in found.items():
        mask = images.pop(label, None)
        if mask and images:
            scans.append(Scan(patient, scan, "", {name: str(path) for name, path in images.items()}, str(mask)))
        else:
            there = mask or next(iter(images.values()))
            lacks = "no image" if mask else f"no label named {label} (data.label)"
            faults.append(f"{there}: the patient {patient} has {lacks}; found {', '.join([*images, *[label] * bool(mask)])}")
    refuse(faults)
    return scans


def read_scans(file: Path) -> list[Scan]:
    """Return the scans that a CSV lists.

    Raises:
        DataError: there is no file; it lacks a column or has a column twice; see `list_scans`.
    """
    if not file.is_file():
        raise DataError(f"data.file={file}: no such file\n\n{NEEDED}")
    rows = read_rows(file, COLUMNS)
    names = [name for name in rows.columns if name not in COLUMNS + OPTIONAL]
    if not set(COLUMNS) <= set(rows.columns) or len(set(rows.columns)) < len(rows.columns) or not names:
        raise DataError(
            f"{file}: columns {rows.columns}; needed {list(COLUMNS)} and one for each sequence, each once, allowed besides "
            f"{list(OPTIONAL)}"
        )
    return list_scans(file, rows, {name: name for name in names}, "label")


def list_scans(file: Path, rows: Rows, sequences: Mapping[str, str], label: str) -> list[Scan]:
    """Return the scans that the rows of a CSV list.

    Args:
        file: the CSV. Its rows name files relative to its folder.
        rows: the rows.
        sequences: the column that names the files of each sequence.
        label: the column that names the labels.

    Raises:
        DataError: a row has no patient, label or image; a row names a file that is not there; two rows name the same scan or
            the same image; there are no rows.
    """
    scans: dict[tuple[str, str], Scan] = {}
    owners: dict[str, int] = {}
    faults = rows.faults
    for line, row in rows.lines.items():
        images = {name: str(locate(file.parent, row[column])) for name, column in sequences.items() if row.get(column)}
        absent = [f"no {name}" for name in ("patient", label) if not row.get(name)] or ([] if images else ["no image"])
        mask = str(locate(file.parent, row.get(label, "")))
        absent += [f"no file {path}" for path in (*images.values(), mask) if not Path(path).exists()]
        if not absent and (key := (row["patient"], row.get("scan", ""))) in scans:
            absent.append(f"the patient {' '.join(key).strip()} stands in an earlier line; name scans in a column scan")
        earlier = {path: owners.setdefault(os.path.normpath(path), line) for path in images.values()}
        absent += [f"{path} stands in line {other} already" for path, other in earlier.items() if other != line]
        if absent:
            faults += [f"{file}, line {line}: {fault}" for fault in absent]
        else:
            scans[key] = Scan(*key, row.get("site", ""), images, mask)
    refuse(faults)
    if not scans:
        raise DataError(f"{file}: no rows below the header")
    return list(scans.values())
