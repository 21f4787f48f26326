"""A CSV of one's own volumes: each row is a scan."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest

from attnunet.data.cache import Prepared, prepare
from attnunet.data.nifti import nifti
from attnunet.data.slices import DataError
from attnunet.data.table import table
from tests import scans

RAMP = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
BOTH = ["flair", "t1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """p1 and p2 with a flair of one scale, a t1 of another, and a seg of 0 and 1."""
    for place, name in enumerate(("p1", "p2")):
        scans.save(tmp_path / f"{name}_flair.nii.gz", RAMP * np.float32(0.1) - 7 + place, scans.ORIENTATIONS[place])
        scans.save(tmp_path / f"{name}_t1.nii.gz", RAMP[::-1] + np.int16(1000 * place), scans.ORIENTATIONS[place])
        scans.save(tmp_path / f"{name}_seg.nii.gz", (RAMP > 50).astype(np.uint8), scans.ORIENTATIONS[place])
    return tmp_path


def write(folder: Path, *lines: str) -> str:
    (folder / "table.csv").write_text("\n".join(lines))
    return str(folder / "table.csv")


def prepared(folder: Path, file: str, names: list[str], **keys: Any) -> Prepared:
    return prepare(table(file, names, **keys), 8, folder / "cache")


SEQUENCES = ("patient,flair,t1,mask", *(f"{n},{n}_flair.nii.gz,{n}_t1.nii.gz,{n}_seg.nii.gz" for n in ("p1", "p2")))
ONE = ("patient,image,mask", *(f"{n},{n}_t1.nii.gz,{n}_seg.nii.gz" for n in ("p1", "p2")))


@pytest.mark.parametrize(("lines", "names"), [(SEQUENCES, ["t1", "flair"]), (SEQUENCES, ["flair"]), (ONE, ["t1"])])
def test_volumes_become_the_arrays_of_data_nifti(lines: tuple[str, ...], names: list[str], folder: Path) -> None:
    found = prepared(folder, write(folder, *lines), names)
    expected = prepare(nifti(str(folder), channels=names), 8, folder / "cache")
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.slices == expected.slices
    assert found.lesion_pixels.tolist() == expected.lesion_pixels.tolist() == [0, 0, 9] * 2
    assert (found.file_channels, found.dtype, found.spacing_of(0)) == (tuple(names), "float32", scans.SPACING)


def test_dicom_series_are_folders_in_a_table(tmp_path: Path) -> None:
    patients = scans.draw(2, slices=3)
    scans.write_dicom(tmp_path, patients)
    labels = {name: "seg.nii.gz" if place % 2 else "seg" for place, name in enumerate(patients)}
    lines = (f"{name},{name}\\flair,{name}/{label}" for name, label in labels.items())
    found = prepared(tmp_path, write(tmp_path, "patient,image,mask", *lines), ["flair"])
    scans.write_lgg(tmp_path / "lgg", patients)
    from attnunet.data.lgg import lgg

    expected = prepare(lgg(str(tmp_path / "lgg"), channels=["flair"]), 8, tmp_path / "cache")
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.lesion_pixels.tolist() == expected.lesion_pixels.tolist()


def test_scans_sites_and_other_columns(folder: Path) -> None:
    file = write(
        folder, "age,site,scan,patient,image,mask", "7,N,b,p,p1_t1.nii.gz,p1_seg.nii.gz", "9,N,a,p,p2_t1.nii.gz,p2_seg.nii.gz"
    )
    dataset = table(file, ["t1"])
    found = [(s.scan, s.number, s.site, Path(s.image).name) for s in dataset.slices]
    assert found == [
        (scan, n, "N", f"{name}_t1.nii.gz")
        for scan, name, first in (("a", "p2", 1), ("b", "p1", 4))
        for n in range(first, first + 3)
    ]
    assert dataset.notes == (f"{file}: ignored columns: age",)


def test_patients_that_may_be_scans_of_one_are_noted(folder: Path) -> None:
    rows = (f"BraTS-GLI-00005-00{n},{n},p{n}_t1.nii.gz,p{n}_seg.nii.gz" for n in (1, 2))
    file = write(folder, "patient,age,image,mask", *rows)
    doubt, ignored = table(file, ["t1"]).notes
    assert doubt.startswith("BraTS-GLI-00005-001, BraTS-GLI-00005-002 have names of several scans of one patient")
    assert ignored == f"{file}: ignored columns: age"


def test_the_masks_values_are_one_besides_0_or_those_of_labels(folder: Path) -> None:
    scans.save(folder / "p1_seg.nii.gz", (RAMP > 50) * np.uint8(255))
    file = write(folder, *ONE)
    assert prepared(folder, file, ["t1"]).lesion_pixels.sum() == 18
    scans.save(folder / "p1_seg.nii.gz", RAMP % 3)
    with pytest.raises(
        DataError, match=r"p1_seg\.nii\.gz: a mask has the values 0 and one other, found 0, 1, 2; .* data\.labels"
    ):
        prepared(folder, file, ["t1"])
    assert prepared(folder, file, ["t1"], labels=[1], background=[0, 2]).lesion_pixels[:3].sum() == 20


@pytest.mark.parametrize(("policy", "expected"), [("zero", 0), ("copy", 59 * np.float32(0.1) - 6)])
def test_a_sequence_that_a_row_lacks_is_refused_or_stood_in_for(policy: Any, expected: float, folder: Path) -> None:
    file = write(folder, *SEQUENCES[:2], "p2,p2_flair.nii.gz,,p2_seg.nii.gz")
    with pytest.raises(DataError, match=r"p2_seg\.nii\.gz: its scan has no t1; allowed: .*data\.missing=zero or copy"):
        table(file, BOTH)
    dataset = table(file, BOTH, missing=policy)
    assert dataset.source.pixels(dataset.slices[3:]).sequence(1).max() == expected


def test_the_plane_and_the_pixel_size_are_chosen(folder: Path) -> None:
    dataset = table(write(folder, *ONE), ["t1"], axis="coronal", pixel_size=1.5)
    assert (dataset.plane, dataset.pixel_size, len(dataset.slices)) == ("coronal", 1.5, 8)


def test_a_key_for_the_other_kind_of_rows_is_refused(folder: Path) -> None:
    """A key without effect would be a wrong expectation."""
    file = write(folder, *ONE)
    with pytest.raises(
        DataError, match=r"data\.spacing=\[3, 1, 1\]: .*table\.csv lists volumes, whose headers tell it; allowed"
    ):
        table(file, ["t1"], spacing=[3, 1, 1])
    for name in ("picture.png", "lesion.png"):
        cv2.imwrite(str(folder / name), np.zeros((8, 8), np.uint8))
    file = write(folder, "patient,image,mask", "p,picture.png,lesion.png")
    for key, value in {"missing": "copy", "axis": "axial", "pixel_size": 1.0}.items():
        with pytest.raises(DataError, match=rf"data\.{key}={value}: .*table\.csv lists slices, and this key is for volumes"):
            table(file, ["t1"], **{key: value})  # type: ignore[arg-type]


# What is refused, by file or line


def on_another_grid(folder: Path) -> None:
    scans.save(folder / "p2_seg.nii.gz", np.zeros((3, 4, 6), np.uint8))


def elsewhere(folder: Path) -> None:
    image = scans.nifti((RAMP > 50).astype(np.uint8), scans.ORIENTATIONS[1])
    image.affine[2, 3] += 4
    image.set_sform(image.affine)
    image.to_filename(folder / "p2_seg.nii.gz")


def with_nan(folder: Path) -> None:
    scans.save(folder / "p2_t1.nii.gz", np.where(RAMP == 7, np.nan, RAMP).astype(np.float32), scans.ORIENTATIONS[1])


def a_time_series(folder: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 4, 3, 7), np.int16), np.eye(4)), folder / "p2_t1.nii.gz")


def of_colours(folder: Path) -> None:
    voxels = np.zeros((5, 4, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / "p2_t1.nii.gz")


def cut(folder: Path) -> None:
    path = folder / "p2_t1.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])


def a_picture(folder: Path) -> None:
    cv2.imwrite(str(folder / "p2_t1.png"), np.zeros((8, 8), np.uint8))
    (folder / "p2_t1.png").rename(folder / "p2_t1.nii.gz")


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (on_another_grid, r"p2_seg\.nii\.gz: lies on another grid than \S+p2_t1\.nii\.gz: \(3, 4, 5\) voxels against \(3, 4, 6\)"),
    (elsewhere, r"p2_seg\.nii\.gz: lies on another grid than \S+: corners 4 mm apart; allowed: one grid a scan"),
    (with_nan, r"p2_t1\.nii\.gz: 1 voxel\(s\) are NaN or infinite; allowed: numbers"),
    (a_time_series, r"p2_t1\.nii\.gz: 7 volumes in one file, as of a time series; allowed: one"),
    (of_colours, r"p2_t1\.nii\.gz: RGB values; allowed: integers and real numbers"),
    (cut, r"p2_t1\.nii\.gz: damaged, or no gzip file"),
    (a_picture, r"p2_t1\.nii\.gz: damaged, or no gzip file"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT, ids=lambda case: getattr(case, "__name__", ""))
def test_a_volume_that_cannot_be_used_is_named(spoil: Callable[[Path], None], message: str, folder: Path) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=message):
        prepared(folder, write(folder, *ONE), ["t1"])
    assert not list((folder / "cache").glob("*/masks.npy"))


ROWS: list[tuple[tuple[str, ...], list[str], str]] = [
    ((*ONE, "p1,p1_flair.nii.gz,p1_seg.nii.gz"), ["t1"], "line 4: the patient p1 stands in an earlier line; name scans in"),
    ((*ONE, "p3,p1_t1.nii.gz,p1_seg.nii.gz"), ["t1"], r"line 4: \S+p1_t1\.nii\.gz stands in line 2 already"),
    ((*ONE, "p3,,p1_seg.nii.gz"), ["t1"], "line 4: no image"),
    ((*ONE, "p3,p1_flair.nii.gz,"), ["t1"], "line 4: no mask"),
    ((*ONE, ",p1_flair.nii.gz,p1_seg.nii.gz"), ["t1"], "line 4: no patient"),
    ((*ONE, "p3,p9_t1.nii.gz,p1_seg.nii.gz"), ["t1"], r"line 4: no file \S+p9_t1\.nii\.gz"),
    ((*ONE, "p3,p1_flair.nii.gz,p1_seg.nii.gz,x"), ["t1"], "line 4: more cells than the header has"),
    (
        ONE,
        BOTH,
        r"columns \['patient', 'image', 'mask'\]; volumes need .* each of data\.file_channels=\['flair', 't1'\], each once",
    ),
    (ONE, ["red", "green", "blue"], "or the column image if data.file_channels has one name"),
    (("patient,t1,t1,mask", *ONE[1:]), ["t1"], r"columns .*'t1', 't1'.* each once"),
    (
        ("site,patient,scan,image,mask", "N,p,1,p1_t1.nii.gz,p1_seg.nii.gz", "S,p,2,p2_t1.nii.gz,p2_seg.nii.gz"),
        ["t1"],
        "patient p is of the sites 'N', 'S'; allowed: one site a patient",
    ),
    (
        ("patient,scan,image,mask", "p,Base,p1_t1.nii.gz,p1_seg.nii.gz", "p,base,p2_t1.nii.gz,p2_seg.nii.gz"),
        ["t1"],
        "patient p: scans 'Base' and 'base' differ in case",
    ),
]


@pytest.mark.parametrize(("lines", "names", "message"), ROWS, ids=[message for _, _, message in ROWS])
def test_a_row_of_volumes_that_cannot_be_used_is_named(
    lines: tuple[str, ...], names: list[str], message: str, folder: Path
) -> None:
    with pytest.raises(DataError, match=message):
        table(write(folder, *lines), names)
