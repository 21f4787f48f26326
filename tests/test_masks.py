"""Masks of another tool: found by name, turned and checked, scored as a run is, and paired with it."""

import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from attnunet import compare, config
from attnunet.comparison.paper.facts import read_facts
from attnunet.data.cache import Prepared, prepare
from attnunet.data.dicom import dicom
from attnunet.data.lgg import lgg
from attnunet.data.nifti import nifti
from attnunet.data.slices import DataError, Dataset
from attnunet.data.split import Split
from attnunet.data.table import table
from attnunet.evaluation.other_tool import evaluate_masks
from attnunet.inference.masks import find_masks, find_shared
from attnunet.tracking import records
from attnunet.tracking.records import Record
from attnunet.tracking.run import open_run
from attnunet.tracking.store import Store
from tests import scans

PATIENTS = ("TCGA_AA_0001_20000101", "TCGA_AA_0002_20000101")


@pytest.fixture(scope="module")
def patients() -> scans.Patients:
    """Two patients of three slices of 12 x 10 pixels, whose lesions lie in no symmetric place."""
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 12, 10), np.uint8)
    masks[1, 2:5, 1:3] = masks[2, 3, 6] = 1
    return {name: (rng.integers(0, 255, (3, 12, 10, 3), np.uint8), masks) for name in PATIENTS}


@pytest.fixture(scope="module")
def dataset(patients: scans.Patients, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("masks")
    scans.write_lgg(folder / "in", patients)
    return lgg(str(folder / "in"))


@pytest.fixture(scope="module")
def prepared(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(dataset, None, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", params=["nifti", "dicom"])
def volumes(request: pytest.FixtureRequest, patients: scans.Patients, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same patients as volumes, whose files tell where they lie."""
    folder = tmp_path_factory.mktemp(request.param)
    write, read = {"nifti": (scans.write_nifti, nifti), "dicom": (scans.write_dicom, dicom)}[request.param]
    write(folder, patients)
    return read(str(folder), channels=["pre"])


def truth(prepared: Prepared, patient: str) -> np.ndarray:
    return np.stack([prepared.mask(index) for index in prepared.patients[patient]])


@pytest.mark.parametrize("axes", scans.ORIENTATIONS)
def test_a_nifti_mask_is_turned_by_its_affine(axes: str, dataset: Dataset, prepared: Prepared, tmp_path: Path) -> None:
    for patient in PATIENTS:
        scans.save(tmp_path / f"{patient}.nii.gz", truth(prepared, patient) * 3, axes)
    masks, lacking = find_masks(tmp_path, dataset, prepared, range(6))
    assert lacking == []
    found = list(masks.volumes(prepared, range(6)))
    assert [volume.name for volume in found] == list(PATIENTS)
    for volume in found:
        np.testing.assert_array_equal(masks.decision(volume.probabilities), truth(prepared, volume.name))


@pytest.mark.parametrize(("suffix", "ending"), [(".png", ""), (".tif", ""), (".png", "_mask")])
def test_images_are_found_by_the_names_of_the_datas_own(
    suffix: str, ending: str, dataset: Dataset, prepared: Prepared, tmp_path: Path
) -> None:
    for index, item in enumerate(prepared.slices):
        cv2.imwrite(str(tmp_path / f"{Path(item.image).stem}{ending}{suffix}"), prepared.mask(index) * 255)
    masks, lacking = find_masks(tmp_path, dataset, prepared, range(6))
    assert lacking == []
    for volume in masks.volumes(prepared, range(6)):
        np.testing.assert_array_equal(volume.probabilities, truth(prepared, volume.name))


def test_patients_without_masks_are_named(dataset: Dataset, prepared: Prepared, tmp_path: Path) -> None:
    scans.save(tmp_path / f"{PATIENTS[1]}.nii.gz", truth(prepared, PATIENTS[1]))
    masks, lacking = find_masks(tmp_path, dataset, prepared, range(6))
    assert (list(masks.files), lacking) == ([PATIENTS[1]], [PATIENTS[0]])


def refusal(folder: Path, dataset: Dataset, prepared: Prepared) -> str:
    with pytest.raises(DataError) as refused:
        list(find_masks(folder, dataset, prepared, range(3))[0].volumes(prepared, range(3)))
    return str(refused.value)


def test_masks_of_no_use_are_refused(dataset: Dataset, prepared: Prepared, tmp_path: Path) -> None:
    path, mask = tmp_path / f"{PATIENTS[0]}.nii.gz", truth(prepared, PATIENTS[0])
    scans.save(path, mask[:, :, :8])
    expected = (
        f"{path}: slices, rows and columns are (3, 12, 8); allowed: those of the reference of {PATIENTS[0]}, (3, 12, 10)"
    )
    assert refusal(tmp_path, dataset, prepared) == expected
    scans.save(path, mask * np.float32(0.5) + mask[::-1] * np.float32(0.25))
    assert "a mask has the values 0 and one other, found 0, 0.25, 0.5" in refusal(tmp_path, dataset, prepared)
    scans.save(path, mask + 1)
    assert "a mask has the values 0 and one other, found 1, 2" in refusal(tmp_path, dataset, prepared)
    scans.save(path, mask)
    scans.save(tmp_path / "fold_1" / path.name, mask)
    assert "a second mask beside" in refusal(tmp_path, dataset, prepared)
    assert refusal(tmp_path / "none", dataset, prepared) == f"masks={tmp_path / 'none'}: no such folder"


def save_by_itk(path: Path, mask: np.ndarray, axes: str, shift: float = 0.0, spacing: float = 5.0) -> None:
    """Write a mask on the grid of `scans`, by SimpleITK; moved to the left, or with another distance between slices."""
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing((scans.SPACING[2], scans.SPACING[1], spacing))
    image.SetOrigin((shift, 0, 0))
    sitk.WriteImage(sitk.DICOMOrient(image, axes), str(path))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "ASL"])
def test_a_mask_on_the_grid_of_its_volume_is_turned_whatever_its_axes(
    axes: str, volumes: Dataset, patients: scans.Patients, tmp_path: Path
) -> None:
    """A twentieth of a voxel is rounding."""
    prepared = prepare(volumes, None, tmp_path / "cache")
    for patient in PATIENTS:
        save_by_itk(tmp_path / f"{patient}.nii.gz", patients[patient][1], axes, shift=0.024)
    masks, lacking = find_masks(tmp_path, volumes, prepared, range(6))
    assert lacking == []
    for volume in masks.volumes(prepared, range(6)):
        np.testing.assert_array_equal(volume.probabilities, patients[volume.name][1])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"shift": 3.0}, "corners 3 mm apart"),
        ({"shift": 0.1}, "corners 0.1 mm apart"),
        ({"spacing": 4.0}, "corners 2 mm apart"),
        ({"mirrored": True}, "corners 6.75 mm apart"),
        ({"cut": True}, "(3, 12, 10) voxels against (3, 12, 8) (slices, rows, columns)"),
        ({"reordered": True}, "(3, 12, 10) voxels against (10, 12, 3) (slices, rows, columns)"),
    ],
)
def test_a_mask_elsewhere_in_the_world_is_refused(
    given: dict[str, Any], told: str, volumes: Dataset, patients: scans.Patients, tmp_path: Path
) -> None:
    """The tool forgot the origin, the spacing or the orientation of the image that it segmented, or cut its margins."""
    prepared, path = prepare(volumes, None, tmp_path / "cache"), tmp_path / f"{PATIENTS[0]}.nii.gz"
    mask = patients[PATIENTS[0]][1]
    if "mirrored" in given:
        nibabel.save(nibabel.Nifti1Image(mask.transpose(2, 1, 0), np.diag([0.75, -0.5, 5, 1])), path)
    elif "cut" in given or "reordered" in given:
        save_by_itk(path, mask[:, :, :8] if "cut" in given else mask.transpose(2, 1, 0), "LPS")
    else:
        save_by_itk(path, mask, "LPS", **given)
    expected = (
        f"{path}: lies on another grid than {volumes.slices[0].image}: {told}; "
        "allowed: the same grid up to a tenth of a voxel, with the axes in any order, so resample it"
    )
    assert refusal(tmp_path, volumes, prepared) == expected


def test_where_the_data_have_no_position_the_size_alone_is_checked(
    dataset: Dataset, prepared: Prepared, tmp_path: Path
) -> None:
    save_by_itk(tmp_path / f"{PATIENTS[0]}.nii.gz", truth(prepared, PATIENTS[0]), "LPS", shift=70, spacing=2)
    masks, _ = find_masks(tmp_path, dataset, prepared, range(3))
    (found,) = masks.volumes(prepared, range(3))
    np.testing.assert_array_equal(found.probabilities, truth(prepared, PATIENTS[0]))


def test_masks_for_some_slices_are_refused(dataset: Dataset, prepared: Prepared, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / f"{Path(prepared.slices[0].image).stem}.png"), prepared.mask(0) * 255)
    expected = f"{PATIENTS[0]} has masks for some slices, and none for {prepared.slices[1].image}"
    assert expected in refusal(tmp_path, dataset, prepared)


@pytest.fixture(scope="module")
def namesakes(patients: scans.Patients, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two patients whose slices have the same names, in a folder for each."""
    folder = tmp_path_factory.mktemp("namesakes")
    rows = []
    for patient, (images, masks) in patients.items():
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            for kind, values in (("images", image), ("masks", mask * 255)):
                path = folder / kind / patient / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), values)
            rows.append(f"{patient},images/{patient}/{number:03d}.png,masks/{patient}/{number:03d}.png,{number}")
    (folder / "data.csv").write_text("\n".join(["patient,image,mask,slice", *rows]))
    return table(str(folder / "data.csv"))


def test_a_mask_in_another_patients_folder_is_not_taken(namesakes: Dataset, tmp_path: Path) -> None:
    prepared = prepare(namesakes, None, tmp_path / "cache")
    out = tmp_path / "out"
    for index in range(3):
        path = out / PATIENTS[0] / Path(namesakes.slices[index].image).name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), prepared.mask(index) * 255)
    masks, lacking = find_masks(out, namesakes, prepared, range(6))
    assert (list(masks.files), lacking) == ([PATIENTS[0]], [PATIENTS[1]])

    for index in (3, 4):  # the tool wrote no mask for the last slice
        path = out / PATIENTS[1] / Path(namesakes.slices[index].image).name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), prepared.mask(index) * 255)
    with pytest.raises(DataError, match=f"{PATIENTS[1]} has masks for some slices, and none for"):
        find_masks(out, namesakes, prepared, range(6))


def test_a_mask_that_fits_two_patients_is_refused(namesakes: Dataset, tmp_path: Path) -> None:
    prepared = prepare(namesakes, None, tmp_path / "cache")
    for index in range(3):
        cv2.imwrite(str(tmp_path / Path(namesakes.slices[index].image).name), prepared.mask(index) * 255)
    told = f"000.png: fits {PATIENTS[0]} and {PATIENTS[1]} by its name, 2 times; allowed: a folder for each"
    with pytest.raises(DataError, match=told):
        find_masks(tmp_path, namesakes, prepared, range(6))


def test_a_mask_that_fits_two_slices_of_a_patient_is_refused() -> None:
    (told,) = find_shared({"a": [Path("left/1.png"), Path("1.png")], "b": [Path("1.png"), Path("1.png")]})
    assert told.startswith("1.png: fits a and b by its name, 3 times; allowed: ")


def test_masks_of_unique_names_may_lie_in_any_folder(dataset: Dataset, prepared: Prepared, tmp_path: Path) -> None:
    """All masks in a folder that has the name of the first patient's."""
    folder = tmp_path / Path(prepared.slices[0].image).parent.name
    folder.mkdir()
    for index, item in enumerate(prepared.slices):
        cv2.imwrite(str(folder / f"{Path(item.image).stem}.png"), prepared.mask(index) * 255)
    masks, lacking = find_masks(tmp_path, dataset, prepared, range(6))
    assert (list(masks.files), lacking) == ([*PATIENTS], [])


def as_trained(store: Store, dataset: Dataset, prepared: Prepared) -> Record:
    """Log a run as a training of volumes leaves it, without a cohort.csv, which earlier versions did not keep."""
    indices = {part: prepared.patients[name] for part, name in zip(("train", "test"), PATIENTS, strict=True)}
    split = Split(tuple(indices["train"]), (), tuple(indices["test"]), {i: s.patient for i, s in enumerate(prepared.slices)})
    root = str(Path(dataset.slices[0].image).parent.parent)
    reader = {"_target_": "attnunet.data.nifti.nifti", "root": root, "channels": ["pre"]}
    settings = {"data": reader, "evaluation": {"resamples": 99, "tolerance": 2}, "split": {}}
    with open_run(store, store.study("volumes"), "own", {"data": "nifti", "model": "conv"}, {}) as current:
        current.text(split.manifest(prepared.slices, prepared.fingerprint), "split.json")
        current.text(OmegaConf.to_yaml(OmegaConf.create(settings)), "config.yaml")
        current.text(f"part,patient,tp,fn\ntest,{PATIENTS[1]},3,1\n", "patients.csv")
    (record,) = records.runs_of_study(store, "volumes")
    return record


def test_masks_of_volumes_keep_the_spacing_of_their_files(patients: scans.Patients, tmp_path: Path) -> None:
    """Else, a methods section would call mm pixels."""
    scans.write_nifti(tmp_path / "in", patients)
    dataset = nifti(str(tmp_path / "in"), channels=["pre"])
    store = Store(tmp_path / "mlruns", None, 0)
    own = as_trained(store, dataset, prepare(dataset, 16, store.root / "cache"))
    scans.save(tmp_path / "masks" / f"{PATIENTS[1]}.nii.gz", patients[PATIENTS[1]][1])
    again(tmp_path, own, f"masks={tmp_path / 'masks'}", "name=rival")
    _, rival = records.runs_of_study(store, "volumes")
    rows = rival.rows("cohort.csv")
    assert [(row["part"], row["patient"], row["slices"]) for row in rows] == [
        ("train", PATIENTS[0], "3"),
        ("test", PATIENTS[1], "3"),
    ]
    assert {row["spacing"] for row in rows} == {"5 0.5 0.75"}
    assert not read_facts(rival).derived
    assert read_facts(own).derived
    assert {scan["spacing"] for scan in read_facts(own).scans} == {""}


def again(folder: Path, record: Record, *overrides: str) -> str:
    """`attnunet.evaluate run=RUN_ID OVERRIDES` in this process; -> what it prints."""
    out = StringIO()
    with initialize_config_dir(config.CONF, version_base="1.3"):
        cfg = compose("evaluate", [f"run={record.id}", f"tracking.root={folder / 'mlruns'}", *overrides])
    evaluate_masks(cfg, record, Console(file=out, width=200, soft_wrap=True))
    return out.getvalue()


@pytest.mark.slow
def test_the_masks_of_a_tool_are_a_run_that_is_paired_with_the_one_it_is_scored_as(
    trained: Path, lgg_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "made")
    store = Store(tmp_path / "made" / "mlruns", None, 0)
    (own,) = records.runs_of_study(store, "tried")
    prepared = prepare(lgg(str(lgg_root)), None, tmp_path / "cache")
    for patient in own.split["val"] + own.split["test"]:
        scans.save(tmp_path / "masks" / f"{patient}.nii.gz", truth(prepared, patient), "RAS")
    said = again(tmp_path / "made", own, f"masks={tmp_path / 'masks'}", "name=rival")
    assert "this test split has now been scored 2 times" in said

    _, rival = records.runs_of_study(store, "tried")
    assert (rival.name, rival.status, rival.params["model"]) == ("rival", "FINISHED", "rival")
    assert rival.metrics["final/test/dice"] == rival.metrics["final/val/dice"] == 1
    assert rival.summary("test")["dice_pooled"] == 1
    assert "ece" not in rival.summary("test")
    assert rival.rows("cohort.csv") == own.rows("cohort.csv")
    assert {row["patient"] for row in rival.patients("test")} == set(own.split["test"])
    with initialize_config_dir(config.CONF, version_base="1.3"):
        cfg = compose("compare", ["study=tried", "test=true", f"output={tmp_path / 'out'}", f"tracking.root={store.root}"])
    found = compare.compare(cfg, store, Console(file=StringIO(), width=200, soft_wrap=True))
    assert found.names == ["model=rival", "model=separable"]


@pytest.mark.slow
def test_a_part_with_masks_of_some_patients_is_refused_and_leaves_no_run(
    trained: Path, lgg_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "made")
    store = Store(tmp_path / "made" / "mlruns", None, 0)
    (own,) = records.runs_of_study(store, "tried")
    prepared = prepare(lgg(str(lgg_root)), None, tmp_path / "cache")
    first, *others = own.split["val"]
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="no mask of a validation or test patient of run"):
        again(tmp_path / "made", own, f"masks={tmp_path / 'masks'}", "name=rival")
    scans.save(tmp_path / "masks" / f"{first}.nii.gz", truth(prepared, first))
    with pytest.raises(DataError, match=f"no mask of the val patients {', '.join(others)}; named PATIENT"):
        again(tmp_path / "made", own, f"masks={tmp_path / 'masks'}", "name=rival")
    for patient in others:
        scans.save(tmp_path / "masks" / f"{patient}.nii.gz", truth(prepared, patient))
    assert len(records.runs_of_study(store, "tried")) == 1
    said = again(tmp_path / "made", own, f"masks={tmp_path / 'masks'}", "name=rival")
    assert "none of the test patients, so they are not scored" in said
