"""The export of a run through the command: the bundle, what is printed, and what is refused."""

import json
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import keras
import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from attnunet import export
from attnunet.errors import UserError
from attnunet.inference import formats
from attnunet.tracking import records
from attnunet.tracking.store import Store
from tests.conftest import command

pytestmark = pytest.mark.slow  # on a run of their own


@pytest.fixture(scope="module")
def store(trained: Path) -> Store:
    return Store(trained / "mlruns", None, 0)


@pytest.fixture(scope="module")
def run_id(store: Store) -> str:
    (run,) = records.runs_of_study(store, "tried")
    return run.id


def convert(store: Store, run_id: str, form: str, folder: Path) -> str:
    """`attnunet.export` in this process; returns what it prints."""
    out = StringIO()
    cfg = OmegaConf.create({"run": run_id, "format": form, "output": str(folder)})
    export.check_output(folder)
    export.export(cfg, records.find_checkpoint(store, run_id), Console(file=out, width=200, soft_wrap=True))
    return out.getvalue()


@pytest.mark.parametrize("form", list(formats.FORMATS))
def test_a_network_answers_the_same_in_every_format(form: str, store: Store, run_id: str, tmp_path: Path) -> None:
    said = convert(store, run_id, form, tmp_path / "out")
    name = formats.FORMATS[form].name
    assert f"{name}: same logits as the network" in said
    assert "checked on 12 validation slices of the run\n" in said
    assert "another value in 0 of 12,288 pixels" in said
    names = {path.name for path in (tmp_path / "out").iterdir()} - {"network.bin"}
    assert names == {name, "predictor.json", "predict.py", "requirements.txt"}
    facts = json.loads((tmp_path / "out" / "predictor.json").read_text())
    assert facts["network"] == name
    assert facts["preparation"]["channels"] == ["pre", "flair", "post"]
    assert 0 < facts["decision"]["threshold"] < 1
    with pytest.raises(UserError, match="exists; give a folder that does not"):
        convert(store, run_id, form, tmp_path / "out")


def test_a_check_without_the_data_of_the_run_says_so(trained: Path, run_id: str, tmp_path: Path) -> None:
    moved = shutil.copytree(trained / "mlruns", tmp_path / "mlruns")
    shutil.rmtree(moved / "cache")
    store = Store(moved, None, 0)
    record = records.find_checkpoint(store, run_id)
    record.config.data.root = str(tmp_path / "nowhere")
    out = StringIO()
    cfg = OmegaConf.create({"run": run_id, "format": "keras", "output": str(tmp_path / "out")})
    export.export(cfg, record, Console(file=out, width=200, soft_wrap=True))
    assert "checked on 8 PHANTOM slices, because the run's data cannot be read here: data.root=" in out.getvalue()


def test_a_file_that_answers_otherwise_is_not_left(
    store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(network: keras.Model, path: Path) -> None:
        head = network.layers[-1]
        head.set_weights([head.get_weights()[0], head.get_weights()[1] + np.float32(0.01)])
        formats.write_onnx(network, path)

    monkeypatch.setitem(formats.FORMATS, "onnx", replace(formats.FORMATS["onnx"], write=wrong))
    with pytest.raises(UserError, match=r"format=onnx: the file's logits differ by up to 0\.01 from the network's"):
        convert(store, run_id, "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_a_format_lacks_is_named(store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError(name="litert_torch")

    monkeypatch.setitem(formats.FORMATS, "litert", replace(formats.FORMATS["litert"], write=lacking))
    with pytest.raises(UserError, match=r"litert needs the package litert_torch: pip install litert_torch$"):
        convert(store, run_id, "litert", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_export_command_writes_onnx(trained: Path, run_id: str) -> None:
    result = command(f'run="{run_id[:8]}"', cwd=trained, name="export")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert (trained / "exports" / f"{run_id[:8]}-onnx" / "network.onnx").is_file()
