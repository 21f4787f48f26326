"""A split and its data for other tools: the same patients, the same voxels, nobody of the test among those that train."""

import json
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.console import Console

from attnunet import config, export_split
from attnunet.config import objects
from attnunet.data.cache import prepare
from attnunet.data.nnunet import nnunet
from attnunet.data.slices import DataError, Slice
from attnunet.data.split import Subject, manifest
from attnunet.exchange import splits
from attnunet.exchange.nnunet import RawFolder, make_grid, write_volume
from attnunet.inference import masks
from attnunet.tracking import records
from attnunet.tracking.records import RunError
from tests import scans
from tests.conftest import command

NAME = "Dataset500_Lesions"


@pytest.fixture(scope="module")
def patients() -> scans.Patients:
    return scans.draw(number=6)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, patients: scans.Patients) -> Path:
    """The patients as the LGG data set has them."""
    root = tmp_path_factory.mktemp("lgg") / "kaggle_3m"
    scans.write_lgg(root, patients)
    return root


def composed(folder: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        return compose("export_split", [f"tracking.root={folder / 'mlruns'}", f"output={folder / 'out'}", *overrides])


def export(folder: Path, root: Path, *overrides: str) -> str:
    """`attnunet.export_split data=lgg OVERRIDES` into folder/out, in this process; -> what it prints."""
    out = StringIO()
    export_split.export_split(
        composed(folder, "data=lgg", f"data.root={root}", *overrides), Console(file=out, width=200, soft_wrap=True)
    )
    return out.getvalue()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """What is written of a hold-out split, with the spacing that the phantoms are given."""
    folder = tmp_path_factory.mktemp("held_out")
    export(folder, root, "split=patient", "data.spacing=[5.0,0.5,0.75]")
    return folder / "out"


def test_the_test_patients_lie_apart_and_in_no_fold(held_out: Path, patients: scans.Patients) -> None:
    (fold,) = json.loads((held_out / "nnUNet_preprocessed" / NAME / "splits_final.json").read_text())
    lists = yaml.safe_load((held_out / "split.yaml").read_text())
    raw = held_out / "nnUNet_raw" / NAME
    assert fold == {"train": lists["train"], "val": lists["val"]}
    assert sorted(lists["train"] + lists["val"] + lists["test"]) == sorted(patients)
    assert names(raw) == {"dataset.json", "imagesTr", "labelsTr", "imagesTs", "labelsTs"}
    assert names(raw / "labelsTs") == {f"{patient}.nii.gz" for patient in lists["test"]}
    assert names(raw / "labelsTr") == {f"{patient}.nii.gz" for patient in lists["train"] + lists["val"]}
    assert names(raw / "imagesTs") == {f"{patient}_000{channel}.nii.gz" for patient in lists["test"] for channel in range(3)}
    assert json.loads((raw / "dataset.json").read_text()) == {
        "channel_names": {"0": "pre", "1": "flair", "2": "post"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(lists["train"] + lists["val"]),
        "file_ending": ".nii.gz",
    }


def test_volumes_are_of_native_size_and_lie_as_an_independent_reader_says(held_out: Path, patients: scans.Patients) -> None:
    (label,) = (held_out / "nnUNet_raw" / NAME / "labelsTs").iterdir()
    patient = label.name.removesuffix(".nii.gz")
    images, masks = patients[patient]
    for channel in range(3):
        read = SimpleITK.ReadImage(label.parent.parent / "imagesTs" / f"{patient}_{channel:04}.nii.gz")
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(read), images[..., channel])
        assert read.GetSpacing() == (0.75, 0.5, 5.0)
        assert SimpleITK.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(read.GetDirection()) == "LPS"
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(label)), masks)


def test_the_raw_folder_is_read_back_as_the_same_slices(held_out: Path, root: Path, tmp_path: Path) -> None:
    dataset = nnunet(str(held_out / "nnUNet_raw" / NAME))
    there = prepare(dataset, 32, tmp_path)
    own = prepare(objects.make(composed(tmp_path, "data=lgg", f"data.root={root}").data, "data")(), 32, tmp_path)
    for patient, indices in there.patients.items():
        np.testing.assert_array_equal(there.images[indices], own.images[own.patients[patient]])
        assert [there.mask(i).tolist() for i in indices] == [own.mask(i).tolist() for i in own.patients[patient]]
    assert there.spacing_of(0) == (5.0, 0.5, 0.75)


def test_volumes_keep_their_places_in_the_world(patients: scans.Patients, tmp_path: Path) -> None:
    """An independent reader finds the original's values at the places of the written voxels, also in another plane."""
    scans.write_nifti(tmp_path / "in", patients)
    keys = ("data=nifti", f"data.root={tmp_path / 'in'}", "data.channels=[flair]", "data.axis=coronal", "split=patient")
    cfg = composed(tmp_path, *keys)
    export_split.export_split(cfg, Console(file=StringIO()))
    raw = tmp_path / "out" / "nnUNet_raw" / NAME
    written = {path.name.removesuffix("_0000.nii.gz"): path for path in raw.glob("images*/*")}
    assert set(written) == set(patients)
    for name, path in written.items():
        read = SimpleITK.ReadImage(str(path))
        assert read.GetSize() != (28, 28, 5)  # coronal slices are not stored as the original's axial ones
        original = SimpleITK.GetImageFromArray(patients[name][0][..., 1])
        original.SetSpacing(scans.SPACING[::-1])
        there = SimpleITK.Resample(read, original, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0.0)
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(there), patients[name][0][..., 1])
    labels = tmp_path / "out" / "labels"
    labels.mkdir()
    for label in raw.glob("labels*/*"):
        label.rename(labels / label.name)
    dataset = objects.make(cfg.data, "data")()
    prepared = prepare(dataset, None, tmp_path / "cache")
    found, lacking = masks.find_masks(labels, dataset, prepared, range(len(prepared.slices)))
    assert not lacking
    for volume in found.volumes(prepared, range(len(prepared.slices))):
        np.testing.assert_array_equal(volume.probabilities, [prepared.mask(index) for index in volume.indices])


def test_the_datalist_names_files_that_are_there(held_out: Path) -> None:
    lists = yaml.safe_load((held_out / "split.yaml").read_text())
    datalist = json.loads((held_out / "nnUNet_raw" / "datalist.json").read_text())
    assert list(datalist) == ["training", "validation", "test"]
    assert [Path(entry["label"]).name for entry in datalist["test"]] == [f"{patient}.nii.gz" for patient in lists["test"]]
    assert all("fold" not in entry for entries in datalist.values() for entry in entries)
    paths = [path for entries in datalist.values() for entry in entries for path in (*entry["image"], entry["label"])]
    assert len(paths) == 6 * 4
    assert all((held_out / "nnUNet_raw" / path).is_file() for path in paths)


def test_of_folds_each_keeps_its_test_patients_out(tmp_path: Path, root: Path, patients: scans.Patients) -> None:
    export(tmp_path, root, "split=kfold", "split.folds=3")
    raw = tmp_path / "out" / "nnUNet_raw"
    folds = json.loads((tmp_path / "out" / "nnUNet_preprocessed" / NAME / "splits_final.json").read_text())
    assert len(folds) == 3
    assert names(raw / NAME / "labelsTr") == {f"{patient}.nii.gz" for patient in patients}
    tested = []
    for place, fold in enumerate(folds):
        test = sorted(set(patients) - set(fold["train"]) - set(fold["val"]))
        assert len(fold["train"]) + len(fold["val"]) + len(test) == len(patients)
        assert names(raw / NAME / f"labelsTs_fold{place}") == {f"{patient}.nii.gz" for patient in test}
        datalist = json.loads((raw / f"datalist_fold{place}.json").read_text())
        assert {entry["fold"] for entry in datalist["test"]} == {place}
        assert all((raw / path).is_file() for entry in datalist["test"] for path in entry["image"])
        assert yaml.safe_load((tmp_path / "out" / f"split_fold{place}.yaml").read_text())["test"] == test
        tested += test
    assert sorted(tested) == sorted(patients)


@pytest.mark.parametrize("changed", [False, True])
def test_the_run_of_a_fold_gives_all_folds(changed: bool, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is known by what it recorded; of the changed one, that it tested other patients."""
    cfg = composed(tmp_path, "data=lgg", f"data.root={root}", "split=kfold", "split.folds=3", "split.fold=2")
    _, prepared, folds = export_split.divide_data(cfg)
    fold = {**folds[2], "test": folds[2]["test"][:1]} if changed else folds[2]
    slices = {part: [(item.patient, item.number) for item in prepared.slices if item.patient in fold[part]] for part in fold}
    record = SimpleNamespace(
        id="1", name="n", config=cfg, content=prepared.folder.name, slices=slices.get, split={"slices": slices}
    )
    record.check_content = lambda now: records.Record.check_content(record, now)
    monkeypatch.setattr(records, "find_runs", lambda *_: [record])
    monkeypatch.setattr(export_split.commands, "open_runs", lambda _: None)
    if not changed:
        assert export_split.find_run(cfg)[2] == folds
        return
    record.content = "other"
    with pytest.raises(RunError, match=r"run 1 \(n\): its data have changed: now \w+, then other; allowed: the same files"):
        export_split.find_run(cfg)
    record.content = prepared.folder.name
    with pytest.raises(RunError, match=r"run 1 \(n\): split\.fold=2 has other patients now .*; allowed: data="):
        export_split.find_run(cfg)


def test_the_manifest_is_read_back_as_the_same_split(tmp_path: Path) -> None:
    odd = ["010", "1_2", "no", "a: b", "Zoë", "- x", "'q'"]
    subjects = [Subject(name, "", 1, (place,)) for place, name in enumerate(odd)]
    fold = {"train": odd[:4], "val": odd[4:5], "test": odd[5:]}
    (tmp_path / "split.yaml").write_text(splits.write_manifest(fold))
    back = manifest(subjects, str(tmp_path / "split.yaml"))
    assert {part: set(found) for part, found in back.patients.items()} == {part: set(named) for part, named in fold.items()}


def test_a_patient_of_whom_a_part_lacks_slices_is_refused(tmp_path: Path, root: Path) -> None:
    slices = [Slice("a", 1, "", ""), Slice("a", 2, "", ""), Slice("b", 1, "", "")]
    parts = {"train": [("a", 1)], "val": [("a", 2)], "test": [("b", 1)]}
    with pytest.raises(DataError, match="split: train has some slices of a, and lacks others"):
        splits.find_patients(parts, slices)
    with pytest.raises(DataError, match=r"a/1 are scans with a name, .* allowed: one scan of each patient"):
        splits.find_patients(parts, [Slice("a", 1, "", "", scan="1")])
    with pytest.raises(DataError, match="lacks others; other tools divide whole patients"):
        export(tmp_path, root, "split=slice")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a/b", ".a", "a\\b", "a\n"])
def test_a_patient_whose_name_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="is no name for a file; rename it"):
        RawFolder(NAME, [{"train": [name], "val": ["b"], "test": ["c"]}], channels=1)


def test_without_spacing_a_voxel_is_one_millimetre_and_the_user_is_told(tmp_path: Path, root: Path) -> None:
    said = export(tmp_path, root, "split=patient", "dataset=Dataset042_Own")
    assert "the spacing is not known, so voxels measure 1 mm there: give data.spacing" in said
    first = next((tmp_path / "out" / "nnUNet_raw" / "Dataset042_Own" / "labelsTr").iterdir())
    assert nibabel.load(first).header.get_zooms() == (1, 1, 1)


def test_values_of_64_bits_become_float32(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 3, 4) * 1000
    write_volume(tmp_path / "v.nii.gz", values, make_grid(values.shape, None, "axial"))
    image = nibabel.load(tmp_path / "v.nii.gz")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), values.transpose())


@pytest.mark.parametrize(("plane", "axes"), [("axial", "LPS"), ("coronal", "LIP"), ("sagittal", "PIL")])
def test_the_axes_of_a_file_run_as_its_plane_is_seen(plane: str, axes: str) -> None:
    grid = make_grid((2, 3, 4), (5.0, 0.5, 0.75), plane)
    assert "".join(nibabel.aff2axcodes(grid.affine)) == axes
    assert grid.shape == (4, 3, 2)
    assert grid.spacing(plane) == (5.0, 0.5, 0.75)


def test_the_command_leaves_a_folder_that_is_there_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "exports" / NAME).mkdir(parents=True)
    result = command("data=phantom", "split=patient", cwd=tmp_path, name="export_split", python=("-X", "importtime"))
    assert result.returncode == 1
    assert f"output=exports/{NAME}: exists; give a folder that does not" in result.stderr
    assert "tensorflow" not in result.stderr
    assert not list((tmp_path / "exports" / NAME).iterdir())


@pytest.mark.slow
def test_the_split_of_a_run_is_the_one_that_it_recorded(trained: Path, lgg_root: Path, tmp_path: Path) -> None:
    store = trained / "mlruns"
    (recorded,) = (json.loads(path.read_text()) for path in (store / "artifacts").rglob("split.json"))
    (run,) = (path.parent.parent.name for path in (store / "artifacts").rglob("split.json"))
    result = command(f"run={run}", f"tracking.root={store}", cwd=tmp_path, name="export_split")
    assert result.returncode == 0, result.stderr
    lists = yaml.safe_load((tmp_path / "exports" / NAME / "split.yaml").read_text())
    assert lists == {part: recorded[part] for part in ("train", "val", "test")}
