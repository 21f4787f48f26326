"""Runs in MLflow's store; the only package that imports mlflow."""

import logging
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
from filelock import FileLock
from matplotlib.figure import Figure

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from attnunet.evaluation.figures import save
from attnunet.inference import Predictor

log = logging.getLogger(__name__)
logging.getLogger("mlflow").setLevel(logging.WARNING)
PACKAGE = Path(__file__).parent.parent
PACKAGES = ("tensorflow", "keras", "numpy", "opencv-python", "albumentations", "grain", "focal-loss", "mlflow")
SERVING = ("tensorflow", "keras", "numpy", "opencv-python", "filelock")


class Run:
    """One MLflow run that is under way."""

    def __init__(self, run: mlflow.ActiveRun) -> None:
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.artifacts: str = local_path(run.info.artifact_uri)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        mlflow.log_metrics(dict(values), step=step)

    def text(self, content: str, path: str) -> None:
        mlflow.log_text(content, path)

    def file(self, file: Path, folder: str) -> None:
        mlflow.log_artifact(str(file), folder)

    def figures(self, drawn: Mapping[str, Figure]) -> None:
        """Each as PNG and, for papers, as PDF, below figures/."""
        with tempfile.TemporaryDirectory() as folder:
            save(drawn, Path(folder))
            mlflow.log_artifacts(folder, "figures")

    def model(self, predictor: Predictor) -> None:
        """The predictor as an MLflow model: one request is one patient's volume, a slice is a volume of depth one."""
        channels = len(predictor.preparation.file_channels)
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, channels))]),
            outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
        )
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # An example of a request would be a patient's images.
            warnings.filterwarnings("ignore", message=".*An input example was not provided", module="mlflow")
            predictor.save(Path(folder) / "predictor")
            mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("served.py")),
                artifacts={"predictor": str(Path(folder) / "predictor")},
                signature=signature,
                code_paths=[str(PACKAGE)],
                pip_requirements=[f"{name}=={metadata.version(name)}" for name in SERVING],
            )


def store(root: Path, uri: str | None) -> str:
    """The store's address: `uri`, or SQLite below `root`, as an absolute path."""
    return uri or f"sqlite:///{(root / 'mlflow.db').resolve()}?timeout=60"


def local_path(uri: str) -> str:
    """A file: address as a path; another address as it is."""
    return url2pathname(urlparse(uri).path) if uri.startswith("file:") else uri


def ui_command(root: Path, uri: str | None) -> str:
    """What to type to see the runs."""
    if uri:
        return f"open {uri} in a browser"
    mlflow_command = str(Path(sys.executable).with_name("mlflow"))
    address = f"sqlite:///{(root / 'mlflow.db').resolve()}"
    return shlex.join([mlflow_command, "ui", "--backend-store-uri", address, "--host", "127.0.0.1"])


def open_study(study: str, root: Path, uri: str | None) -> str:
    """The id of the MLflow experiment `study`, made if it is not there.

    Under a lock: processes that open a new SQLite store at once break it.
    """
    root.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(store(root, uri))
    with FileLock(root / ".lock"):
        found = mlflow.get_experiment_by_name(study)
        if found is not None and found.lifecycle_stage == "deleted":
            raise ValueError(f"study={study} was deleted in MLflow: take another name, or `mlflow experiments restore`")
        if found is not None:
            return found.experiment_id
        location = None if uri else (root / "artifacts").resolve().as_uri()
        return mlflow.create_experiment(study, artifact_location=location)


@contextmanager
def run(
    study: str, root: Path, uri: str | None, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Run]:
    """A run of the study that ends FINISHED; KILLED on Ctrl-C or SIGTERM; FAILED, with its traceback, on an error."""
    experiment = open_study(study, root, uri)
    with terminable():
        active = mlflow.start_run(experiment_id=experiment, run_name=name, tags=dict(tags))
        try:
            mlflow.log_params(dict(params))
            yield Run(active)
        except (KeyboardInterrupt, SystemExit):
            mlflow.end_run("KILLED")
            raise
        except BaseException as error:
            log.exception("run %s failed", active.info.run_id)
            try:
                mlflow.log_text(traceback.format_exc(), "traceback.txt")
                mlflow.set_tag("error", f"{type(error).__name__}: {error}"[:500])
            finally:
                mlflow.end_run("FAILED")
            raise
        mlflow.end_run("FINISHED")


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that the run does not stay RUNNING for ever."""

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


def provenance(overrides: Sequence[str]) -> dict[str, str]:
    """Tags that say where a result comes from: command, code, machine, packages."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "overrides": " ".join(overrides),
        "git.commit": git("rev-parse", "HEAD"),
        "git.dirty": str(bool(git("status", "--porcelain"))).lower(),
        "host": platform.node(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{f"version.{name}": metadata.version(name) for name in PACKAGES},
    }


def git(*arguments: str) -> str:
    """The answer of git about the checkout that this code is in; "" where it is in none."""
    checkout = PACKAGE.parent
    if not (checkout / ".git").exists():  # else git would answer for whatever repository an environment lies in
        return ""
    command = ["git", "-C", str(checkout), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
