"""A registered model behind `mlflow models serve`, asked through HTTP as docs/guides/serve.md says, and in an environment of
its own requirements."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from attnunet.inference.predictor import Predictor, Preparation
from attnunet.inference.served import encode
from attnunet.metrics.decision import Decision
from attnunet.tracking import records, registry
from attnunet.tracking.run import open_run
from attnunet.tracking.store import Store, local_path
from tests.conftest import REPO, command
from tests.serving import free_port, serving
from tests.test_docs import blocks, words
from tests.test_inference import SIZE, tiny
from tests.test_served import decoded

pytestmark = [
    pytest.mark.slow,
    # mlflow.types: importing its own chat schemas, MLflow warns of the type hints in them.
    pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning"),
]
GUIDE = (REPO / "docs" / "guides" / "serve.md").read_text()
NAMES = ("pre", "flair", "post")
VOLUME = np.random.default_rng(0).integers(0, 3000, (5, 40, 48, 3)).astype(np.uint16)


class Registered(NamedTuple):
    """A folder whose store has a registered model, and what `attnunet.predict` makes of volume.npy with it."""

    folder: Path
    mask: np.ndarray

    @property
    def model(self) -> Path:
        version = Store(self.folder / "mlruns", None, 0).client.get_model_version_by_alias("attnunet", "best")
        return Path(local_path(version.source))


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    folder = tmp_path_factory.mktemp("registered")
    predictor = Predictor(tiny(), Preparation(SIZE, NAMES, NAMES, "zscore"), batch_size=4)
    predictor = replace(predictor, decision=Decision(float(np.median(predictor.probabilities_of(VOLUME)))))
    store = Store(folder / "mlruns", None, 0)
    with open_run(store, store.study("served"), "a run", {}, {}) as run:
        run.predictor(predictor)
    (record,) = records.find_runs(store, [run.id])
    registry.register(record, "# A card")
    np.save(folder / "volume.npy", VOLUME)
    predicted = command("run=models:/attnunet@best", "input=volume.npy", "output=masks", cwd=folder, name="predict")
    assert predicted.returncode == 0, predicted.stderr
    mask = np.load(folder / "masks" / "volume.npy")
    assert 0.05 < mask.mean() < 0.95
    return Registered(folder, mask)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(registered: Registered, port: int) -> Iterator[str]:
    """The address of the guide's server."""
    (line,) = re.findall("^.*mlflow models serve .*$", "\n".join(blocks(GUIDE, "")), re.MULTILINE)
    _, *arguments = words(line.replace("5001", str(port)))
    variables = dict(word.split("=", 1) for word in line.split() if re.match("[A-Z_]+=", word))
    variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as where `mlflow` is found: it starts uvicorn
    with serving([sys.executable, "-m", "mlflow", *arguments], port, registered.folder / "log", variables) as address:
        yield f"{address}/invocations"


def ask(address: str, request: Any) -> tuple[int, Any]:
    """Return the status and the content of the answer to a request."""
    content = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, json.dumps(request).encode(), content)) as answer:
            return answer.status, json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["message"]


@pytest.mark.ci
def test_the_request_of_the_guide_gets_the_mask_of_predict(server: str, registered: Registered, port: int) -> None:
    (script,) = blocks(GUIDE, "bash")
    program = f'PATH="{Path(sys.executable).parent}:$PATH"; {script.replace("5001", str(port))}'
    done = subprocess.run(["bash", "-ec", program], cwd=registered.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    mask = np.load(registered.folder / "mask.npy")
    assert (mask.shape, mask.dtype) == (VOLUME.shape[:3], np.uint8)
    np.testing.assert_array_equal(mask, registered.mask)


def test_numbers_in_json_get_it_too(server: str, registered: Registered) -> None:
    status, mask = ask(server, {"inputs": VOLUME.tolist()})
    assert status == 200
    np.testing.assert_array_equal(mask, registered.mask)
    params = {"sequences": ["post", "flair", "pre"], "spacing": [5, 1, 1]}
    status, mask = ask(server, {"inputs": (VOLUME[..., ::-1] / 4096).tolist(), "params": params})
    assert status == 200
    np.testing.assert_array_equal(mask, registered.mask)


def test_the_example_of_the_model_is_answered(server: str, registered: Registered) -> None:
    status, mask = ask(server, json.loads((registered.model / "serving_input_example.json").read_text()))
    assert (status, np.shape(mask)) == (200, (1, 32, 32))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"inputs": "no?"}, "volume: is text, but not base64"),
        ({"inputs": encode(VOLUME[0])}, "volume: uint16 (40, 48, 3); allowed: numbers (slices, height, width, 3: pre, "),
        ({"inputs": [[1], [1, 2]]}, "volume: its lists differ in length"),
        ({"inputs": [[[[1, 2, None]]]]}, "volume: object (1, 1, 1, 3); allowed"),
        ({"inputs": [[[[1, 2, float("nan")]]]]}, "volume: holds values that are NaN or infinite"),
        ({"inputs": [[[[1, 2, 3]]]], "params": {"sequences": ["pre"]}}, "sequences: pre; allowed"),
        ({"inputs": [[[[1, 2, 3]]]], "params": {"spacing": [1]}}, "spacing: [1.0]; allowed"),
    ],
)
def test_a_bad_request_gets_a_sentence(server: str, request_: dict[str, Any], message: str) -> None:
    status, told = ask(server, request_)
    assert status == 400
    assert told.startswith(message)
    assert len(told) < 250


def test_requests_at_the_same_time_get_their_own_masks(server: str, registered: Registered) -> None:
    requests = [{"inputs": encode(np.roll(VOLUME, shift, axis=0))} for shift in range(5)]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda request: ask(server, request), requests))
    for shift, (status, mask) in enumerate(answers):
        assert status == 200
        np.testing.assert_array_equal(decoded(mask), np.roll(registered.mask, shift, axis=0))


PROBE = """
import sys, mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
numpy.save("mask.npy", model.predict(numpy.load("volume.npy")))
print(sys.modules["attnunet"].__file__)
"""


@pytest.mark.timeout(1800)  # TensorFlow is installed
def test_the_model_predicts_in_an_environment_of_its_own_requirements(registered: Registered, tmp_path: Path) -> None:
    place = shutil.copytree(registered.model, tmp_path / "model")
    hidden = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python = tmp_path / "environment" / "bin" / "python"
    run(sys.executable, "-m", "venv", "environment")
    run(python, "-m", "pip", "install", "-q", "-c", REPO / "requirements.lock", "-r", place / "requirements.txt")
    np.save(tmp_path / "volume.npy", VOLUME)
    assert f"{place}/code/attnunet/__init__.py" in run(python, "-c", PROBE, place)
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), registered.mask)
    installed = run(python, "-m", "pip", "list")
    assert "opencv-python-headless" in installed
    assert not re.search("^(opencv-python|hydra-core|attnunet) ", installed, re.MULTILINE)
