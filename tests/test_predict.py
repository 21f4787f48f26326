"""New images through the command."""

import shutil
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from omegaconf import OmegaConf
from rich.console import Console

from attnunet import predict
from attnunet.data.images import read_image
from attnunet.data.slices import DataError
from attnunet.evaluation import scoring
from attnunet.inference.predictor import Predictor
from attnunet.tracking import records
from attnunet.tracking.store import Store
from tests import scans
from tests.conftest import command

pytestmark = pytest.mark.slow  # on a run of their own


@pytest.fixture(scope="module")
def store(trained: Path) -> Store:
    return Store(trained / "mlruns", None, 0)


@pytest.fixture(scope="module")
def run_id(store: Store) -> str:
    (run,) = records.runs_of_study(store, "tried")
    return run.id


@pytest.fixture(scope="module")
def predictor(store: Store, run_id: str) -> Predictor:
    return scoring.load_predictor(*records.find_runs(store, [run_id]))


def segment(store: Store, run_id: str, **keys: object) -> str:
    """`attnunet.predict` in this process; -> what it prints."""
    out = StringIO()
    cfg = OmegaConf.create({"run": run_id, "probabilities": False, "overwrite": False, **keys})
    console = Console(file=out, width=200, soft_wrap=True)
    predict.predict(cfg, predict.find_inputs(cfg, console), records.find_checkpoint(store, run_id), console)
    return out.getvalue()


def test_the_command_writes_a_mask_beside_each_slice_of_each_patient(
    trained: Path, run_id: str, predictor: Predictor, lgg_root: Path, tmp_path: Path
) -> None:
    keys = (f'run="{run_id[:8]}"', f"input={lgg_root}", f"output={tmp_path / 'masks'}", "probabilities=true")
    result = command(*keys, cwd=trained, name="predict")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "_mask.tif" in result.stdout
    images = [path for path in lgg_root.rglob("*.tif") if not path.stem.endswith("_mask")]
    written = {path.relative_to(tmp_path / "masks") for path in (tmp_path / "masks").rglob("*.tif")}
    masks = {path.relative_to(lgg_root) for path in images}
    assert written == masks | {path.with_name(f"{path.stem}_probability.tif") for path in masks}

    folder = sorted(lgg_root.iterdir())[0]
    names = [f"{folder.name}_{number}" for number in range(1, 7)]
    volume = np.stack([read_image(str(folder / f"{name}.tif"), 3) for name in names])
    place = tmp_path / "masks" / folder.name
    for name, mask, probability in zip(names, predictor.segment(volume), predictor.probabilities_of(volume), strict=True):
        np.testing.assert_array_equal(cv2.imread(str(place / f"{name}.tif"), cv2.IMREAD_UNCHANGED), mask * 255)
        found = cv2.imread(str(place / f"{name}_probability.tif"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(found, probability, atol=1e-5)


def test_files_that_are_there_are_kept_unless_told(store: Store, run_id: str, lgg_root: Path, tmp_path: Path) -> None:
    image = min(lgg_root.rglob("*_1.tif"))
    (tmp_path / image.name).write_text("mine")
    with pytest.raises(DataError, match=f"{image.name} exists; overwrite=true"):
        segment(store, run_id, input=str(image), output=str(tmp_path))
    assert (tmp_path / image.name).read_text() == "mine"
    segment(store, run_id, input=str(image), output=str(tmp_path), overwrite=True)
    assert cv2.imread(str(tmp_path / image.name), cv2.IMREAD_UNCHANGED).shape == (32, 32)


def test_an_image_of_the_input_is_never_overwritten(store: Store, run_id: str, lgg_root: Path, tmp_path: Path) -> None:
    image = min(lgg_root.rglob("*_1.tif"))
    shutil.copy(image, tmp_path)
    for where, message in ((tmp_path / image.name, "is an image of the input"), (tmp_path, "lies in the input")):
        with pytest.raises(DataError, match=f"{message}.*; give another folder"):
            segment(store, run_id, input=str(where), output=str(tmp_path), overwrite=True)
    with pytest.raises(DataError, match="lies in the input"):
        segment(store, run_id, input=str(tmp_path), output=str(tmp_path / "masks"))
    assert (tmp_path / image.name).read_bytes() == image.read_bytes()
    assert len(list(tmp_path.iterdir())) == 1


def test_two_images_of_one_mask_are_refused(store: Store, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a_probability.tif"):
        cv2.imwrite(str(tmp_path / "in" / name), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"two images of the input would be written to .*a_probability\.tif"):
        segment(store, run_id, input=str(tmp_path / "in"), output=str(tmp_path / "out"), probabilities=True)
    cv2.imwrite(str(tmp_path / "in" / "a.jpg"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: has the number of a\.jpg"):
        segment(store, run_id, input=str(tmp_path / "in"), output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_numpy_volume_is_segmented(store: Store, run_id: str, predictor: Predictor, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "v.npy", volume)
    said = segment(store, run_id, input=str(tmp_path / "v.npy"), output=str(tmp_path / "out"))
    mask = np.load(tmp_path / "out" / "v.npy")
    np.testing.assert_array_equal(mask, predictor.segment(volume))
    assert f"3 slices, {mask.sum()} lesion voxels" in said


def test_sequences_in_nifti_are_segmented_as_the_same_slices_are(
    store: Store, run_id: str, predictor: Predictor, tmp_path: Path
) -> None:
    """Of float32, in four orientations; where each mask lies in the world, SimpleITK says."""
    patients = scans.draw()
    scans.write_nifti(tmp_path / "in", patients)
    segment(store, run_id, input=str(tmp_path / "in"), output=str(tmp_path / "out"), probabilities=True)
    for name, (images, _) in patients.items():
        first = sitk.ReadImage(str(tmp_path / "in" / name / f"{name}_pre.nii.gz"))
        probabilities = predictor.probabilities_of(images)
        assert probabilities.std() > 0
        for ending, expected in (("", predictor.decision(probabilities)), ("_probability", probabilities)):
            found = sitk.ReadImage(str(tmp_path / "out" / name / f"{name}{ending}.nii.gz"))
            for place in ("GetOrigin", "GetSpacing", "GetDirection"):
                assert getattr(found, place)() == getattr(first, place)()
            np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(found, "LPS")), expected)


def test_a_file_that_cannot_be_read_stops_no_other(
    store: Store, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for name in "abcd":
        np.save(tmp_path / "in" / f"{name}.npy", volume)
    cut = tmp_path / "in" / "b.npy"
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path / "in" / "c.npy").write_text("no array")
    with pytest.raises(DataError, match="2 of 4 volumes cannot be read"):
        segment(store, run_id, input=str(tmp_path / "in"), output=str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npy", "d.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a.npy"), np.load(tmp_path / "out" / "d.npy"))
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" cannot be read")[0] for line in said] == [
        f"attnunet: {tmp_path / 'in' / name}:" for name in ("b.npy", "c.npy")
    ]


def test_any_name_is_printed_whatever_the_terminal(trained: Path, run_id: str, lgg_root: Path, tmp_path: Path) -> None:
    image, source = min(lgg_root.rglob("*_1.tif")), tmp_path / "in"
    for name in ("1/a=b,[c] (1).tif", "2/[/b] é.tif", "3/:smile: 张.tif"):
        (source / name).parent.mkdir(parents=True)
        shutil.copy(image, source / name)
    keys = (f'run="{run_id[:8]}"', f"input={source}", f"output={tmp_path / 'out'}")
    result = command(*keys, cwd=trained, name="predict", environment={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0, result.stderr
    for name in ("1/a=b,[c] (1).tif", r"2/[/b] \xe9.tif", r"3/:smile: \u5f20.tif"):
        assert f"{source}/{name}: 1 slices" in result.stdout
    assert len(list((tmp_path / "out").rglob("*.tif"))) == 3


LOOKED_UP = {
    ("predict", "run=nobody", "input=mlruns/mlflow.db", "output=masks"): "nothing to segment there",
    ("predict", "run=nobody", "input={image}", "output=masks"): "run=nobody: 0 runs of",
    ("export", "run=nobody"): "run=nobody: 0 runs of",
    ("evaluate", "run=nobody"): "run=nobody: 0 runs of",
    ("evaluate", "study=nothing"): "study=nothing: not in",
}


@pytest.mark.parametrize("arguments", LOOKED_UP, ids=" ".join)
def test_a_run_that_is_not_there_is_said_before_tensorflow_is_loaded(
    arguments: tuple[str, ...], trained: Path, lgg_root: Path
) -> None:
    name, *keys = (argument.format(image=min(lgg_root.rglob("*_1.tif"))) for argument in arguments)
    result = command(*keys, cwd=trained, python=("-X", "importtime"), name=name)
    *imports, said = result.stderr.splitlines()
    assert result.returncode == 1
    assert said.startswith("attnunet: ")
    assert LOOKED_UP[arguments] in said
    assert all(line.startswith("import time:") and line.split()[-1] != "tensorflow" for line in imports)
    assert not (trained / "masks").exists()
