"""The store that runs are in: SQLite below a folder, or an MLflow server."""

import logging
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
from filelock import FileLock
from mlflow.entities import Experiment, Run, RunTag
from mlflow.exceptions import MlflowException

from attnunet.errors import UserError, first_line
from attnunet.tracking import mlflow_internals, processes, sqlite
from attnunet.tracking.redaction import redact

T = TypeVar("T")
log = logging.getLogger(__name__)

PROBE = 10.0  # seconds that a server has to answer
RETRY = 1.0  # seconds between two calls of a server that is away
DENIED = (401, 403)  # HTTP statuses for an unknown user and for one without permission
OURS = {"process", "fingerprint", "sweep", "cross_validated"}
"""Each run of attnunet has at least one of these tags."""


class Unavailable(UserError):
    """A run cannot go on now; the message says what to do, and nothing is lost."""


class Away(Unavailable):
    """The tracking server did not answer for `tracking.patience` seconds, or refuses this user."""


class Busy(Unavailable):
    """A process on another machine is training this run."""


class Store:
    """An MLflow tracking store, with the files below `root` that belong to it."""

    def __init__(self, root: Path, uri: str | None, patience: float) -> None:
        """
        Args:
            root: the folder of unfinished runs, cache and logs, and of the store itself if `uri` is None.
            uri: an MLflow server's address.
            patience: seconds to wait for a store that does not answer.
        """
        self.root, self.uri, self.patience = root.resolve(), uri, patience
        self.database = self.root / "mlflow.db"
        self.trouble: str | None = None  # why the server is known to be away
        self.warned = False
        self.root.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        return self.uri or sqlite.address(self.database)

    @property
    def shown_address(self) -> str:
        """The address for messages, without credentials."""
        return redact(self.uri) if self.uri else str(self.database)

    @property
    def ui_command(self) -> str:
        """The command that shows the runs."""
        if self.uri:
            return f"open {self.shown_address} in a browser"
        mlflow_command = str(Path(sys.executable).with_name("mlflow"))
        return shlex.join([mlflow_command, "ui", "--backend-store-uri", self.address, "--host", "127.0.0.1"])

    def restore_command(self, study: Experiment) -> str:
        """Return the command that restores a deleted study."""
        where = f"MLFLOW_TRACKING_URI={shlex.quote(redact(self.address))}"
        return f"{where} mlflow experiments restore --experiment-id {study.experiment_id}"

    @cached_property
    def client(self) -> mlflow.MlflowClient:
        """MLflow's client, made under a lock, since processes that open a new SQLite store at the same time break it."""
        with self.lock():
            if self.uri:
                self.answers()  # a call to a server that hangs takes MLFLOW_HTTP_REQUEST_TIMEOUT
            else:
                make = mlflow_internals.check_file if self.database.exists() else sqlite.create
                self.attempt(lambda: make(self.database))
            client = self.attempt(lambda: mlflow.MlflowClient(self.address))
            if self.uri:
                self.attempt(lambda: client.search_experiments(max_results=1))
            else:
                self.attempt(lambda: mlflow_internals.relocate(client, self.database, self.root / "artifacts"))
        return client

    def lock(self) -> FileLock:
        """Return the lock under which processes of this disk change studies and sweeps."""
        return FileLock(self.root / ".lock")

    def study(self, name: str) -> str:
        """Return the id of the MLflow experiment `name`, which is made if it does not exist.

        Raises:
            Unavailable: it was deleted, or the store takes no such name.
        """
        client = self.client
        location = None if self.uri else (self.root / "artifacts").as_uri()
        with self.lock():
            found = self.attempt(lambda: client.get_experiment_by_name(name))
            if found is None:
                try:
                    return str(self.attempt(lambda: client.create_experiment(name, artifact_location=location)))
                except MlflowException as error:
                    raise Unavailable(f"study={name}: the store refuses this name: {first_line(error)}") from error
            if found.lifecycle_stage == "deleted":
                raise Unavailable(f"study={name} was deleted in MLflow: take another name, or {self.restore_command(found)}")
            return str(found.experiment_id)

    def runs(self, study: str, condition: str) -> list[Run]:
        """Return the runs of a study that meet MLflow's condition, newest first."""
        newest = ["attributes.start_time DESC"]
        return list(self.attempt(lambda: self.client.search_runs([study], condition, order_by=newest, max_results=1000)))

    def reap(self) -> None:
        """End the runs of dead processes as KILLED.

        Runs that attnunet did not start stay: a server may have others.
        """
        studies = [study.experiment_id for study in self.attempt(self.client.search_experiments)]
        running = "attributes.status = 'RUNNING'"
        for run in self.attempt(lambda: self.client.search_runs(studies, running, max_results=1000)):
            if OURS & set(run.data.tags) and not processes.is_alive(run.data.tags):
                self.attempt(partial(self.client.set_terminated, run.info.run_id, "KILLED"))

    def begin(self, study: str, name: str, tags: Mapping[str, str], run_id: str | None = None) -> str:
        """Start a run of this process, a new one or `run_id` again; return its id."""
        tags = {**tags, **processes.process_tags()}
        if run_id is None:
            shown = {tag: redact(value) for tag, value in tags.items()}
            created = self.attempt(lambda: self.client.create_run(study, tags=shown, run_name=redact(name)))
            return str(created.info.run_id)
        # The tags come first: else another process would find a running run whose process is dead.
        self.tag(run_id, tags)
        self.attempt(lambda: self.client.update_run(run_id, status="RUNNING"))
        return run_id

    def owns_folder(self, folder: Path, identity: str) -> bool:
        """Return whether the folder of a run or model lies in this store; a foreign store may give any address."""
        place = folder.resolve()
        return place.is_relative_to(self.root / "artifacts") and identity in place.parts

    def tag(self, run_id: str, tags: Mapping[str, str], patience: float | None = None) -> None:
        stored = [RunTag(name, redact(value)) for name, value in tags.items()]
        self.attempt(lambda: self.client.log_batch(run_id, tags=stored), patience)

    def supersede(self, runs: Sequence[str], by: str) -> None:
        """Mark runs that another run replaces; `python -m attnunet.store clean` removes them."""
        for run in runs:
            self.tag(run, {"superseded": by})

    def answers(self) -> bool:
        """Return whether the server and its database answer; a server that hangs costs PROBE seconds.

        Raises:
            Away: it refuses this user.
        """
        status = self.status()
        if status is None:
            self.trouble = f"the tracking server {self.shown_address} does not answer"
        elif status in DENIED:
            self.trouble = (
                f"the tracking server {self.shown_address} refuses this user (HTTP {status}): set MLFLOW_TRACKING_USERNAME "
                "and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to what it takes"
            )
            raise Away(self.trouble)
        else:
            self.trouble = f"the tracking server {self.shown_address} answers with HTTP {status}" if status >= 500 else None
        return self.trouble is None

    def status(self) -> int | None:
        """Return the HTTP status with which the server answers a question to its database; None if it does not answer."""
        assert self.uri is not None
        return mlflow_internals.http_status(self.uri, PROBE)

    def warn(self, message: str) -> None:
        """Log a warning, once an outage."""
        if not self.warned:
            log.warning(message)
        self.warned = True

    def attempt(self, call: Callable[[], T], patience: float | None = None) -> T:
        """Return the result of `call`; while the server is away, wait for it and then call again.

        Raises:
            Away: the server did not answer for `patience` seconds (the store's own, if None), or refuses this user.
            Unavailable: the database file of a local store has a fault.
            Exception: `call` raised it twice while the server answered; once could mean that the server has just come back.
        """
        patience = self.patience if patience is None else patience
        deadline = time.monotonic() + patience
        refused, cause = False, None
        while True:
            if self.trouble is None:
                try:
                    answer = call()
                    self.warned = False
                    return answer
                except Exception as error:
                    if self.uri is None:
                        told = sqlite.explain_fault(self.database, error)
                        if told is None:
                            raise
                        raise Unavailable(told) from error
                    if self.answers():
                        if refused:
                            raise
                        refused = True
                    cause = error
            else:
                self.answers()
            if self.trouble is not None:
                if time.monotonic() >= deadline:
                    raise Away(self.trouble) from cause
                self.warn(f"{self.trouble}: waiting for it up to {patience:.0f} s")
            time.sleep(RETRY)


@lru_cache
def open_store(root: Path, uri: str | None, patience: float) -> Store:
    """Return the store; all jobs of a process share it."""
    return Store(root, uri, patience)


def local_path(uri: str) -> str:
    """Return a file: address as a path, and any other address unchanged."""
    return url2pathname(urlparse(uri).path) if uri.startswith("file:") else uri
