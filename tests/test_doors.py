"""One scan of a real patient gets one mask, whichever way a user takes to it.

The ways are `attnunet.predict` on TIFF, NIfTI and DICOM, the server, the exported script, the page and the notebook.
"""

import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import NamedTuple

import cv2
import keras
import numpy as np
import pytest
import SimpleITK as sitk

from attnunet import notebook
from attnunet.inference.export import export_predictor
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.inference.served import encode
from attnunet.metrics.decision import Decision
from attnunet.models.attention_resunet import attention_resunet
from attnunet.page import scans as page
from attnunet.tracking import records, registry
from attnunet.tracking.run import open_run
from attnunet.tracking.store import Store
from tests import scans
from tests.conftest import command
from tests.serving import free_port, serving
from tests.test_sample_layouts import of_segmentation, open_patients, read_patients, resampled
from tests.test_served import decoded
from tests.test_serving import ask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # mlflow.types: importing its own chat schemas, MLflow warns of the type hints in them.
    pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning"),
]
BEST = "models:/attnunet@best"
Masks = Mapping[str, np.ndarray]
"""The mask of each patient: uint8 (slices, rows, columns) of 0 and 1, in the order of the TIFF slices."""


def write_forms(root: Path, sample: Path, names: Sequence[str]) -> scans.Patients:
    """Write each patient as TIFF, NIfTI and DICOM into folders named lgg, nifti and dicom. Return the arrays."""
    patients = read_patients(sample, names)
    for name in names:
        copytree(sample / name, root / "lgg" / name, ignore=ignore_patterns("*_mask.tif"))
    scans.write_nifti(root / "nifti", patients)
    scans.write_dicom(root / "dicom", patients)
    return patients


def predict(store: Path, run: str, root: Path, form: str) -> None:
    keys = (f"run={run}", f"tracking.root={store}", f"input={root / form}", f"output={root / 'masks' / form}")
    result = command(*keys, cwd=root, name="predict")
    assert result.returncode == 0, result.stderr


def read_slices(folder: Path, name: str) -> np.ndarray:
    """Return the mask in the images of a folder: NAME_1.tif, NAME_2.tif and so on."""
    count = len(list(folder.glob("*.tif")))
    return np.stack([cv2.imread(str(folder / f"{name}_{n}.tif"), cv2.IMREAD_UNCHANGED) for n in range(1, count + 1)]) // 255


def by_predict(root: Path, form: str, name: str, expected: np.ndarray) -> np.ndarray:
    """Return the mask that `attnunet.predict` wrote, on the voxels of the TIFF slices, which have the places of `scans`."""
    reference = sitk.GetImageFromArray(expected)
    reference.SetSpacing(scans.SPACING[::-1])
    folder = root / "masks" / form / name
    if form == "dicom":
        return of_segmentation(folder / "mask.dcm", reference)
    return resampled(folder / f"{name}.nii.gz", reference)


def by_server(address: str, volume: np.ndarray) -> np.ndarray:
    status, answer = ask(f"{address}/invocations", {"inputs": encode(volume)})
    assert status == 200, answer
    return decoded(answer)


def by_script(bundle: Path, root: Path, name: str) -> np.ndarray:
    output = root / bundle.name / name
    subprocess.run([sys.executable, bundle / "predict.py", root / "lgg" / name, output], check=True)
    return read_slices(output, name)


def by_page(predictor: page.Network, folder: Path, written: Path) -> np.ndarray:
    """Return the mask on the page. Its download holds the files that `attnunet.predict` wrote; a DICOM SEG has a new UID."""
    files = {f"{folder.name}/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (scan,), _ = page.list_scans(files, predictor)
    mask = predictor.decision(page.segment(files, 0, predictor).probabilities)
    data = page.write_mask(files, 0, predictor, mask)
    if scan.download.endswith(".zip"):
        with zipfile.ZipFile(BytesIO(data)) as archive:
            found = {path.name: archive.read(name) for name in archive.namelist() if (path := Path(name))}
        assert found == {path.name: path.read_bytes() for path in written.iterdir()}
    elif not scan.download.endswith(".dcm"):
        assert data == (written / scan.download).read_bytes()
    return mask


class Place(NamedTuple):
    """A folder with two patients in each form, and with the store of a registered network.

    Attributes:
        volumes: the numbers of each patient (slices, rows, columns, sequences), as the TIFF files hold them.
        expected: the masks that `attnunet.predict` makes of the TIFF slices.
    """

    root: Path
    predictor: Predictor
    volumes: Masks
    expected: Masks


def choose_threshold(probabilities: np.ndarray) -> float:
    """Return the threshold that is farthest from every probability, of those that mark between 1 and 20 % of the voxels.

    Runtimes differ in the last bits of a logit, which move no voxel across such a threshold.
    """
    ordered = np.sort(probabilities, axis=None)[int(0.8 * probabilities.size) : int(0.99 * probabilities.size)].astype(float)
    widest = int(np.diff(ordered).argmax())
    return float(ordered[widest : widest + 2].mean())


@pytest.fixture(scope="module")
def place(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("doors")
    volumes = {name: images for name, (images, _) in write_forms(root, sample, open_patients(sample)[1::30]).items()}
    keras.utils.set_random_seed(0)
    network = attention_resunet(64, 3, [4, 8], keras.layers.SeparableConv2D)  # type: ignore[arg-type]
    predictor = Predictor(network, Preparation(64, scans.SEQUENCES, scans.SEQUENCES, "zscore"), flip=True)
    probabilities = np.concatenate([predictor.probabilities_of(volume) for volume in volumes.values()])
    predictor = replace(predictor, decision=Decision(choose_threshold(probabilities), 5, True))
    store = Store(root / "mlruns", None, 0)
    with open_run(store, store.study("doors"), "a run", {}, {}) as run:
        run.predictor(predictor)
    registry.register(*records.find_runs(store, [run.id]), "# A card")
    predict(store.root, BEST, root, "lgg")
    expected = {name: read_slices(root / "masks" / "lgg" / name, name) for name in volumes}
    assert all(0 < mask.mean() < 0.5 for mask in expected.values())
    return Place(root, predictor, volumes, expected)


@pytest.mark.parametrize("form", ["nifti", "dicom"])
def test_predict_the_page_and_the_notebook_make_it_of_other_files(form: str, place: Place) -> None:
    predict(place.root / "mlruns", BEST, place.root, form)
    for name, expected in place.expected.items():
        np.testing.assert_array_equal(by_predict(place.root, form, name, expected), expected)
        for found in (
            by_page(place.predictor, place.root / form / name, place.root / "masks" / form / name),
            notebook.segment(place.predictor, place.root / form / name).mask,
        ):
            np.testing.assert_array_equal(found, expected)


def test_the_page_and_the_notebook_make_it_of_slices(place: Place) -> None:
    for name, expected in place.expected.items():
        slices = place.root / "lgg" / name
        np.testing.assert_array_equal(by_page(place.predictor, slices, place.root / "masks" / "lgg" / name), expected)
        np.testing.assert_array_equal(notebook.segment(place.predictor, slices).mask, expected)
        np.testing.assert_array_equal(notebook.segment(place.predictor, place.volumes[name]).mask, expected)


def test_the_server_makes_it(place: Place) -> None:
    port = free_port()
    serve = ["-m", "mlflow", "models", "serve", "--model-uri", BEST, "--env-manager", "local", "--port", str(port)]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{place.root}/mlruns/mlflow.db"}
    with serving([sys.executable, *serve], port, place.root / "server.log", store) as address:
        for name, expected in place.expected.items():
            np.testing.assert_array_equal(by_server(address, place.volumes[name]), expected)


@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_the_exported_script_makes_it(form: str, place: Place) -> None:
    bundle = place.root / f"bundle-{form}"
    images = place.predictor.preparation(next(iter(place.volumes.values())))
    export_predictor(place.predictor, form, bundle, images)
    for name, expected in place.expected.items():
        np.testing.assert_array_equal(by_script(bundle, place.root, name), expected)
