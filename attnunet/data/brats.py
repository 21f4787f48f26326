"""A data set in the layout of the BraTS challenges: each scan is a folder. Files are named as in 2020 or since 2023."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le

from attnunet.data.nifti import find_scans, find_volumes
from attnunet.data.sequences import TIME_POINT
from attnunet.data.slices import DataError, Dataset
from attnunet.data.volumes import Choices, Scan, make_dataset

NAMES = {"t1": "t1", "t1n": "t1", "t1ce": "t1ce", "t1c": "t1ce", "t2": "t2", "t2w": "t2", "flair": "flair", "t2f": "flair"}
"""The name of each sequence, by its names of 2020 and of 2023."""
SEQUENCES = tuple(dict.fromkeys(NAMES.values()))
LABELS = (1, 2, 3, 4)
"""The parts of a tumour. The enhancing part is 4 up to 2020, and 3 after 2020. In 2024, 4 is the resection cavity."""


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
    """Return the BraTS data set below `root`.

    Its files are named in one of two ways:
        BraTS20_Training_001/BraTS20_Training_001_flair.nii or .nii.gz, as in 2020;
        BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz, since 2023. The last number in the folder's name tells the
        scans of a patient apart.

    Raises:
        DataError: there is no root; see `nifti.find_scans` and `volumes.make_dataset`.
    """
    if root is None:
        raise DataError("data=brats needs data.root, the folder that holds a folder for each scan (BraTS20_Training_001, ...)")
    scans = [rename(scan) for scan in find_scans(Path(root), find_volumes(root), "seg", NAMES)]
    choices = Choices(tuple(labels), (0, *sorted(set(LABELS) - set(labels))), missing, axis, pixel_size)
    return make_dataset("brats", scans, SEQUENCES, channels, choices, exclude, intensity, verify)


def rename(scan: Scan) -> Scan:
    """Return a scan whose sequences have the names of 2020, and whose patient's name is separated from the scan's number.

    Raises:
        DataError: the scan has two files for the same sequence.
    """
    images: dict[str, str] = {}
    for name, path in scan.images.items():
        other = images.setdefault(NAMES.get(name, name), path)
        if other != path:
            told = f"a second file for the sequence {NAMES[name]} of {scan.patient}, beside {other}"
            raise DataError(f"{path}: {told}; allowed: one, so remove or rename one of the two")
    numbered = TIME_POINT.fullmatch(scan.patient)
    patient, name = numbered.groups() if numbered else (scan.patient, scan.name)
    return replace(scan, patient=patient, name=name, images=images)
