"""New images through the command, and the network in other runtimes."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from attnunet.config import format_override
from attnunet.data.cache import prepare
from attnunet.data.files import read_csv
from attnunet.data.images import read_image
from attnunet.data.table import table
from attnunet.evaluation import scoring
from attnunet.inference.formats import FORMATS
from attnunet.inference.predictor import Predictor
from attnunet.tracking import records
from attnunet.tracking.store import Store
from tests import scans
from tests.conftest import ROUNDING, command
from tests.test_export import convert

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


def test_the_command_writes_a_mask_beside_each_slice_of_each_patient(
    trained: Path, run_id: str, predictor: Predictor, lgg_root: Path, tmp_path: Path
) -> None:
    keys = (f'run="{run_id[:8]}"', f"input={lgg_root}", f"output={tmp_path / 'masks'}", "probabilities=true")
    result = command(*keys, "overlays=worst", "uncertainty=true", "flip=true", cwd=trained, name="predict")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "left out: 72 file(s) that match ignore, such as TCGA_CS_4000_20000101_1_mask.tif" in result.stdout
    assert f"attnunet.evaluate {format_override('run', run_id[:8])} data=lgg data.root={lgg_root} part=all" in result.stdout
    images = [path for path in lgg_root.rglob("*.tif") if not path.stem.endswith("_mask")]
    written = {path.relative_to(tmp_path / "masks") for path in (tmp_path / "masks").rglob("*.tif")}
    masks = {path.relative_to(lgg_root) for path in images}
    assert written == masks | {
        path.with_name(f"{path.stem}_{name}.tif") for path in masks for name in ("probability", "uncertainty")
    }
    assert len(list((tmp_path / "masks" / "overlays").glob("*.png"))) == 10
    assert len((tmp_path / "masks" / "cases.csv").read_text().splitlines()) == 13

    folder = sorted(lgg_root.iterdir())[0]
    names = [f"{folder.name}_{number}" for number in range(1, 7)]
    volume = np.stack([read_image(str(folder / f"{name}.tif"), 3) for name in names])
    place = tmp_path / "masks" / folder.name
    found = predictor.adjusted(flip=True).predict_one(volume, uncertainty=True)
    for place_, name in enumerate(names):
        np.testing.assert_array_equal(cv2.imread(str(place / f"{name}.tif"), cv2.IMREAD_UNCHANGED), found.mask[place_] * 255)
        for ending, values in (("probability", found.probabilities), ("uncertainty", found.uncertainty)):
            written_values = cv2.imread(str(place / f"{name}_{ending}.tif"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_allclose(written_values, values[place_], atol=1e-5)


def test_sequences_in_nifti_are_segmented_as_the_same_slices_are(
    trained: Path, run_id: str, predictor: Predictor, tmp_path: Path
) -> None:
    """Of float32, in four orientations; where each mask lies in the world, SimpleITK says."""
    patients = scans.draw()
    scans.write_nifti(tmp_path / "in", patients)
    keys = (f'run="{run_id[:8]}"', f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", "probabilities=true")
    result = command(*keys, cwd=trained, name="predict")
    assert result.returncode == 0, result.stderr
    for name, (images, _) in patients.items():
        first = sitk.ReadImage(str(tmp_path / "in" / name / f"{name}_pre.nii.gz"))
        probabilities = predictor.probabilities_of(images)
        assert probabilities.std() > 0
        for ending, expected in (("", predictor.decision(probabilities)), ("_probability", probabilities)):
            found = sitk.ReadImage(str(tmp_path / "out" / name / f"{name}{ending}.nii.gz"))
            for place in ("GetOrigin", "GetSpacing", "GetDirection"):
                assert getattr(found, place)() == getattr(first, place)()
            turned = sitk.GetArrayFromImage(sitk.DICOMOrient(found, "LPS")).astype(float)
            np.testing.assert_allclose(turned, expected, rtol=0, atol=ROUNDING)


@pytest.mark.timeout(600)
def test_a_start_that_is_killed_leaves_no_half_mask_and_is_completed(
    trained: Path, run_id: str, predictor: Predictor, tmp_path: Path
) -> None:
    volume = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for number in range(200):
        np.save(tmp_path / "in" / f"{number}.npy", volume)
    keys = ("-m", "attnunet.predict", f'run="{run_id[:8]}"', f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}")
    started = subprocess.Popen([sys.executable, *keys], cwd=trained, stdout=subprocess.DEVNULL)
    while len(list(tmp_path.glob("out/[0-9]*.npy"))) < 5:
        assert started.poll() is None
        time.sleep(0.01)
    started.kill()
    started.wait()
    there = list(tmp_path.glob("out/[0-9]*.npy"))
    assert len(there) < 200
    for path in there:
        np.testing.assert_array_equal(np.load(path), predictor.segment(volume))
    before = {path: path.stat().st_mtime_ns for path in there}
    result = command(*keys[2:], "existing=skip", cwd=trained, name="predict")
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("out/[0-9]*.npy"))) == 200
    assert {path: path.stat().st_mtime_ns for path in there} == before
    rows = read_csv((tmp_path / "out" / "cases.csv").read_text())
    assert {(row["status"], row["lesion_voxels"]) for row in rows} == {("done", rows[0]["lesion_voxels"])}
    assert len(rows) == 200


def test_any_name_is_printed_whatever_the_terminal(trained: Path, run_id: str, lgg_root: Path, tmp_path: Path) -> None:
    image, source = min(lgg_root.rglob("*_1.tif")), tmp_path / "in"
    for name in ("1/a=b,[c] (1).tif", "2/[/b] é.tif", "3/:smile: 张.tif"):
        (source / name).parent.mkdir(parents=True)
        shutil.copy(image, source / name)
        (source / f"{name}.npy").write_text("no array")
    keys = (f'run="{run_id[:8]}"', f"input={source}", f"output={tmp_path / 'out'}")
    result = command(*keys, cwd=trained, name="predict", environment={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 1, result.stderr
    for name in ("1/a=b,[c] (1).tif", r"2/[/b] \xe9.tif", r"3/:smile: \u5f20.tif"):
        assert f"{source}/{name}.npy: cannot be read" in result.stderr
    assert len(list((tmp_path / "out").rglob("*.tif"))) == 3


def test_16_bit_slices_of_odd_names_train_and_predict_by_the_same_values(tmp_path: Path) -> None:
    """Grey PNG slices in folders of patients; the printed and the predicted patients are those of the table."""
    rows = ["patient,image,mask"]
    for name, (images, masks) in scans.draw(12, slices=4).items():
        folder = tmp_path / "in [1]" / f"{name} Zo\u00eb"
        (folder / "masks").mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(images[..., 1], masks, strict=True)):
            cv2.imwrite(str(folder / f"{number}.PNG"), image.astype(np.uint16) * 201 + 3000)
            cv2.imwrite(str(folder / "masks" / f"{number}.PNG"), mask * np.uint16(65535))
            rows.append(f"{name},{folder.name}/{number}.PNG,{folder.name}/masks/{number}.PNG")
    (tmp_path / "in [1]" / "my table.csv").write_text("\n".join(rows))
    data = ("data=table", "data.file='in [1]/my table.csv'", "data.file_channels=[grey]")
    result = command("trainer=smoke", "evaluation.batch_size=4", "image_type=float16", "study=deep", *data, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    store = Store(tmp_path / "mlruns", None, 0)
    (run,) = records.runs_of_study(store, "deep")
    predictor = scoring.load_predictor(*records.find_runs(store, [run.id]))
    assert (predictor.preparation.dtype, predictor.preparation.image_type) == ("float32", "float16")

    keys = (f'run="{run.id}"', f"input='{folder}'", "output=out", "probabilities=true")
    assert command(*keys, cwd=tmp_path, name="predict").returncode == 0
    dataset = table(str(tmp_path / "in [1]" / "my table.csv"), ["grey"])
    prepared = prepare(dataset, predictor.preparation.image_size, tmp_path / "cache", "float16")
    for number, expected in enumerate(predictor.probabilities(prepared, prepared.patients[name])):
        found = cv2.imread(str(tmp_path / "out" / f"{number}_probability.tif"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        mask = cv2.imread(str(tmp_path / "out" / f"{number}.PNG"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8
    for form in FORMATS:  # each refuses a file that answers otherwise than the network
        convert(store, run.id, form, tmp_path / form)


LOOKED_UP = {
    ("predict", "run=abcdef", "input=mlruns/mlflow.db", "output=masks"): "nothing to segment there",
    ("predict", "run=abcdef", "input={image}", "output=masks"): "run=abcdef: no run with such an id in",
    ("export", "run=abcdef"): "run=abcdef: no run with such an id in",
    ("evaluate", "run=nobody"): "run=nobody: no run with such an id, which has 32 digits from 0 to f",
    ("evaluate", "study=nothing"): "study=nothing: not in",
}


@pytest.mark.parametrize("arguments", LOOKED_UP, ids=" ".join)
def test_a_run_that_is_not_there_is_said_before_tensorflow_is_loaded(
    arguments: tuple[str, ...], trained: Path, lgg_root: Path
) -> None:
    name, *keys = (argument.format(image=min(lgg_root.rglob("*_1.tif"))) for argument in arguments)
    result = command(*keys, cwd=trained, python=("-X", "importtime"), name=name)
    *imports, said = result.stderr.splitlines()
    assert result.returncode == (2 if name == "predict" else 1)
    assert said.startswith("attnunet: ")
    assert LOOKED_UP[arguments] in said
    assert all(line.startswith("import time:") and line.split()[-1] != "tensorflow" for line in imports)
    assert not (trained / "masks").exists()
