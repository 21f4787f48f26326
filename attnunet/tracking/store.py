"""The store that runs are in: SQLite below a folder, or an MLflow server."""

import logging
import platform
import shlex
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
import psutil
from filelock import FileLock
from mlflow.entities import Run

log = logging.getLogger(__name__)

SILENCE = 600.0  # seconds without a heartbeat, after which a process on another machine counts as dead


class Unavailable(RuntimeError):
    """What a run needs is not to be had now; the message says what to do, and nothing is lost."""


class Away(Unavailable):
    """The tracking server did not answer for `tracking.patience` seconds."""


class Busy(Unavailable):
    """A process on another machine is training this run."""


class Store:
    """An MLflow tracking store, with the files below `root` that belong to it."""

    def __init__(self, root: Path, uri: str | None, patience: float) -> None:
        """
        Args:
            root: the store's folder where `uri` is None; states of unfinished runs, cache and logs in any case.
            uri: an MLflow server's address.
            patience: seconds to wait for a store that does not answer, where there is nothing else to do.
        """
        self.root, self.uri, self.patience = root.resolve(), uri, patience
        self.database = self.root / "mlflow.db"
        self.root.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        return self.uri or f"sqlite:///{self.database}?timeout=60"

    @property
    def address_shown(self) -> str:
        """Where the store is, for messages."""
        return self.uri or str(self.database)

    @property
    def ui_command(self) -> str:
        """What to type to see the runs."""
        if self.uri:
            return f"open {self.uri} in a browser"
        mlflow_command = str(Path(sys.executable).with_name("mlflow"))
        return shlex.join([mlflow_command, "ui", "--backend-store-uri", f"sqlite:///{self.database}", "--host", "127.0.0.1"])

    @cached_property
    def client(self) -> mlflow.MlflowClient:
        """Made under a lock, with a moved folder's addresses mended: processes that open a new SQLite store at once
        break it."""
        with FileLock(self.root / ".lock"):
            client = mlflow.MlflowClient(self.address)
            self.attempt(lambda: client.search_experiments(max_results=1))
            if not self.uri:
                relocate(self.database, self.root / "artifacts")
        return client

    def study(self, name: str) -> str:
        """The id of the MLflow experiment `name`, made if it is not there.

        Raises:
            ValueError: it was deleted.
        """
        client = self.client
        with FileLock(self.root / ".lock"):
            found = client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                raise ValueError(f"study={name} was deleted in MLflow: take another name, or `mlflow experiments restore`")
            if found is not None:
                return str(found.experiment_id)
            location = None if self.uri else (self.root / "artifacts").as_uri()
            return str(client.create_experiment(name, artifact_location=location))

    def runs(self, study: str, condition: str) -> list[Run]:
        """The runs of a study that meet MLflow's condition, newest first."""
        return list(self.client.search_runs([study], condition, order_by=["attributes.start_time DESC"], max_results=1000))

    def reap(self) -> None:
        """End the runs whose process has died without a word as KILLED."""
        studies = [study.experiment_id for study in self.client.search_experiments()]
        for run in self.client.search_runs(studies, "attributes.status = 'RUNNING'", max_results=1000):
            if "process" in run.data.tags and not alive(run):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def supersede(self, runs: Sequence[str], by: str) -> None:
        """Mark runs that another one replaces; `python -m attnunet.store clean` removes them."""
        for run in runs:
            self.client.set_tag(run, "superseded", by)

    def answers(self) -> bool:
        """Whether the store can be reached at all; SQLite always can."""
        if self.uri is None or not self.uri.startswith("http"):
            return True
        try:
            urllib.request.urlopen(f"{self.uri.rstrip('/')}/health", timeout=5).close()
        except urllib.error.HTTPError as error:
            return error.code < 500  # it wants credentials, say, but it is there
        except OSError:
            return False
        return True

    def attempt(self, call: Callable[[], object], patience: float | None = None) -> None:
        """call(), repeated while the store does not answer.

        Raises:
            Away: it did not for `patience` seconds (the store's own, if None).
            Exception: what `call` raised twice while the store answered; once may be a server that has just come back.
        """
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        refused = False
        while True:
            try:
                call()
                return
            except Exception as error:
                if self.answers():
                    if refused or self.uri is None:
                        raise
                    refused = True
                elif time.monotonic() >= deadline:
                    raise Away(f"the tracking server {self.uri} does not answer") from error
            time.sleep(1)


@lru_cache
def open_store(root: Path, uri: str | None, patience: float) -> Store:
    """One for all jobs of a process."""
    return Store(root, uri, patience)


def identity() -> dict[str, str]:
    """The tags by which another process can tell whether this one is alive."""
    process = psutil.Process()
    return {
        "host": platform.node(),
        "process": f"{process.pid} {process.create_time():.2f}",
        "heartbeat": f"{time.time():.0f}",
    }


def alive(run: Run) -> bool:
    """Whether the process that a run is in lives: asked of the system on the same host, of the heartbeat on another."""
    tags = run.data.tags
    if tags["host"] != platform.node():
        return time.time() - float(tags["heartbeat"]) < SILENCE
    number, created = tags["process"].split()
    try:
        process = psutil.Process(int(number))
        return abs(process.create_time() - float(created)) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def relocate(database: Path, artifacts: Path) -> None:
    """Let the store of a folder that was moved or copied find its files: MLflow stores their addresses absolute."""
    now = artifacts.as_uri()
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        stored = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (before,) in stored:
            if before and before != now and before.startswith("file:") and before.endswith("/artifacts"):
                for table, column in (
                    ("experiments", "artifact_location"),
                    ("runs", "artifact_uri"),
                    ("logged_models", "artifact_location"),
                ):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR {column} LIKE ?",
                        (now, len(before) + 1, before, f"{before}/%"),
                    )


def local_path(uri: str) -> str:
    """A file: address as a path; another address as it is."""
    return url2pathname(urlparse(uri).path) if uri.startswith("file:") else uri
