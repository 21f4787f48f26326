"""The store that runs are in: SQLite below a folder, or an MLflow server."""

import logging
import os
import platform
import shlex
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
import psutil
from filelock import FileLock
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException

from attnunet.errors import UserError

T = TypeVar("T")
log = logging.getLogger(__name__)

SILENCE = 600.0  # seconds without a heartbeat, after which a process on another machine counts as dead


class Unavailable(UserError):
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
        with self.locked():
            if not (self.uri or self.database.exists()):
                create(self.database)
            client = mlflow.MlflowClient(self.address)
            self.attempt(lambda: client.search_experiments(max_results=1))
            if not self.uri:
                relocate(self.database, self.root / "artifacts")
        return client

    def locked(self) -> FileLock:
        """For a block in which no other process of this disk changes what is there of studies and sweeps."""
        return FileLock(self.root / ".lock")

    def study(self, name: str) -> str:
        """The id of the MLflow experiment `name`, made if it is not there.

        Raises:
            ValueError: it was deleted.
        """
        client = self.client
        location = None if self.uri else (self.root / "artifacts").as_uri()
        with self.locked():
            found = self.attempt(lambda: client.get_experiment_by_name(name))
            if found is not None and found.lifecycle_stage == "deleted":
                raise ValueError(f"study={name} was deleted in MLflow: take another name, or `mlflow experiments restore`")
            if found is not None:
                return str(found.experiment_id)
            return str(self.attempt(lambda: client.create_experiment(name, artifact_location=location)))

    def runs(self, study: str, condition: str) -> list[Run]:
        """The runs of a study that meet MLflow's condition, newest first."""
        newest = ["attributes.start_time DESC"]
        return list(self.attempt(lambda: self.client.search_runs([study], condition, order_by=newest, max_results=1000)))

    def reap(self) -> None:
        """End the runs whose process has died without a word as KILLED."""
        studies = [study.experiment_id for study in self.attempt(self.client.search_experiments)]
        running = "attributes.status = 'RUNNING'"
        for run in self.attempt(lambda: self.client.search_runs(studies, running, max_results=1000)):
            if "process" in run.data.tags and not alive(run):
                self.attempt(partial(self.client.set_terminated, run.info.run_id, "KILLED"))

    def begin(self, study: str, name: str, tags: Mapping[str, str], run_id: str | None = None) -> str:
        """Let a run be this process's, a new one or `run_id` again; -> its id."""
        tags = {**tags, **identity()}
        if run_id is None:
            created = self.attempt(lambda: self.client.create_run(study, tags=tags, run_name=name))
            return str(created.info.run_id)
        # Before its status: else another process would find a run under way whose process is dead.
        self.tag(run_id, tags)
        self.attempt(lambda: self.client.update_run(run_id, status="RUNNING"))
        return run_id

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        stored = [RunTag(name, value) for name, value in tags.items()]
        self.attempt(lambda: self.client.log_batch(run_id, tags=stored))

    def supersede(self, runs: Sequence[str], by: str) -> None:
        """Mark runs that another one replaces; `python -m attnunet.store clean` removes them."""
        for run in runs:
            self.tag(run, {"superseded": by})

    def answers(self) -> bool:
        """Whether the server does, and the database behind it; SQLite always can."""
        if self.uri is None:
            return True
        try:
            mlflow.MlflowClient(self.address).search_experiments(max_results=1)
        except MlflowException as error:
            return error.get_http_status_code() < 500  # it wants credentials, say, but it is there
        return True

    def attempt(self, call: Callable[[], T], patience: float | None = None) -> T:
        """call(), repeated while the store does not answer.

        Raises:
            Away: it did not for `patience` seconds (the store's own, if None).
            Exception: what `call` raised twice while the store answered; once may be a server that has just come back.
        """
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        refused = False
        while True:
            try:
                return call()
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


def create(database: Path) -> None:
    """A new store, whole or not at all: MLflow's migrations are no transaction, and half of them can never be opened."""
    temporary = database.with_name(f"creating-{database.name}")
    for left in database.parent.glob(f"{temporary.name}*"):  # with SQLite's journal
        left.unlink()
    mlflow.MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
    os.replace(temporary, database)


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
