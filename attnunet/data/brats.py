"""A data set in the layout of the BraTS challenges: a folder for each scan, with the names of 2020 or of 2023 and later."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le

from attnunet.data.nifti import find_scans, find_volumes
from attnunet.data.slices import DataError, Dataset
from attnunet.data.volumes import Choices, Scan, make_dataset

NAMES = {"t1": "t1", "t1n": "t1", "t1ce": "t1ce", "t1c": "t1ce", "t2": "t2", "t2w": "t2", "flair": "flair", "t2f": "flair"}
"""The sequences by the names of 2020 and of 2023."""
SEQUENCES = tuple(dict.fromkeys(NAMES.values()))
LABELS = (1, 2, 3, 4)
"""Parts of a tumour; the enhancing one is 4 up to 2020 and 3 since, and 4 of 2024 is the resection's cavity."""


def brats(
    root: str | None = None,
    channels: list[str] = SEQUENCES,  # type: ignore[assignment]
    labels: list[Literal[1, 2, 3, 4]] = LABELS,  # type: ignore[assignment]
    missing: Literal["refuse", "zero", "copy"] = "refuse",
    axis: Literal["axial", "coronal", "sagittal"] | None = None,
    pixel_size: Annotated[float, Gt(0), Le(100)] | None = None,
    exclude: list[str] | str = (),  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    verify: bool = False,
) -> Dataset:
    """BraTS20_Training_001/BraTS20_Training_001_flair.nii(.gz), or BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz.

    Of the second, the last number is a scan of its patient.

    Raises:
        DataError: no root; see `nifti.find_scans` and `volumes.make_dataset`.
    """
    if root is None:
        raise DataError("data=brats needs data.root, the folder with one folder a scan (BraTS20_Training_001, ...)")
    scans = [rename(scan) for scan in find_scans(Path(root), find_volumes(root), "seg", NAMES)]
    choices = Choices(tuple(labels), (0, *sorted(set(LABELS) - set(labels))), missing, axis, pixel_size)
    return make_dataset("brats", scans, SEQUENCES, channels, choices, exclude, intensity, verify)


def rename(scan: Scan) -> Scan:
    """Return a scan with the names of 2020, its patient apart from the number of the scan."""
    images: dict[str, str] = {}
    for name, path in scan.images.items():
        other = images.setdefault(NAMES.get(name, name), path)
        if other != path:
            raise DataError(f"{path}: a second file for the sequence {NAMES[name]} of {scan.patient}, beside {other}")
    numbered = re.fullmatch(r"(BraTS-[\w-]+-\d{5})-(\d{3})", scan.patient)
    patient, name = numbered.groups() if numbered else (scan.patient, scan.name)
    return replace(scan, patient=patient, name=name, images=images)
