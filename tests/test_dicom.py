"""DICOM: what a series says of its values and where they lie, against ITK; segmentations; what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from attnunet.data.cache import prepare
from attnunet.data.decoders.dicom import read_segmentation, read_series, read_volume
from attnunet.data.dicom import dicom
from attnunet.data.slices import DataError
from tests import scans

RAMP = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)  # slices, rows, columns


def read_by_itk(folder: Path) -> sitk.Image:
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def change(folder: Path, place: int | None = None, **attributes: Any) -> None:
    """Give attributes to one of a series' files, by its place in the order of names, or to all."""
    paths = sorted(folder.iterdir())
    for path in paths if place is None else [paths[place]]:
        header = pydicom.dcmread(path)
        for name, value in attributes.items():
            setattr(header, name, value)
        header.save_as(path)


@pytest.mark.parametrize("rescale", [None, (1, 0), (2, -1024), (0.37, 12.5)])
@pytest.mark.parametrize("axes", [*scans.ORIENTATIONS, "LPI", "ASL"])
def test_a_series_is_what_itk_reads(axes: str, rescale: tuple[float, float] | None, tmp_path: Path) -> None:
    scans.write_series(tmp_path / "t1", RAMP, axes)
    if rescale:
        change(tmp_path / "t1", RescaleSlope=rescale[0], RescaleIntercept=rescale[1])
    values, grid = read_volume(tmp_path / "t1")
    image = read_by_itk(tmp_path / "t1")
    seen = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
    np.testing.assert_allclose(grid.show(values, "axial"), seen, rtol=1e-6)
    assert values.dtype == (np.float32 if rescale and rescale != (1, 0) else np.uint16)
    assert grid.spacing("axial") == pytest.approx(scans.SPACING)
    place = np.array([1, 2, 3])
    index = image.TransformPhysicalPointToIndex(
        (np.diag([-1, -1, 1]) @ (grid.affine[:3, :3] @ place + grid.affine[:3, 3])).tolist()
    )
    assert values[tuple(place)] == pytest.approx(image[index], rel=1e-6)


def test_an_oblique_series_is_what_itk_reads(tmp_path: Path) -> None:
    scans.write_series(tmp_path / "t1", RAMP)
    c, s = np.cos(0.3), np.sin(0.3)
    row, column, normal = np.array([c, s, 0]), np.array([-s, c, 0]), np.array([0, 0, 1])
    for place, path in enumerate(sorted(tmp_path.glob("t1/*"))):
        header = pydicom.dcmread(path)
        header.ImageOrientationPatient = [*row, *column]
        header.ImagePositionPatient = ([10, -20, 30] + normal * 5 * place).tolist()
        header.save_as(path)
    values, grid = read_volume(tmp_path / "t1")
    image = read_by_itk(tmp_path / "t1")
    direction = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ grid.affine[:3, :3], direction, atol=1e-6)
    np.testing.assert_array_equal(values.transpose(2, 1, 0), sitk.GetArrayFromImage(image))


def without_a_slice(folder: Path) -> None:
    sorted(folder.iterdir())[1].unlink()


def of_two_series(folder: Path) -> None:
    change(folder, 2, SeriesInstanceUID="1.2.3")


def of_two_sizes(folder: Path) -> None:
    change(folder, 2, Rows=3, PixelData=bytes(3 * 6 * 2))


def turned(folder: Path) -> None:
    change(folder, 1, ImageOrientationPatient=[0, 1, 0, 1, 0, 0])


def of_two_spacings(folder: Path) -> None:
    change(folder, 1, PixelSpacing=[0.9, 0.75])


def of_two_times(folder: Path) -> None:
    first = pydicom.dcmread(sorted(folder.iterdir())[0])
    change(folder, 1, ImagePositionPatient=first.ImagePositionPatient)


def without_position(folder: Path) -> None:
    change(folder, 1, ImagePositionPatient=None)


def in_colours(folder: Path) -> None:
    change(folder, 0, PhotometricInterpretation="RGB")


def of_frames(folder: Path) -> None:
    change(folder, 0, NumberOfFrames=2)


def enhanced(folder: Path) -> None:
    """Positions are those of the frames, not of the file."""
    change(folder, 0, NumberOfFrames=4)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        remove(sorted(folder.iterdir())[0], name)


def remove(path: Path, name: str) -> None:
    header = pydicom.dcmread(path)
    delattr(header, name)
    header.save_as(path)


def cut(folder: Path) -> None:
    path = sorted(folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-9])


def not_dicom(folder: Path) -> None:
    sorted(folder.iterdir())[0].write_text("notes")


def damaged(folder: Path) -> None:
    path = sorted(folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:200])


WRONG: list[tuple[Callable[[Path], None], str]] = [
    (without_a_slice, r"014\.dcm: 10 mm above \S+000\.dcm, other slices 5; is one missing\? allowed: equal steps"),
    (of_two_series, r"t1: 2 series, as of \S+\.dcm and \S+\.dcm; allowed: one"),
    (of_two_sizes, r"t1: 2 numbers of rows, as of"),
    (turned, r"007\.dcm: another orientation or spacing than \S+000\.dcm; allowed: one in a series"),
    (of_two_spacings, r"007\.dcm: another orientation or spacing than"),
    (of_two_times, r"\.dcm: lies where \S+\.dcm does; allowed: one slice a position, no time series"),
    (without_position, r"007\.dcm: no position, orientation or spacing"),
    (in_colours, r"000\.dcm: RGB pixels; allowed: grey values"),
    (of_frames, r"000\.dcm: 2 frames, as of an enhanced image; allowed: one slice a file, so convert it to NIfTI \("),
    (enhanced, r"000\.dcm: 4 frames, as of an enhanced image; allowed: one slice a file, so convert it to NIfTI \("),
    (cut, r"000\.dcm: its pixels cannot be read: "),
    (not_dicom, r"000\.dcm: is no DICOM file: it lacks the mark DICM"),
    (damaged, r"000\.dcm: no position, orientation or spacing"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG)
def test_a_series_that_is_no_volume_is_refused(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    scans.write_series(tmp_path / "t1", RAMP)
    spoil(tmp_path / "t1")
    with pytest.raises(DataError, match=message):
        read_volume(tmp_path / "t1")


def test_files_beside_the_slices_are_passed_over(tmp_path: Path) -> None:
    scans.write_series(tmp_path / "t1", RAMP)
    (tmp_path / "t1" / "LICENSE").write_text("free")
    (tmp_path / "t1" / ".DS_Store").write_text("")
    np.testing.assert_array_equal(read_volume(tmp_path / "t1")[0].transpose(2, 1, 0), RAMP)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
def test_segments_lie_on_the_slices_that_they_were_drawn_on(axes: str, tmp_path: Path) -> None:
    """highdicom leaves out frames without a segment, so that places come from the frames alone."""
    labels = np.zeros(RAMP.shape, np.uint8)
    labels[1, 2, 3:5], labels[3, 1:3, 1] = 1, 2
    slices = scans.write_series(tmp_path / "t1", RAMP, axes)
    turned = np.asanyarray(scans.nifti(labels, axes).dataobj).transpose(2, 1, 0)
    scans.write_segmentation(tmp_path / "seg.dcm", slices, turned, segments=2)
    grid = read_series(tmp_path / "t1").grid
    found = read_segmentation(tmp_path / "seg.dcm", grid)
    np.testing.assert_array_equal(grid.show(found, "axial"), labels)


def test_segments_on_another_grid_are_refused(tmp_path: Path) -> None:
    slices = scans.write_series(tmp_path / "t1", RAMP)
    scans.write_series(tmp_path / "t2", RAMP, spacing=(4.0, 0.5, 0.75))
    scans.write_series(tmp_path / "t3", RAMP, "RAS")
    scans.write_segmentation(tmp_path / "seg.dcm", slices, RAMP > 60)
    for other in ("t2", "t3"):
        with pytest.raises(
            DataError, match=r"seg\.dcm: a frame at \[.*\] lies on no slice of its image; allowed: the same grid"
        ):
            read_segmentation(tmp_path / "seg.dcm", read_series(tmp_path / other).grid)


def test_overlapping_segments_are_refused(tmp_path: Path) -> None:
    slices = scans.write_series(tmp_path / "t1", RAMP)
    both = np.stack([RAMP > 60, RAMP > 80], axis=-1)
    scans.write_segmentation(tmp_path / "seg.dcm", slices, both, segments=2)
    with pytest.raises(DataError, match=r"seg\.dcm: segments overlap; allowed: one segment a voxel"):
        read_segmentation(tmp_path / "seg.dcm", read_series(tmp_path / "t1").grid)


def test_lesion_is_the_segments_that_are_chosen(tmp_path: Path) -> None:
    labels = np.zeros(RAMP.shape, np.uint8)
    labels[1, 2, 3:5], labels[3, 1:4, 1] = 1, 2
    slices = scans.write_series(tmp_path / "in" / "p1" / "t1", RAMP)
    scans.write_segmentation(tmp_path / "in" / "p1" / "seg.dcm", slices, labels, segments=2)
    with pytest.raises(DataError, match=r"seg\.dcm: holds the values 0, 1, 2; data\.labels=\[1\]"):
        prepare(dicom(str(tmp_path / "in")), 8, tmp_path / "cache")
    chosen = dicom(str(tmp_path / "in"), labels=[2], background=[0, 1])
    assert prepare(chosen, 8, tmp_path / "cache").lesion_pixels.tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize(("thickness", "told"), [(4, None), (None, "p1, p2"), ("0", "p1, p2")])
def test_an_assumed_thickness_is_noted(thickness: float | str | None, told: str | None, tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        scans.write_series(tmp_path / name / "t1", RAMP[:1])
        scans.save(
            tmp_path / name / "seg.nii.gz", np.ones((1, 5, 6), np.uint8), spacing=(float(thickness or 0) or 1, 0.5, 0.75)
        )
        change(tmp_path / name / "t1", SliceThickness=thickness)
    scans.write_series(tmp_path / "p3" / "t1", RAMP)  # the positions tell the distance of several slices
    scans.save(tmp_path / "p3" / "seg.nii.gz", np.ones(RAMP.shape, np.uint8))
    change(tmp_path / "p3" / "t1", SliceThickness=None)
    dataset = dicom(str(tmp_path), axis="axial")
    text = "one slice without SliceThickness, which counts as 1 mm thick, so millilitres are a guess"
    assert dataset.notes == ((f"{text}: {told}",) if told else ())
    assert [item.spacing[0] for item in dataset.slices[:3]] == pytest.approx([1 if told else 4] * 2 + [5])  # type: ignore[index]
    assert read_series(tmp_path / "p1" / "t1").assumed == bool(told)


@pytest.mark.parametrize("root", [None, "nowhere", "."])
def test_a_root_without_series_says_what_is_needed(root: str | None, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.root=.*: no s[\s\S]*data=dicom needs data\.root, a folder with PATIENT/SEQUENCE"
    ):
        dicom(root and str(tmp_path / root))


def test_a_changed_slice_is_another_data_set(tmp_path: Path) -> None:
    slices = scans.write_series(tmp_path / "in" / "p1" / "t1", RAMP)
    scans.write_segmentation(tmp_path / "in" / "p1" / "seg.dcm", slices, RAMP > 60)
    before = prepare(dicom(str(tmp_path / "in")), 8, tmp_path / "cache")
    change(tmp_path / "in" / "p1" / "t1", 2, PixelData=bytes(5 * 6 * 2))
    assert prepare(dicom(str(tmp_path / "in")), 8, tmp_path / "cache").fingerprint != before.fingerprint
