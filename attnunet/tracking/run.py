"""One run in the store: how it begins, goes on after an interruption, and ends."""

import logging
import shutil
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import psutil
from mlflow.entities import Metric, Param
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_USER

from attnunet.data.files import naming
from attnunet.errors import first_line
from attnunet.tracking.store import Away, Store, local_path

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from attnunet.inference import Predictor

log = logging.getLogger(__name__)
PACKAGE = Path(__file__).parent.parent
SERVING = ("tensorflow", "keras", "numpy", "scipy", "opencv-python", "filelock")
PULSE = 60.0  # seconds between heartbeats


class Run:
    """One MLflow run that is under way.

    A metric is logged once for each step, whatever was logged before an interruption; while a server does not answer,
    metrics wait, and everything else waits for `Store.patience` seconds.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.id = store, run_id
        found = store.attempt(lambda: store.client.get_run(run_id))
        self.experiment_id: str = found.info.experiment_id
        self.artifacts: str = local_path(found.info.artifact_uri)
        histories = (store.attempt(partial(store.client.get_metric_history, run_id, name)) for name in found.data.metrics)
        self.known = set(found.data.params)
        self.logged = {(metric.key, metric.step) for history in histories for metric in history}
        self.waiting: list[Metric] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        new = {name: value for name, value in values.items() if (name, step) not in self.logged}
        self.logged |= {(name, step) for name in new}
        self.waiting += [Metric(name, float(value), now, step) for name, value in new.items()]
        try:
            self.send(patience=0)
        except Away as away:
            log.warning("%s: %d values wait for it", away, len(self.waiting))

    def send(self, patience: float | None = None) -> None:
        """The metrics that wait. One that is sent twice, because the answer was lost, is stored once: its time is the same."""
        while batch := self.waiting[:500]:
            self.store.attempt(partial(self.store.client.log_batch, self.id, metrics=batch), patience)
            del self.waiting[: len(batch)]

    def params(self, values: Mapping[str, Any]) -> None:
        """Those that are not there; what an interrupted run was begun with stays."""
        params = [Param(name, str(value)) for name, value in values.items() if name not in self.known]
        for start in range(0, len(params), 100):
            self.store.attempt(partial(self.store.client.log_batch, self.id, params=params[start : start + 100]))

    def tags(self, values: Mapping[str, str]) -> None:
        self.store.tag(self.id, values)

    def text(self, content: str, path: str) -> None:
        self.store.attempt(lambda: self.store.client.log_text(self.id, content, path))

    def file(self, file: Path, folder: str) -> None:
        with naming(Path(self.artifacts)):
            self.store.attempt(lambda: self.store.client.log_artifact(self.id, str(file), folder))

    def network(self, network: "keras.Model", path: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            with naming(file):
                network.save(file)
            self.file(file, str(Path(path).parent))

    def last_step(self, metric: str) -> int:
        """The last step at which the metric was logged."""
        return max(step for name, step in self.logged if name == metric)

    def figures(self, drawn: "Mapping[str, Figure]", folder: str = "figures") -> None:
        """Each as PNG and, for papers, as PDF, below `folder`."""
        from attnunet.evaluation.figures import save

        with tempfile.TemporaryDirectory() as here:
            save(drawn, Path(here))
            self.store.attempt(lambda: self.store.client.log_artifacts(self.id, here, folder))

    def predictor(self, predictor: "Predictor") -> None:
        """Below checkpoints/, and as an MLflow model: a request is a patient's volume, a slice is a volume of depth one."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = str(Path(scratch) / "predictor")  # by whose name MLflow calls the model's part
            with naming(Path(folder)):
                predictor.save(Path(folder))
            with naming(Path(self.artifacts)):
                self.store.attempt(lambda: self.store.client.log_artifacts(self.id, folder, "checkpoints"))
                self.store.attempt(lambda: self.log_model(folder, len(predictor.preparation.file_channels)))

    def log_model(self, folder: str, channels: int) -> None:
        """Once: one that was logged whole before an interruption stays, one that was not goes."""
        client = self.store.client
        for model in client.search_logged_models([self.experiment_id], f"source_run_id = '{self.id}'"):
            if model.status == "READY":
                return
            client.delete_logged_model(model.model_id)
            shutil.rmtree(local_path(model.artifact_location), ignore_errors=True)  # MLflow keeps the files
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, channels))]),
            outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
        )
        with warnings.catch_warnings():
            # An example of a request would be a patient's images.
            warnings.filterwarnings("ignore", message=".*An input example was not provided", module="mlflow")
            mlflow.set_tracking_uri(self.store.address)
            mlflow.set_experiment(experiment_id=self.experiment_id)  # else the model goes to the default one
            Model.log(
                artifact_path=None,
                flavor=mlflow.pyfunc,
                run_id=self.id,
                name="model",
                python_model=str(Path(__file__).with_name("served.py")),
                artifacts={"predictor": folder},
                signature=signature,
                tags={MLFLOW_USER: psutil.Process().username()},  # else MLFLOW_TRACKING_USERNAME, a credential
                code_paths=[str(PACKAGE)],
                pip_requirements=[f"{name}=={metadata.version(name)}" for name in SERVING],
            )

    def end(self, status: str) -> None:
        self.send()
        self.store.attempt(lambda: self.store.client.set_terminated(self.id, status))


@contextmanager
def run(
    store: Store, study: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str], run_id: str | None = None
) -> Iterator[Run]:
    """A run of the study, a new one or `run_id` again.

    It ends FINISHED; KILLED on Ctrl-C or SIGTERM; FAILED, with its traceback, on an error. Where the server is away to the
    end, nobody can tell it: the next command that opens the store ends the run as KILLED.
    """
    with terminable():
        current = Run(store, store.begin(study, name, tags, run_id))
        current.params(params)
        with pulse(current):
            try:
                yield current
            except Away:
                raise
            except (KeyboardInterrupt, SystemExit):
                with suppress(Away):
                    current.end("KILLED")
                raise
            except BaseException as error:
                with suppress(Away):
                    for tell in (
                        lambda: current.text(traceback.format_exc(), "traceback.txt"),
                        partial(current.tags, {"error": f"{type(error).__name__}: {error}"[:500]}),
                        partial(current.end, "FAILED"),
                    ):
                        attempt(tell)
                raise
            current.end("FINISHED")


def attempt(tell: Callable[[], None]) -> None:
    """Tell the store of a failure, if it can be told: a full disk may refuse the traceback and take the status."""
    try:
        tell()
    except Away:
        raise
    except Exception as error:
        log.warning("the store does not take why the run failed: %s", first_line(error))


@contextmanager
def pulse(current: Run) -> Iterator[None]:
    """A heartbeat every PULSE seconds, by which other machines see that the run's process lives."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(PULSE):
            with suppress(Exception):  # a server that is away
                current.store.client.set_tag(current.id, "heartbeat", f"{time.time():.0f}")

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that the run does not stay RUNNING."""
    if threading.current_thread() is not threading.main_thread():  # where some launchers run a job; signals are not theirs
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as the command line writes them: {"loss.weights.dice": 1.0, ...}, without Hydra's own keys."""
    values: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            values |= {f"{prefix}{name}.{place}": call(item) for place, item in enumerate(value)}
        elif not str(name).startswith("_"):
            values[f"{prefix}{name}"] = value
    return values


def call(node: Mapping[str, Any]) -> str:
    """A `_target_` with its arguments as one reads it in code: HorizontalFlip(p=0.5)."""
    arguments = (f"{name}={value}" for name, value in node.items() if not name.startswith("_"))
    return f"{node['_target_'].rpartition('.')[2]}({', '.join(arguments)})"
