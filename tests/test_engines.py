"""The engine of 8-bit integers: what it is built from, what it costs, where it is kept, and what is refused."""

import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from attnunet import predict
from attnunet.config import ConfigError
from attnunet.data.slices import DataError
from attnunet.evaluation import engines, slices
from attnunet.evaluation.engines import Cost, use_int8
from attnunet.evaluation.scoring import load_predictor
from attnunet.inference.ensemble import Ensemble
from attnunet.metrics.decision import Decision
from attnunet.tracking import records
from attnunet.tracking.models import Model
from attnunet.tracking.store import Store

INT8 = OmegaConf.create({"engine": "openvino-int8"})


def test_the_cost_is_one_line() -> None:
    measured = "Dice 0.7200 on 9 validation patients, -0.0100 to Keras"
    said = f"openvino-int8: {measured}; 1.50 times the speed of Keras when it was built"
    assert str(Cost(0.73, 0.72, 9, 1.5)) == said


def test_a_folder_has_no_training_slices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^engine=openvino-int8: is calibrated .* run=here is a folder; allowed: a run$"):
        predict.check_engine(INT8, Model("here", folder=tmp_path))
    predict.check_engine(OmegaConf.create({"engine": "auto"}), Model("here", folder=tmp_path))


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "find_spec", lambda name: None if name == "nncf" else name)
    with pytest.raises(
        ConfigError, match=r"^engine=openvino-int8 needs the package nncf: pip install 'attnunet\[openvino\]'$"
    ):
        predict.check_engine(INT8, Model("any"))


@pytest.mark.slow
def test_openvino_sends_nothing(tmp_path: Path) -> None:
    """Its package for usage statistics keeps a number for this user in the home folder."""
    lines = "from attnunet.inference import formats; formats.load_openvino('none')"
    command = [sys.executable, "-c", lines]
    result = subprocess.run(command, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert "openvino" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Store:
    """A store of its own, because an engine is written into its cache."""
    return Store(shutil.copytree(trained / "mlruns", tmp_path / "mlruns"), None, 0)


@pytest.mark.slow
def test_an_engine_is_built_once_and_close_to_keras(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (record,) = records.runs_of_study(store, "tried")
    predictor, model = load_predictor(record), Model(record.id, (record,))
    said: list[str] = []
    engine = use_int8(model, predictor, said.append)
    assert said[0].startswith(f"run {record.id}: building the engine")
    (folder,) = (store.root / "cache" / "engines").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["cost.json", "network.bin", "network.xml"]
    cost = json.loads((folder / "cost.json").read_text())
    assert cost["patients"] == 2
    assert 0 <= cost["engine"] <= 1
    assert said[1] == f"run {record.id}: {Cost(**cost)}"

    images, _ = slices.slices_to_check(record, predictor.preparation)
    images = images[:5]
    expected, found = predictor.logits(images), engine.members[0].logits(images)
    assert 0.95 < np.corrcoef(expected.ravel(), found.ravel())[0, 1] < 1
    np.testing.assert_array_equal(engine.members[0].logits(images[2:3]), found[2:3])

    monkeypatch.setattr(engines, "build", None)
    ensemble = use_int8(Model("two", (record, record)), Ensemble((predictor, predictor), Decision()), said.append)
    assert len(said) == 4
    for member in ensemble.members:
        np.testing.assert_array_equal(member.logits(images), found)


@pytest.mark.slow
def test_an_engine_without_the_data_of_its_run_is_refused(store: Store, tmp_path: Path) -> None:
    (record,) = records.runs_of_study(store, "tried")
    record.config.data.root = str(tmp_path / "nowhere")
    with pytest.raises(DataError, match=rf"^engine=openvino-int8: is calibrated on training slices of run {record.id}, whose"):
        use_int8(Model(record.id, (record,)), load_predictor(record), Console(file=StringIO()).print)
    assert not list(store.root.glob("cache/engines/*"))


def select(lesions: list[int]) -> slices.Selection:
    """Return a selection of slices 5 to 14 of 20. The image of a slice is its number."""
    prepared = SimpleNamespace(inputs=np.arange(20).__getitem__, lesion_pixels=np.isin(np.arange(20), lesions).astype(int))
    return slices.Selection(prepared, tuple(range(5, 15)), (), ())  # type: ignore[arg-type]


def test_slices_are_spread_over_a_selection() -> None:
    assert slices.spread(select([]), 4).tolist() == [5, 8, 11, 14]
    assert slices.spread(select([]), 64).tolist() == list(range(5, 15))


def test_slices_with_a_lesion_calibrate_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CALIBRATION", 2)
    assert engines.calibration_slices(select([1, 7, 8, 9, 19])).tolist() == [7, 9, 5, 14]
    assert engines.calibration_slices(select([])).tolist() == [5, 14]
