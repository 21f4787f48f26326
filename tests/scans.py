"""The same patients in the layouts of several tools, for tests of their readers."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import highdicom
import nibabel
import numpy as np
from pydicom import FileDataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code

from attnunet.data.phantom import draw_patient
from tests.conftest import write_slice

SEQUENCES = ("pre", "flair", "post")
ORIENTATIONS = ("LPS", "RAS", "PIR", "SAR")
SPACING = (5.0, 0.5, 0.75)
"""Between slices, rows and columns."""


class Takes(NamedTuple):
    """What a network takes."""

    file_channels: tuple[str, ...] = SEQUENCES
    channels: tuple[str, ...] = SEQUENCES
    plane: str = "axial"


Patients = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By name: images uint8 (slices, rows, columns, sequences) and masks of 0 and 1."""


def draw(number: int = 4, slices: int = 5, size: int = 32) -> Patients:
    """Phantoms, as lists of slices upwards that begin in front and at the patient's right; not square."""
    drawn = (draw_patient(np.random.default_rng([9, seed]), slices, size) for seed in range(number))
    return {f"PHANTOM_AA_{seed:04}": (image[:, 2:-2], masks[:, 2:-2] // 255) for seed, (image, masks) in enumerate(drawn)}


def write_lgg(root: Path, patients: Patients) -> None:
    for name, (images, masks) in patients.items():
        for number, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
            write_slice(root / name, number, image, mask * np.uint8(255))


def nifti(volume: np.ndarray, axes: str = "LPS", spacing: tuple[float, ...] = SPACING) -> nibabel.Nifti1Image:
    """Slices upwards, rows backwards, columns to the left as a NIfTI image whose axes run to `axes`."""
    slices, rows, columns = spacing
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-columns, -rows, slices, 1]))
    there, wanted = nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    return image.as_reoriented(nibabel.orientations.ornt_transform(there, wanted))


def save(path: Path, volume: np.ndarray, axes: str = "LPS", spacing: tuple[float, ...] = SPACING) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nifti(volume, axes, spacing), path)
    return path


def as_floats(volume: np.ndarray) -> np.ndarray:
    return volume.astype(np.float32)


def write_nifti(root: Path, patients: Patients, change: Callable[[np.ndarray], np.ndarray] = as_floats) -> None:
    """PATIENT/PATIENT_SEQUENCE.nii.gz in four orientations."""
    for place, (name, (images, masks)) in enumerate(patients.items()):
        axes = ORIENTATIONS[place % 4]
        for channel, sequence in enumerate(SEQUENCES):
            save(root / name / f"{name}_{sequence}.nii.gz", change(images[..., channel]), axes)
        save(root / name / f"{name}_seg.nii.gz", masks, axes)


def write_nnunet(root: Path, patients: Patients, version: int = 2) -> None:
    names = {str(place): sequence for place, sequence in enumerate(SEQUENCES)}
    described = (
        {"channel_names": names, "labels": {"background": 0, "tumour": 1}, "file_ending": ".nii.gz"}
        if version == 2
        else {"modality": names, "labels": {"0": "background", "1": "tumour"}}
    )
    for name, (images, masks) in patients.items():
        for channel in range(len(SEQUENCES)):
            save(root / "imagesTr" / f"{name}_{channel:04}.nii.gz", images[..., channel].astype(np.int16))
        save(root / "labelsTr" / f"{name}.nii.gz", masks)
    (root / "dataset.json").write_text(json.dumps({**described, "numTraining": len(patients)}))


def write_brats(root: Path, patients: Patients, year: int = 2020) -> None:
    """The tumour's upper half is of label 2, its lower of 1, of which there is edema and core; t2 is pre-contrast's copy."""
    of_2020 = {"t1": "pre", "t1ce": "post", "t2": "pre", "flair": "flair"}
    of_2023 = {"t1n": "pre", "t1c": "post", "t2w": "pre", "t2f": "flair"}
    for place, (images, masks) in enumerate(patients.values()):
        case = f"BraTS20_Training_{place:03}" if year == 2020 else f"BraTS-GLI-{place:05}-000"
        for name, sequence in (of_2020 if year == 2020 else of_2023).items():
            volume = images[..., SEQUENCES.index(sequence)].astype(np.int16)
            save(root / case / f"{case}{'_' if year == 2020 else '-'}{name}.nii.gz", volume)
        labels = masks * np.where(np.arange(len(masks)) % 2, 4 if year == 2020 else 3, 2)[:, None, None]
        save(root / case / f"{case}{'_' if year == 2020 else '-'}seg.nii.gz", labels.astype(np.uint8))


def new_header(modality: str, sop_class: str) -> FileDataset:
    """The attributes that every file of a patient's study has."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = sop_class, meta.MediaStorageSOPInstanceUID, modality
    made.PatientID = made.PatientName = "p^"
    made.PatientBirthDate = made.PatientSex = made.StudyDate = made.StudyTime = made.StudyID = made.AccessionNumber = ""
    made.ReferringPhysicianName = made.Manufacturer = ""
    made.StudyInstanceUID = made.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.1"
    return made


def write_series(
    folder: Path, volume: np.ndarray, axes: str = "LPS", spacing: tuple[float, ...] = SPACING
) -> list[FileDataset]:
    """A slice a file; the axes of the series are columns, rows and slices as `nifti` has them, its files in any order."""
    image = nifti(volume, axes, spacing)
    voxels, affine = np.asanyarray(image.dataobj), np.diag([-1, -1, 1, 1]) @ image.affine
    steps, series = affine[:3, :3], uid.generate_uid()
    lengths = np.linalg.norm(steps, axis=0)
    folder.mkdir(parents=True)
    made = []
    for place in range(voxels.shape[2]):
        header = new_header("MR", uid.MRImageStorage)
        header.SeriesInstanceUID, header.SeriesNumber, header.InstanceNumber = series, 1, place + 1
        header.ImagePositionPatient = [round(float(x), 6) for x in affine[:3, 3] + place * steps[:, 2]]
        header.ImageOrientationPatient = [
            float(x) for x in np.concatenate([steps[:, 0] / lengths[0], steps[:, 1] / lengths[1]])
        ]
        header.PixelSpacing, header.SliceThickness = [float(lengths[1]), float(lengths[0])], float(lengths[2])
        header.Rows, header.Columns = voxels.shape[1], voxels.shape[0]
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
        header.PixelData = voxels[..., place].T.astype("<u2").tobytes()
        header.save_as(folder / f"{(7 * place) % 997:03}.dcm", enforce_file_format=True)
        made.append(header)
    return made


def write_segmentation(path: Path, slices: Sequence[FileDataset], masks: np.ndarray, segments: int = 1) -> None:
    """DICOM SEG of masks (slices, rows, columns) in the order of the series' slices, by highdicom; segment n is value n."""
    described = [
        highdicom.seg.SegmentDescription(
            number + 1,
            f"part {number + 1}",
            Code("49755003", "SCT", "Morphologically Abnormal Structure"),
            Code("108369006", "SCT", "Neoplasm"),
            "MANUAL",
        )
        for number in range(segments)
    ]
    made = highdicom.seg.Segmentation(
        list(slices),
        masks.astype(np.uint8),
        "BINARY",
        described,
        uid.generate_uid(),
        2,
        uid.generate_uid(),
        1,
        "attnunet",
        "tests",
        "1",
        "1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)


def write_dicom(root: Path, patients: Patients) -> None:
    """Series in four orientations, with a DICOM SEG; that of every other patient is a NIfTI file."""
    for place, (name, (images, masks)) in enumerate(patients.items()):
        axes = ("LPS", "RAS", "PIR", "LPI")[place % 4]
        for channel, sequence in enumerate(SEQUENCES):
            slices = write_series(root / name / sequence, images[..., channel], axes)
        if place % 2:
            save(root / name / "seg.nii.gz", masks)
        else:
            turned = np.asanyarray(nifti(masks, axes).dataobj).transpose(2, 1, 0)
            write_segmentation(root / name / "seg" / "seg.dcm", slices, turned)
