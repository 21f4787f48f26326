"""A layer, a model and a loss of a user's own: who may load them again, and that every command can."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from attnunet.config import targets
from attnunet.errors import UserError
from attnunet.evaluation.scoring import load_predictor
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.tracking import records
from attnunet.tracking.records import Record
from attnunet.tracking.store import Store
from tests.conftest import command

PARTS = """
import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="{module}")
class Scale(layers.Layer):
    def __init__(self, factor, **settings):
        super().__init__(**settings)
        self.factor = factor

    def call(self, images):
        return ops.cast(images, "float32") * self.factor

    def get_config(self):
        return {{**super().get_config(), "factor": self.factor}}


class Unregistered(layers.Layer):
    def call(self, images):
        return ops.cast(images, "float32")


def build(image_size, channels, scale=Scale(1 / 255)):
    images = keras.Input((image_size, image_size, channels), dtype="uint8")
    features = layers.Conv2D(4, 3, padding="same", activation="relu")(scale(images))
    return keras.Model(images, layers.Conv2D(1, 1)(features))


class Squared(keras.losses.Loss):
    def call(self, masks, logits):
        return ops.square(ops.sigmoid(logits) - ops.cast(masks, "float32"))
"""


@dataclass(frozen=True)
class Kept(Record):
    """A finished run whose checkpoints lie in a folder."""

    place: Path

    def has(self, path: str) -> bool:
        return True

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        yield self.place / Path(path).relative_to("checkpoints")


def kept(folder: Path) -> Kept:
    info = SimpleNamespace(run_id="4f", run_name="mine", status="FINISHED")
    return Kept(None, SimpleNamespace(info=info), folder)  # type: ignore[arg-type]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A module that can be imported and is not; as after a training that another process did."""
    name = f"parts_of_{request.node.originalname.removeprefix('test_')}"
    (tmp_path / f"{name}.py").write_text(PARTS.format(module=name))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(targets, "own", set())
    yield name
    forget(name)


def forget(module: str) -> None:
    """As if the module had never been imported."""
    sys.modules.pop(module, None)
    keras.saving.get_custom_objects().pop(f"{module}>Scale", None)


def save(module: str, folder: Path) -> Predictor:
    """Save the predictor of a new network of the module's, as its training does, and forget the module."""
    parts = __import__(module)
    preparation = Preparation(16, ("a",), ("a",), "raw")
    predictor = Predictor(parts.build(16, 1), preparation, batch_size=2, modules=(module,))
    predictor.save(folder)
    forget(module)
    return predictor


def test_a_network_is_loaded_again_once_its_module_is_allowed(module: str, tmp_path: Path) -> None:
    predictor = save(module, tmp_path / "checkpoints")
    with pytest.raises(targets.TargetError, match=rf"run 4f \(mine\): .* allows none; give 'modules=\[{module}\]' if"):
        load_predictor(kept(tmp_path / "checkpoints"))
    assert module not in sys.modules
    targets.allow([module])
    loaded = load_predictor(kept(tmp_path / "checkpoints"))
    assert replace(loaded, network=predictor.network) == predictor
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(loaded.logits(images), predictor.logits(images))


@pytest.mark.parametrize("wish", ["{module}_too", "antigravity", "os.path", ".{module}", "", 5, None])
def test_a_checkpoint_imports_nothing_that_was_not_allowed(wish: object, module: str, tmp_path: Path) -> None:
    """Whatever predictor.json says, and whatever else was allowed."""
    predictor = save(module, tmp_path / "checkpoints")
    wished = wish.format(module=module) if isinstance(wish, str) else wish
    (tmp_path / f"{module}_too.py").write_text("raise AssertionError('imported')")
    (tmp_path / "checkpoints" / "predictor.json").write_text(replace(predictor, modules=(module, wished)).facts)
    targets.allow([module])
    with pytest.raises(targets.TargetError, match=rf"allows {module}; give"):
        load_predictor(kept(tmp_path / "checkpoints"))
    assert module not in sys.modules


def test_a_network_from_before_modules_were_listed_is_loaded_with_the_key(module: str, tmp_path: Path) -> None:
    predictor = save(module, tmp_path)
    (tmp_path / "predictor.json").write_text(replace(predictor, modules=()).facts)
    targets.allow([module])
    np.testing.assert_array_equal(load_predictor(kept(tmp_path)).network.get_weights()[0], predictor.network.get_weights()[0])


def test_modules_are_looked_for_where_the_command_starts(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    targets.allow([])
    assert sys.path == ["elsewhere"]
    targets.allow([module])
    assert sys.path == ["", "elsewhere"]


def test_a_module_that_is_gone_is_named(module: str, tmp_path: Path) -> None:
    save(module, tmp_path / "checkpoints")
    (tmp_path / f"{module}.py").unlink()
    targets.allow([module])
    with pytest.raises(targets.TargetError, match=rf"modules=\[{module}\]: cannot be imported"):
        load_predictor(kept(tmp_path / "checkpoints"))


def test_a_predictor_from_before_there_were_modules_is_loaded(tmp_path: Path) -> None:
    images = keras.Input((16, 16, 1), dtype="uint8")
    predictor = Predictor(keras.Model(images, keras.layers.Conv2D(1, 1)(images)), Preparation(16, ("a",), ("a",), "raw"))
    predictor.save(tmp_path)
    file = tmp_path / "predictor.json"
    file.write_text(file.read_text().replace(',\n  "modules": []', ""))
    assert "modules" not in file.read_text()
    assert load_predictor(kept(tmp_path)).modules == ()


def test_a_network_that_could_not_be_loaded_again_is_refused_before_it_is_trained(module: str) -> None:
    parts = __import__(module)
    preparation = Preparation(16, ("a",), ("a",), "raw")
    Predictor(parts.build(16, 1), preparation, modules=(module,)).check_loadable()
    lost = Predictor(parts.build(16, 1, parts.Unregistered()), preparation, modules=(module,))
    with pytest.raises(UserError, match=r"Could not locate class 'Unregistered'.*register_keras_serializable"):
        lost.check_loadable()


KEY = "modules=[my_layers]"
MINE = ("model=mine", "loss=mine", KEY, "trainer=smoke", "trainer.figures=false")
MINE += ("data.patients=9", "data.slices=6", "data.size=32", "image_size=32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own folder, in which a sweep of one job has trained a network with parts of the user's own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_layers.py").write_text(PARTS.format(module="my_layers"))
    for group, text in {"model": "_target_: my_layers.build\n", "loss": "_target_: my_layers.Squared\n"}.items():
        (folder / "conf" / group).mkdir(parents=True)
        (folder / "conf" / group / "mine.yaml").write_text(text)
    np.save(folder / "volume.npy", np.zeros((2, 40, 48, 3), np.uint8))
    result = sweep(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def sweep(folder: Path) -> subprocess.CompletedProcess[str]:
    return command("-m", "--config-dir", "conf", *MINE, "study=mine", "seed=0", cwd=folder)


def trained(folder: Path) -> Record:
    (record,) = records.runs_of_study(Store(folder / "mlruns", None, patience=0), "mine")
    return record


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "written"),
    [
        ("compare", ("study=mine", "test=true"), "mlruns/compare/mine/leaderboard.csv"),  # its job left the test alone
        ("evaluate", ("run={run}", "part=val"), "{artifacts}/evaluations/val/patients.csv"),
        ("predict", ("run={run}", "input=volume.npy", "output=masks"), "masks/volume.npy"),
        ("export", ("run={run}", "format=onnx", "output=exported"), "exported/predict.py"),
        ("export", ("run={run}", "format=savedmodel", "output=saved"), "saved/network/saved_model.pb"),
    ],
)
def test_every_command_takes_the_network_up_and_none_without_the_key(
    name: str, arguments: tuple[str, ...], written: str, folder: Path
) -> None:
    record = trained(folder)
    typed = [argument.format(run=f'"{record.id}"') for argument in arguments]
    artifact = folder / written.format(artifacts=record.run.info.artifact_uri.removeprefix("file://"))
    refused = command(*typed, cwd=folder, name=name)
    assert (refused.returncode, artifact.exists()) == (2 if name == "predict" else 1, False)
    assert f"give '{KEY}' if you trust them" in refused.stderr
    assert "Traceback" not in refused.stderr
    result = command(*typed, KEY, cwd=folder, name=name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert artifact.exists()


SERVE = """
import sys, mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
mask = model.predict(numpy.zeros((2, 40, 48, 3), numpy.uint8))
print(mask.shape, mask.dtype, sys.modules["my_layers"].__file__)
"""


@pytest.mark.slow
def test_the_logged_model_brings_the_module_along(folder: Path, tmp_path: Path) -> None:
    record = trained(folder)
    (model,) = record.store.client.search_logged_models([record.run.info.experiment_id])
    place = shutil.copytree(model.artifact_location.removeprefix("file://"), tmp_path / "model")
    served = subprocess.run([sys.executable, "-c", SERVE, place], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert served.returncode == 0, served.stderr
    assert served.stdout.split("\n")[-2] == f"(2, 40, 48) uint8 {place}/code/my_layers.py"


@pytest.mark.slow
def test_a_run_of_own_parts_is_found_again_and_goes_on(folder: Path) -> None:
    again = sweep(folder)
    assert again.returncode == 0, again.stderr
    assert "1 reused" in again.stdout
    keys = ["--config-dir", "conf", *MINE, "study=killed", "epochs=30"]
    arguments = [sys.executable, "-u", "-m", "attnunet.train", *keys]
    with subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("epoch  2"))
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(60) != 0
    resumed = command(*keys, cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed run" in resumed.stdout
    assert "epoch  1/30" not in resumed.stdout
