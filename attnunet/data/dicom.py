"""A user's own DICOM series: each sequence of a patient is a folder, and a segmentation lies beside these folders."""

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le

from attnunet.data import listing
from attnunet.data.decoders.dicom import is_dicom
from attnunet.data.decoders.nifti import is_nifti
from attnunet.data.nifti import find_scans
from attnunet.data.sequences import stem
from attnunet.data.slices import DataError, Dataset, refuse
from attnunet.data.volumes import Choices, make_dataset

NEEDED = """data=dicom needs data.root, a folder with PATIENT/SEQUENCE/*.dcm and a label beside them: PATIENT/seg/*.dcm
or PATIENT/seg.dcm (DICOM SEG), or PATIENT/seg.nii.gz. A CSV can list series that lie otherwise: data=nifti data.file=..."""


def dicom(
    root: str | None = None,
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
    """Return the data set of the DICOM series below `root`.

    Each folder of DICOM files is a series, and the folder's name is the sequence. `labels` are the segment numbers that mean
    lesion.

    Raises:
        DataError: there is no root; a scan has no label; see `sequences.group`, `decoders.dicom` and `volumes.make_dataset`.
    """
    if root is None or not Path(root).is_dir():
        raise DataError(f"data.root={root}: no such folder\n\n{NEEDED}")
    scans = find_scans(Path(root), find_volumes(Path(root), label), label, channels or ())
    names = dict.fromkeys(name for scan in scans for name in scan.images)
    choices = Choices(tuple(labels), tuple(background), missing, axis, pixel_size)
    return make_dataset("dicom", scans, tuple(names), channels, choices, exclude, intensity, verify)


def find_volumes(root: Path, label: str) -> list[Path]:
    """Return the folders below `root` that hold a series, and the label files."""
    files, faults = listing.list_files(root)
    refuse(faults)
    named = [path for path in files if stem(path) == label and path.parent.name != label]
    labels = [path for path in named if is_nifti(path.name) or is_dicom(path)]
    series = {path.parent for path in files if path not in labels and is_dicom(path)} - {root}
    if not series:
        raise DataError(f"data.root={root}: no series of DICOM files there\n\n{NEEDED}")
    return [*sorted(series), *labels]
