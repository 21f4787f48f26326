"""Volumes in the layouts of several tools: prepared as the same slices are from TIFF files, and what is refused."""

import gc
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnunet.data.brats import brats
from attnunet.data.cache import Prepared, prepare
from attnunet.data.dicom import dicom
from attnunet.data.lgg import lgg
from attnunet.data.nifti import nifti
from attnunet.data.nnunet import nnunet
from attnunet.data.slices import DataError, Dataset
from tests import scans
from tests.conftest import command

SIZE = 24


@pytest.fixture(scope="module")
def patients() -> scans.Patients:
    return scans.draw()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, patients: scans.Patients) -> Path:
    """The same patients in all layouts; not to be written to."""
    folder = tmp_path_factory.mktemp("layouts")
    scans.write_lgg(folder / "lgg", patients)
    scans.write_nifti(folder / "nifti", patients)
    scans.write_nifti(folder / "scaled", patients, lambda volume: (volume * 3.7 - 500).astype(np.float32))
    scans.write_dicom(folder / "dicom", patients)
    for version in (1, 2):
        scans.write_nnunet(folder / f"Dataset00{version}_Phantom", patients, version)
    for year in (2020, 2023):
        scans.write_brats(folder / f"brats{year}", patients, year)
    return folder


def prepared(dataset: Dataset, cache: Path) -> Prepared:
    return prepare(dataset, SIZE, cache)


ALL = list(scans.SEQUENCES)
LAYOUTS: dict[str, Callable[..., Dataset]] = {
    "nifti": nifti,
    "Dataset001_Phantom": nnunet,
    "Dataset002_Phantom": nnunet,
    "dicom": dicom,
}


@pytest.mark.parametrize(
    ("layout", "intensity"), [*((layout, "zscore") for layout in LAYOUTS), ("nifti", "percentile"), ("dicom", "raw")]
)
def test_the_same_integers_become_the_same_arrays(layout: str, intensity: Any, folder: Path, tmp_path: Path) -> None:
    expected = prepared(lgg(str(folder / "lgg"), intensity=intensity), tmp_path)
    found = prepared(LAYOUTS[layout](str(folder / layout), channels=ALL, intensity=intensity), tmp_path)
    np.testing.assert_array_equal(found.images, expected.images)
    assert [(s.patient, s.number) for s in found.slices] == [(s.patient, s.number) for s in expected.slices]
    for index in range(len(expected.slices)):
        np.testing.assert_array_equal(found.mask(index), expected.mask(index))
    assert {found.spacing_of(index) for index in range(len(found.slices))} == {scans.SPACING}


@pytest.mark.parametrize("year", [2020, 2023])
def test_brats_folders_become_the_same_arrays(year: int, folder: Path, tmp_path: Path) -> None:
    channels = ["t1", "flair", "t1ce"]
    expected = prepared(lgg(str(folder / "lgg")), tmp_path)
    found = prepared(brats(str(folder / f"brats{year}"), channels=channels), tmp_path)
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.lesion_pixels.tolist() == expected.lesion_pixels.tolist()
    assert found.slices[0].patient == ("BraTS20_Training_000" if year == 2020 else "BraTS-GLI-00000")
    assert found.slices[0].scan == ("" if year == 2020 else "000")


def test_of_another_scale_zscore_makes_the_same_arrays_up_to_one_grey_level(folder: Path, tmp_path: Path) -> None:
    expected = prepared(lgg(str(folder / "lgg")), tmp_path)
    found = prepared(nifti(str(folder / "scaled"), channels=ALL), tmp_path)
    assert np.abs(found.images.astype(int) - expected.images).max() <= 1


def test_raw_values_that_no_byte_holds_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"_flair\.nii\.gz: data\.intensity=raw: values from -500 to .*; allowed: whole numbers"
    ):
        prepared(nifti(str(folder / "scaled"), channels=["flair"], intensity="raw"), tmp_path)


def test_sequences_are_chosen_by_name_in_any_order_and_others_are_not_read(
    folder: Path, patients: scans.Patients, tmp_path: Path
) -> None:
    scans.write_nifti(tmp_path / "in", patients)
    for path in (tmp_path / "in").rglob("*_pre.nii.gz"):
        path.write_text("no NIfTI")
    expected = prepared(lgg(str(folder / "lgg"), channels=["post", "flair"]), tmp_path)
    found = prepared(nifti(str(tmp_path / "in"), channels=["post", "flair"]), tmp_path)
    assert found.file_channels == found.channels == ("post", "flair")
    np.testing.assert_array_equal(found.images, expected.images)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal", None])
@pytest.mark.parametrize("spacing", [(5.0, 1.0, 1.0), (1.0, 1.0, 5.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0)])
def test_slices_are_of_the_plane_that_is_chosen(axis: Any, spacing: tuple[float, ...], tmp_path: Path) -> None:
    """Sagittal and coronal slices begin at the top; coronal ones run backwards, sagittal ones to the left."""
    volume = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    scans.save(tmp_path / "in" / "p_t1.nii", volume, "RSA", spacing)
    scans.save(tmp_path / "in" / "p_seg.nii", volume % 2, "LPS", spacing)  # in another order of axes
    dataset = nifti(str(tmp_path / "in"), intensity="raw", axis=axis)
    largest = {5.0: "axial", 1.0: "axial"}[spacing[0]] if spacing[1] == spacing[2] else ("coronal", "sagittal")[spacing[2] > 1]
    assert dataset.plane == (axis or largest)
    seen = {
        "axial": volume,
        "coronal": volume[::-1].transpose(1, 0, 2),
        "sagittal": volume[::-1].transpose(2, 0, 1),
    }[dataset.plane]
    pixels = dataset.source.pixels(dataset.slices)
    images, masks = zip(*pixels.slices(), strict=True)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.stack(images)[..., 0], seen)
    np.testing.assert_array_equal(np.stack(masks), seen % 2)
    order = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}[dataset.plane]
    assert dataset.slices[0].spacing == tuple(spacing[place] for place in order)


def test_patients_of_two_planes_need_an_axis(tmp_path: Path) -> None:
    volume = np.zeros((4, 5, 6), np.uint8)
    for name, spacing in (("p1", (5.0, 1.0, 1.0)), ("p2", (1.0, 1.0, 5.0))):
        for sequence in ("t1", "seg"):
            scans.save(tmp_path / f"{name}_{sequence}.nii", volume, spacing=spacing)
    with pytest.raises(
        DataError, match=r"p2_seg\.nii: .* across sagittal slices, of .*p1_seg\.nii across axial ones; set data\.axis"
    ):
        nifti(str(tmp_path))
    assert len(nifti(str(tmp_path), axis="axial").slices) == 8


def scan(folder: Path, name: str = "p1", sequences: tuple[str, ...] = ("flair", "t1"), **given: np.ndarray) -> None:
    """A patient of 3 slices, 4 x 5, with values by sequence, or a ramp."""
    ramp = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    for place, sequence in enumerate((*sequences, "seg")):
        default = (ramp > 50).astype(np.uint8) if sequence == "seg" else ramp + np.int16(1000 * place)
        scans.save(folder / f"{name}_{sequence}.nii.gz", given.get(sequence, default))


@pytest.mark.parametrize(("policy", "expected"), [("zero", 0), ("copy", 59)])
def test_a_missing_sequence_is_refused_or_stood_in_for(policy: Any, expected: int, tmp_path: Path) -> None:
    scan(tmp_path / "in", "p1")
    scan(tmp_path / "in", "p2", ("flair",))
    with pytest.raises(DataError, match=r"p2_seg\.nii\.gz: its scan has no t1; allowed: .*data\.missing=zero or copy"):
        nifti(str(tmp_path / "in"))
    dataset = nifti(str(tmp_path / "in"), missing=policy)
    assert dataset.file_channels == ("flair", "t1")
    of_p2 = [item for item in dataset.slices if item.patient == "p2"]
    assert dataset.source.pixels(of_p2).sequence(1).max() == expected
    missing = {item.patient: item.missing for item in prepared(dataset, tmp_path / "cache").slices}
    assert missing == {"p1": (), "p2": ("t1",)}


def test_which_sequence_is_missing_makes_other_arrays(tmp_path: Path) -> None:
    scan(tmp_path / "in", "p1", ("flair", "t1", "t2"))
    fingerprints = set()
    for policy in ("zero", "copy"):
        (tmp_path / "in" / "p1_t1.nii.gz").unlink(missing_ok=True)
        dataset = nifti(str(tmp_path / "in"), channels=["flair", "t2"], missing=policy)  # type: ignore[arg-type]
        fingerprints.add(prepared(dataset, tmp_path / "cache").folder)
    assert len(fingerprints) == 2


def test_labels_say_what_is_lesion(tmp_path: Path) -> None:
    labels = np.zeros((3, 4, 5), np.float32)
    labels[0, 0, :4] = 1, 2, 4, 4
    scan(tmp_path / "in", seg=labels)
    with pytest.raises(
        DataError, match=r"p1_seg\.nii\.gz: holds the values 0, 1, 2, 4; data\.labels=\[1\] are lesion, \[0\] background"
    ):
        prepared(nifti(str(tmp_path / "in")), tmp_path / "cache")
    whole = prepared(nifti(str(tmp_path / "in"), labels=[1, 2, 4]), tmp_path / "cache")
    part = prepared(nifti(str(tmp_path / "in"), labels=[4], background=[0, 1, 2]), tmp_path / "cache")
    assert (whole.lesion_pixels.tolist(), part.lesion_pixels.tolist()) == ([4, 0, 0], [2, 0, 0])


def moved(folder: Path) -> None:
    image = scans.nifti(np.zeros((3, 4, 5), np.uint8))
    image.affine[0, 3] += 0.2
    image.set_sform(image.affine)
    image.to_filename(folder / "p1_seg.nii.gz")


def of_another_size(folder: Path) -> None:
    scans.save(folder / "p1_t1.nii.gz", np.zeros((3, 4, 6), np.uint8))


def time_series(folder: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 4, 3, 7), np.int16), np.eye(4)), folder / "p1_t1.nii.gz")


def second(folder: Path) -> None:
    scans.save(folder / "more" / "p1_t1.nii", np.zeros((3, 4, 5), np.uint8))


def without_label(folder: Path) -> None:
    (folder / "p1_seg.nii.gz").rename(folder / "p1_mask.nii.gz")


def without_patient(folder: Path) -> None:
    scans.save(folder / "t1.nii.gz", np.zeros((3, 4, 5), np.uint8))


def cut(folder: Path) -> None:
    path = folder / "p1_t1.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])


def not_finite(folder: Path) -> None:
    scans.save(folder / "p1_t1.nii.gz", np.full((3, 4, 5), np.nan, np.float32))


WRONG: list[tuple[Callable[[Path], None], str]] = [
    (moved, r"p1_seg\.nii\.gz: lies on another grid than \S+p1_flair\.nii\.gz: corners 0\.2 mm apart; allowed: one grid"),
    (
        of_another_size,
        r"p1_t1\.nii\.gz: lies on another grid than .*: \(3, 4, 5\) voxels against \(3, 4, 6\) .*; allowed: one grid",
    ),
    (time_series, r"p1_t1\.nii\.gz: 7 volumes in one file, as of a time series; allowed: one"),
    (second, r"in/p1_t1\.nii\.gz: a second file for the sequence t1 of p1, beside \S+more/p1_t1\.nii; allowed: one"),
    (without_label, r"p1_flair\.nii\.gz: the patient p1 has no label named seg \(data\.label\); found flair, mask, t1"),
    (without_patient, r"t1\.nii\.gz: names no patient; allowed: PATIENT_t1\.nii\.gz, or a folder for each patient"),
    (cut, r"p1_t1\.nii\.gz: damaged, or no gzip file: .*; allowed: a complete file"),
    (not_finite, r"p1_t1\.nii\.gz: 60 voxel\(s\) are NaN or infinite; allowed: numbers"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG)
def test_what_cannot_be_one_scan_is_refused(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    scan(tmp_path / "in")
    spoil(tmp_path / "in")
    with pytest.raises(DataError, match=message):
        prepared(nifti(str(tmp_path / "in")), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/masks.npy"))


def test_a_file_of_one_volume_in_four_dimensions_is_a_volume(tmp_path: Path) -> None:
    import nibabel

    scan(tmp_path / "in")
    path = tmp_path / "in" / "p1_t1.nii.gz"
    before = prepared(nifti(str(tmp_path / "in")), tmp_path / "cache")
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj)[..., None], image.affine), path)
    np.testing.assert_array_equal(prepared(nifti(str(tmp_path / "in")), tmp_path / "cache").images, before.images)


def test_patients_are_folders_where_files_do_not_name_them(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        for name in ("flair", "t1_ce", "seg"):
            scans.save(tmp_path / patient / f"{name}.nii.gz", np.zeros((2, 4, 5), np.uint8))
    dataset = nifti(str(tmp_path), channels=["t1_ce", "flair"])
    assert [(item.patient, item.number) for item in dataset.slices] == [("p1", 1), ("p1", 2), ("p2", 1), ("p2", 2)]
    assert dataset.file_channels == ("t1_ce", "flair")


def write_csv(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines))
    return str(path)


def test_a_csv_names_the_files(tmp_path: Path) -> None:
    scan(tmp_path / "in", "a b")
    scan(tmp_path / "in", "ä(1)", ("t1",))
    file = write_csv(
        tmp_path / "in" / "scans.csv",
        "patient;t1;flair;label;site",
        "one;a b_t1.nii.gz;a b_flair.nii.gz;a b_seg.nii.gz;north",
        "two;ä(1)_t1.nii.gz;;ä(1)_seg.nii.gz;",
    )
    dataset = nifti(file=file, missing="copy")
    assert dataset.file_channels == ("t1", "flair")
    assert {(item.patient, item.site, item.missing) for item in dataset.slices} == {
        ("one", "north", ()),
        ("two", "", ("flair",)),
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["patient,t1", "p,x.nii"], r"columns \['patient', 't1'\]; needed \['patient', 'label'\] and one for each sequence"),
        (["patient,label", "p,x.nii"], "and one for each sequence"),
        (["patient,label,t1", ",x.nii,y.nii"], "line 2: no patient"),
        (["patient,label,t1", "p,in/p1_seg.nii.gz,"], "line 2: no image"),
        (["patient,label,t1", "p,in/p1_seg.nii.gz,y.nii"], r"line 2: no file \S+y\.nii"),
        (["patient,label,t1", *["p,in/p1_seg.nii.gz,in/p1_t1.nii.gz"] * 2], "line 3: the patient p stands in an earlier line"),
        (["patient,label,t1"], "no rows below the header"),
        (
            ["patient,scan,site,label,t1", *(f"p,{n},{n},in/p1_seg.nii.gz,in/p1_{n}.nii.gz" for n in ("t1", "flair"))],
            r"p1_seg\.nii\.gz, \S+p1_seg\.nii\.gz: patient p is of the sites 'flair', 't1'; allowed: one site a patient",
        ),
        (
            ["patient,label,t1", *(f"{n},in/p1_seg.nii.gz,in/p1_t1.nii.gz" for n in "ab")],
            r"line 3: \S+in/p1_t1\.nii\.gz stands in line 2 already",
        ),
    ],
)
def test_a_wrong_csv_is_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    scan(tmp_path / "in")
    with pytest.raises(DataError, match=message):
        nifti(file=write_csv(tmp_path / "scans.csv", *lines))


def test_one_of_root_and_file_is_needed(tmp_path: Path) -> None:
    for given in ({}, {"root": "a", "file": "b"}, {"root": str(tmp_path / "none")}, {"file": "none"}, {"root": str(tmp_path)}):
        with pytest.raises(DataError, match=r"data\.(root|file)=.*[\s\S]*data=nifti needs one of"):
            nifti(**given)


def described(folder: Path, **entries: Any) -> None:
    import json

    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


NOT_NNUNET: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: (f / "dataset.json").unlink(), "no dataset.json there; data=nnunet needs a folder DatasetNNN_Name"),
    (lambda f: (f / "dataset.json").write_text("{"), r"dataset\.json: is no JSON"),
    (lambda f: (f / "dataset.json").write_text("[]"), r"dataset\.json: holds no object"),
    (partial(described, channel_names={"0": "t1", "2": "t2"}), r"channel_names \(or modality\) is .*; needed: names of"),
    (partial(described, channel_names={"0": "t1", "1": "t1"}), "needed: names that differ"),
    (partial(described, labels={"background": 0}), "needed: a value above 0"),
    (partial(described, labels={"background": 0, "a": "x"}), "labels name 'x'; allowed: whole numbers"),
    (partial(described, labels={"background": 0, "a": 1, "ignore": 2}), "the label ignore is not supported"),
    (partial(described, file_ending=".png"), r"file_ending is \.png; allowed: \.nii, \.nii\.gz"),
    (partial(described, channel_names={"0": "t1"}), r"_0001\.nii\.gz: ends with none of _0000, the channels"),
    (lambda f: next((f / "labelsTr").iterdir()).unlink(), r"labelsTr/\w+\.nii\.gz: is not there"),
    (
        lambda f: [p.unlink() for p in (f / "imagesTr").glob("*_0003_000?.*")],
        r"_0003\.nii\.gz: has no image PHANTOM_AA_0003_0000",
    ),
    (lambda f: (f / "imagesTr").rename(f / "images"), "imagesTr: no such folder"),
]


@pytest.mark.parametrize(("spoil", "message"), NOT_NNUNET)
def test_a_folder_that_is_not_nnunets_is_refused(
    spoil: Callable[[Path], Any], message: str, patients: scans.Patients, tmp_path: Path
) -> None:
    scans.write_nnunet(tmp_path / "set", patients)
    spoil(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        nnunet(str(tmp_path / "set"))


def test_labels_of_nnunet_are_chosen_among_those_that_are_named(
    folder: Path, patients: scans.Patients, tmp_path: Path
) -> None:
    scans.write_nnunet(tmp_path / "set", patients)
    described(tmp_path / "set", labels={"background": 0, "whole": [1, 2], "core": 2})
    whole, core = nnunet(str(tmp_path / "set")), nnunet(str(tmp_path / "set"), labels=[2])
    assert prepared(whole, tmp_path).lesion_pixels.sum() == sum(masks.sum() for _, masks in patients.values())
    assert not prepared(core, tmp_path).lesion_pixels.any()
    with pytest.raises(DataError, match=r"data\.labels=\[3\]: .* has the labels \[1, 2\]; allowed: these"):
        nnunet(str(tmp_path / "set"), labels=[3])


def test_parts_of_a_tumour_are_chosen_in_brats(folder: Path, tmp_path: Path) -> None:
    whole = prepared(brats(str(folder / "brats2020")), tmp_path)
    edema = prepared(brats(str(folder / "brats2020"), labels=[2]), tmp_path)
    even = [item.number % 2 == 1 for item in whole.slices]
    np.testing.assert_array_equal(edema.lesion_pixels, np.where(even, whole.lesion_pixels, 0))


def test_scans_of_a_patient_stay_together_and_are_volumes_of_their_own(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        for time in ("2019", "2020"):
            for name in ("flair", "seg"):
                shape = (2 if time == "2019" else 3, 4, 5)
                scans.save(tmp_path / "in" / patient / time / f"{name}.nii", np.ones(shape, np.uint8))
    data = prepared(nifti(str(tmp_path / "in")), tmp_path / "cache")
    assert list(data.patients) == ["p1", "p2"]
    assert [(item.patient, item.scan, item.number) for item in data.slices[:5]] == [
        *(("p1", "2019", number) for number in (1, 2)),
        *(("p1", "2020", number) for number in (3, 4, 5)),
    ]
    assert [item.volume for item in data.slices[1:3]] == ["p1/2019", "p1/2020"]


@pytest.mark.parametrize("reader", [nifti, brats])
def test_sessions_of_bids_are_scans_of_one_patient(reader: Callable[..., Dataset], tmp_path: Path) -> None:
    for case, folder in (
        ("sub-01_ses-1", "sub-01/ses-1/anat"),
        ("sub-01_ses-2", "sub-01/ses-2/anat"),
        ("sub-02_ses-1_run-1", "sub-02/ses-1/anat"),
        ("sub-02_ses-1_run-2", "sub-02/ses-1/anat"),
        ("sub-03", "sub-03/anat"),
        ("sub-4_b_ses-1", "four"),  # no name of BIDS, because a label has no _
    ):
        scan(tmp_path / "in" / folder, case, ("flair",))
    data = prepared(reader(str(tmp_path / "in"), channels=["flair"], labels=[1]), tmp_path / "cache")
    assert [(item.patient, item.scan, item.number) for item in data.slices[::3]] == [
        ("sub-01", "ses-1", 1),
        ("sub-01", "ses-2", 4),
        ("sub-02", "ses-1_run-1", 1),
        ("sub-02", "ses-1_run-2", 4),
        ("sub-03", "", 1),
        ("sub-4_b_ses-1", "", 1),
    ]
    assert (data.slices[3].volume, data.notes) == ("sub-01/ses-2", ())


@pytest.mark.parametrize("begin", ["{case}/", "all/{case}_", "{case}/{case}_"])
def test_series_of_bids_sessions_are_scans_of_one_patient(begin: str, tmp_path: Path) -> None:
    for case in ("sub-01_ses-1", "sub-01_ses-2"):
        for sequence in ("t1", "seg"):
            scans.write_series(tmp_path / f"{begin.format(case=case)}{sequence}", np.ones((2, 4, 5), np.uint16))
    found = [(item.patient, item.scan) for item in dicom(str(tmp_path)).slices]
    assert found == [("sub-01", "ses-1")] * 2 + [("sub-01", "ses-2")] * 2


def test_a_folder_that_bids_names_after_a_session_is_a_scan_of_the_patient(tmp_path: Path) -> None:
    for folder in ("sub-01_ses-1/a", "sub-01_ses-1/b", "sub-01_ses-2", "sub-1-ses-2"):
        for name in ("flair", "seg"):
            scans.save(tmp_path / folder / f"{name}.nii", np.ones((1, 4, 5), np.uint8))
    found = [(item.patient, item.scan) for item in nifti(str(tmp_path)).slices]
    assert found == [("sub-01", "ses-1/a"), ("sub-01", "ses-1/b"), ("sub-01", "ses-2"), ("sub-1-ses-2", "")]


def test_predicted_masks_of_sessions_are_found_for_their_scans(tmp_path: Path) -> None:
    """`attnunet.predict` names the mask after the file: sub-01/ses-1/anat/sub-01_ses-1.nii.gz."""
    from attnunet.inference.inputs.folder import find_files
    from attnunet.inference.masks import find_masks

    for case, folder in (("sub-01_ses-1", "sub-01/ses-1/anat"), ("sub-01_ses-2", "sub-01/ses-2/anat")):
        scan(tmp_path / "in" / folder, case, ("flair", "t1"))
    dataset = nifti(str(tmp_path / "in"))
    data = prepared(dataset, tmp_path / "cache")
    takes = scans.Takes(("flair", "t1"), ("flair", "t1"))
    cases, _ = find_files(tmp_path / "in", ["*_seg*"]).cases(takes, None)
    for case in cases:
        assert case.source is not None
        case.source.write(np.zeros((3, 4, 5), np.uint8), tmp_path / "masks", "", "axial")
    given, lacking = find_masks(tmp_path / "masks", dataset, data, range(6))
    assert (sorted(given.files), lacking) == (["sub-01/ses-1", "sub-01/ses-2"], [])


@pytest.mark.parametrize(
    ("first", "second"), [("BraTS-GLI-00005-000", "BraTS-GLI-00005-001"), ("sub-01_ses-1", "sub-01_ses-2")]
)
def test_a_note_names_cases_of_nnunet_that_may_be_one_patient(first: str, second: str, tmp_path: Path) -> None:
    others = {"BraTS-GLI-00006-000", "sub-02_ses-1", "p1", "p1_2"}
    patients = dict(zip([*sorted(others), second, first], scans.draw(6, slices=2).values(), strict=True))
    scans.write_nnunet(tmp_path / "set", patients)
    dataset = nnunet(str(tmp_path / "set"))
    assert {item.patient for item in dataset.slices} == {*others, first, second}
    (note,) = dataset.notes
    assert note.startswith(f"{first}, {second} have names of several scans of one patient, but each counts as a patient")
    assert prepared(dataset, tmp_path / "cache").notes == (note,)
    assert nnunet(str(tmp_path / "set"), exclude=[second]).notes == ()


def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # each core holds one volume at a time

    def peak(number: int) -> int:
        """Bytes that Python and NumPy hold at most; the arrays themselves are mapped files."""
        excluded = [f"p{place}" for place in range(number, 30)]
        gc.collect()
        tracemalloc.start()
        prepared(nifti(str(tmp_path / "in"), exclude=excluded), tmp_path / f"cache{number}")
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    rng = np.random.default_rng(0)
    for place in range(30):
        scans.save(tmp_path / "in" / f"p{place}_t1.nii", rng.integers(0, 999, (30, 80, 80)).astype(np.int16))
        scans.save(tmp_path / "in" / f"p{place}_seg.nii", np.zeros((30, 80, 80), np.uint8))
    assert peak(30) < 3 * peak(2)  # 6 if all volumes were held; the facts of the slices grow


@pytest.mark.slow
def test_nifti_trains_to_the_same_bits_as_the_same_slices(tmp_path: Path) -> None:
    """The same integers in float32 and in four orientations; the two runs differ in nothing but their reader."""
    from attnunet.inference.predictor import load_network

    patients = scans.draw(12, slices=6)
    scans.write_lgg(tmp_path / "lgg", patients)
    scans.write_nifti(tmp_path / "nifti", patients)
    trained = []
    for layout in ("lgg", "nifti"):
        keys = (f"data={layout}", f"data.root={tmp_path / layout}", "data.channels=[pre,flair,post]")
        (tmp_path / f"of {layout}").mkdir()
        result = command("trainer=smoke", "evaluation.batch_size=8", *keys, cwd=tmp_path / f"of {layout}")
        assert result.returncode == 0, result.stderr
        (run,) = (tmp_path / f"of {layout}" / "mlruns" / "artifacts").glob("*/artifacts/checkpoints/best.keras")
        trained.append(load_network(run).get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_array_equal(one, other)
