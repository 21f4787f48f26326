"""The functions for a notebook, and the notebook of the docs."""

import base64
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import keras
import nbformat
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from nbclient import NotebookClient

from attnunet import notebook
from attnunet.data.images import read_image
from attnunet.data.slices import DataError
from attnunet.errors import UserError
from attnunet.figures.style import PREDICTION, TRUTH
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.metrics.decision import Decision
from attnunet.models.attention_resunet import attention_resunet
from attnunet.tracking.records import NotFound
from attnunet.tracking.store import Store
from tests.conftest import REPO, write_patient
from tests.test_config import composed, hydra  # noqa: F401 - a fixture

NOTEBOOK = REPO / "docs" / "guides" / "notebook.ipynb"


# Starting a run.


def test_the_import_is_light() -> None:
    code = "import sys; from attnunet import notebook; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "attnunet.notebook" in modules
    assert not {"tensorflow", "keras", "mlflow", "numpy", "pandas", "matplotlib"} & set(modules)


def test_a_configuration_is_the_one_of_the_command_line() -> None:
    overrides = ("model=conv", "loss=dice", "optimizer.learning_rate=0.01")
    cfg, choices = notebook.compose(overrides)
    assert cfg == composed(*overrides)
    assert "hydra" not in cfg
    assert (choices["model"], choices["loss"], choices["data"]) == ("conv", "dice", "phantom")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("foo=1", "foo: unknown key; allowed: augment, batch_size,"),
        ("loss=foo", "loss=foo: no such choice; allowed: bce_dice, dice"),
        ("epochs=ten", "epochs=ten: Input should be a valid integer"),
        ("seed=0,1", "seed=0,1: allowed: one value"),
        ("-m", "-m: cannot be read; write key=value"),
        ("data=lgg", "data=lgg needs data.root"),
        ("hydra/launcher=joblib", "'hydra/launcher=joblib': allowed: texts such as 'seed=1', except for keys that begin with"),
        ("+hydra.callbacks.x=1", "'+hydra.callbacks.x=1': allowed: texts such as 'seed=1'"),
        (["seed=0"], "['seed=0']: allowed: texts such as 'seed=1'"),
        (1, "1: allowed: texts such as 'seed=1'"),
    ],
)
def test_a_run_that_cannot_start_is_refused_and_leaves_nothing(
    override: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        notebook.train(override)
    assert message in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (0, "TensorFlow was started in this process before attnunet could set it up, and the run needs 2: restart the kernel"),
        (4, "TensorFlow was started in this process with 4 threads, and the run needs 2: restart the kernel"),
    ],
)
def test_a_run_is_refused_where_tensorflow_has_other_settings(
    found: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow_with(found))
    with pytest.raises(UserError, match=message):
        notebook.check_process(2)


def test_a_run_can_start_before_tensorflow_and_after_a_run_with_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow_with(2))
    notebook.check_process(2)
    monkeypatch.delitem(sys.modules, "tensorflow")
    notebook.check_process(2)


def tensorflow_with(threads: int) -> ModuleType:
    """A stand-in for TensorFlow that was told to use this number of threads; 0 if it was told nothing."""
    module = ModuleType("tensorflow")
    module.config = SimpleNamespace(threading=SimpleNamespace(get_intra_op_parallelism_threads=lambda: threads))  # type: ignore[attr-defined]
    return module


# Looking at runs.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two runs of the study "tried", one of the study "other", and the parent run of a sweep."""
    store = Store(tmp_path_factory.mktemp("notebook") / "mlruns", None, patience=0)
    client = store.client
    for study, loss, dice in (("tried", "dice", 0.5), ("tried", "focal", 0.75), ("other", "dice", None)):
        run = client.create_run(store.study(study), tags={"leaking": "true"} if loss == "focal" else {}, run_name=loss)
        client.log_param(run.info.run_id, "loss", loss)
        if dice is not None:
            client.log_metric(run.info.run_id, "final/val/dice", dice)
        client.set_terminated(run.info.run_id, "FINISHED" if dice else "FAILED")
    client.create_run(store.study("tried"), tags={"sweep": "abc"}, run_name="parent")
    return store


def test_runs_are_a_data_frame_with_settings_and_metrics(store: Store) -> None:
    runs = notebook.list_runs(notebook.open_store(store.root), "tried")
    assert list(runs.index) == [run.info.run_id for run in reversed(store.runs(store.study("tried"), "params.loss != ''"))]
    assert list(runs["name"]) == list(runs["loss"]) == ["dice", "focal"]
    assert list(runs["final/val/dice"]) == [0.5, 0.75]
    assert list(runs["leaking"]) == [False, True]
    assert set(runs["status"]) == {"FINISHED"}
    assert runs["started"].is_monotonic_increasing


def test_without_a_study_the_runs_of_all_studies_are_listed(store: Store) -> None:
    runs = notebook.list_runs(store)
    assert list(runs["status"]) == ["FINISHED", "FINISHED", "FAILED"]
    assert runs["final/val/dice"].isna().tolist() == [False, False, True]


def test_a_store_or_study_or_run_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"root=.*none: no runs there \(.*none/mlflow.db does not exist\); allowed: the mlruns"
    ):
        notebook.open_store(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(NotFound, match=r"study=unseen: not in .*; allowed: Default, other, tried"):
        notebook.list_runs(store, "unseen")
    with pytest.raises(NotFound, match="run=zzz: no run with such an id"):
        notebook.load_predictor("zzz", store)
    failed = notebook.list_runs(store, "other").index[0]
    with pytest.raises(NotFound, match="is FAILED; only a finished run has a best checkpoint"):
        notebook.load_predictor(failed, store)


# Prediction.

SIZE = 16


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A tiny network with random weights, and the threshold in the middle of its probabilities."""
    network = attention_resunet(SIZE, 3, [4, 8], keras.layers.Conv2D)
    rng = np.random.default_rng(0)
    network.set_weights(
        [rng.uniform(0.1, 0.6, w.shape) * (w.ndim < 2 or rng.choice([-1, 1], w.shape)) for w in network.get_weights()]
    )
    channels = ("pre", "flair", "post")
    predictor = Predictor(network, Preparation(SIZE, channels, channels, "zscore"), batch_size=4)
    return replace(predictor, decision=Decision(float(np.median(predictor.probabilities_of(scan())))))


def scan(slices: int = 3) -> Any:
    return np.random.default_rng(1).integers(0, 4000, (slices, 20, 24, 3), dtype=np.uint16)


def test_an_array_and_its_file_get_the_same_mask(predictor: Predictor, tmp_path: Path) -> None:
    found = notebook.segment(predictor, scan())
    np.save(tmp_path / "scan.npy", scan())
    assert found.mask.shape == found.image.shape == (3, 20, 24)
    assert found.mask.dtype == np.uint8
    assert set(np.unique(found.mask)) == {0, 1}
    np.testing.assert_array_equal(found.mask, predictor.segment(scan()))
    np.testing.assert_array_equal(found.mask, predictor.decision(found.probabilities))
    for path in (tmp_path / "scan.npy", str(tmp_path / "scan.npy"), tmp_path):
        np.testing.assert_array_equal(notebook.segment(predictor, path).mask, found.mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_predictor_is_loaded_from_a_folder_without_a_store(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predictor.save(tmp_path / "model")
    for folder in ("model", Path("model")):
        loaded = notebook.load_predictor(folder)
        np.testing.assert_array_equal(notebook.segment(loaded, scan()).mask, predictor.segment(scan()))
    (tmp_path / "model" / "best.keras").unlink()
    with pytest.raises(NotFound, match=r"run=model: the folder lacks best.keras; allowed: the id of a run"):
        notebook.load_predictor("model")
    with pytest.raises(UserError, match="root=mlruns: no runs there"):
        notebook.load_predictor("abc")


def test_a_folder_of_slices_is_one_scan_without_its_masks(predictor: Predictor, tmp_path: Path) -> None:
    folder = write_patient(tmp_path, "TCGA_CS_4000_20000101", slices=4, size=20)
    volume = np.stack([read_image(str(folder / f"{folder.name}_{number}.tif"), 3) for number in range(1, 5)])
    found = notebook.segment(predictor, folder)
    np.testing.assert_array_equal(found.mask, predictor.segment(volume))
    np.testing.assert_array_equal(found.image, volume[..., 1])


def test_the_image_to_draw_is_the_flair_sequence(predictor: Predictor) -> None:
    np.testing.assert_array_equal(notebook.segment(predictor, scan()).image, scan()[..., 1])


@pytest.mark.parametrize(
    ("numbers", "spacing", "message"),
    [
        (scan()[..., 0], None, r"scan: slices, height, width, channels are \(3, 20, 24\); 3 channel\(s\) are needed"),
        (scan()[..., :2], None, r"channels are \(3, 20, 24, 2\); 3 channel\(s\) are needed"),
        (scan()[:0], None, r"channels are \(0, 20, 24, 3\)"),
        (scan() * np.nan, None, "scan: holds values that are NaN or infinite; allowed: numbers"),
        (scan().astype(str), None, "scan: <U[0-9]+ values; allowed: integers and real numbers"),
        (None, None, "scan: object values; allowed: integers and real numbers"),
        (scan(), (3, 1), r"spacing=\(3, 1\): allowed: the mm between slices, rows and columns, three positive numbers"),
        (scan(), (3, 0, 1), r"spacing=\(3, 0, 1\): allowed"),
        (scan(), (3, 1, float("nan")), r"spacing=\(3, 1, nan\): allowed"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(numbers: Any, spacing: Any, message: str, predictor: Predictor) -> None:
    with pytest.raises(DataError, match=message):
        notebook.segment(predictor, numbers, spacing)


def test_a_scan_that_does_not_fit_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scan=.*none: no such file or folder"):
        notebook.segment(predictor, tmp_path / "none")
    with pytest.raises(DataError, match="nothing to segment there"):
        notebook.segment(predictor, tmp_path)
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, scan(1))
    with pytest.raises(DataError, match=r"scan=.*: holds 2 scans; attnunet.predict segments several; allowed: one scan"):
        notebook.segment(predictor, tmp_path)
    spaced = replace(predictor, preparation=replace(predictor.preparation, pixel_size=1.0))
    with pytest.raises(UserError, match="how many mm a pixel measures"):
        notebook.segment(spaced, scan())
    assert notebook.segment(spaced, scan(), spacing=(3, 1, 1)).mask.shape == (3, 20, 24)


# Drawing.


def found() -> notebook.Segmentation:
    """A scan of three slices; the second and the third show a lesion."""
    mask = np.zeros((3, 8, 10), np.uint8)
    mask[1, 2:6, 2:6] = mask[2, 2:4, 2:4] = 1
    return notebook.Segmentation(np.full(mask.shape, 100, np.uint16), mask.astype(np.float32), mask)


def drawn_colors(axes: Axes) -> list[tuple[float, float, float]]:
    return [to_rgb(line.get_edgecolor()[0]) for line in axes.collections]


def test_a_drawing_shows_the_slices_with_a_lesion() -> None:
    figure = notebook.draw(found(), title="p$1")
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["2: 16 pixels", "3: 4 pixels"]
    assert [drawn_colors(axes) for axes in figure.axes if axes.images] == [[to_rgb(PREDICTION)]] * 2
    assert figure.get_suptitle() == "p\\$1"
    assert figure.legends == []


def test_a_drawing_shows_the_truth_too_also_where_nothing_was_predicted() -> None:
    truth = np.zeros((3, 8, 10), np.uint8)
    truth[:2, 4:6, 4:6] = 255
    figure = notebook.draw(found(), truth)
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["1: 0 pixels", "2: 16 pixels", "3: 4 pixels"]
    colors = [drawn_colors(axes) for axes in figure.axes if axes.images]
    assert colors == [[to_rgb(TRUTH)], [to_rgb(TRUTH), to_rgb(PREDICTION)], [to_rgb(PREDICTION)]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["truth", "prediction"]


def test_a_truth_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"truth: has the shape \(8, 10\); allowed: the shape of the scan, \(3, 8, 10\)"):
        notebook.draw(found(), truth=np.zeros((8, 10)))


# The notebook of the docs.


def test_the_notebook_holds_no_outputs_and_its_page_is_current() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
    generator = runpy.run_path(str(REPO / ".ci" / "notebook.py"))
    assert generator["PAGE"].read_text() == generator["render"](NOTEBOOK.read_text()), "make docs writes it anew"


@pytest.mark.slow
@pytest.mark.ci
def test_the_notebook_runs_as_it_is_written(tmp_path: Path) -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(cells, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell.outputs[-1].get("data", {}) for cell in cells.cells if cell.cell_type == "code" and cell.outputs]
    texts = [data.get("text/plain", "") for data in shown]
    assert "'reused'" in texts
    assert "True" in texts  # the file of a scan gets the mask of the array
    assert base64.b64decode(shown[-1]["image/png"]).startswith(b"\x89PNG")
    assert (tmp_path / "overlay.png").is_file()

    runs = notebook.list_runs(notebook.open_store(tmp_path / "mlruns"))
    assert list(runs["status"]) == ["FINISHED", "FINISHED"]
    assert runs["final/val/dice"].notna().all()
    assert "final/test/dice" not in runs
    commands = [run.data.tags["command"] for run in Store(tmp_path / "mlruns", None, 0).runs("1", "")]
    assert all(command.startswith("python -m attnunet.train trainer=smoke ") for command in commands)
