"""The store that holds the runs: an SQLite file in a folder, or an MLflow server."""

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
RETRY = 1.0  # seconds between two calls to a server that does not answer
DENIED = (401, 403)  # HTTP statuses for an unknown user and for a user without permission
OURS = {"process", "fingerprint", "sweep", "cross_validated"}
"""Each run of attnunet has at least one of these tags."""


class Unavailable(UserError):
    """A run cannot go on now, but nothing is lost; the message says what to do."""


class Away(Unavailable):
    """The tracking server did not answer for `tracking.patience` seconds, or refuses this user."""


class Busy(Unavailable):
    """A process on another machine is training this run."""


class Store:
    """An MLflow tracking store, with the files below `root` that belong to it."""

    def __init__(self, root: Path, uri: str | None, patience: float) -> None:
        """
        Args:
            root: the folder for unfinished runs, the cache and logs. If `uri` is None, it also holds the store itself.
            uri: the address of an MLflow server; None for a local store.
            patience: the number of seconds to wait for a store that does not answer.
        """
        self.root, self.uri, self.patience = root.resolve(), uri, patience
        self.database = self.root / "mlflow.db"
        self.trouble: str | None = None  # why the server cannot be used; None if it can
        self.warned = False
        self.root.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        return self.uri or sqlite.address(self.database)

    @property
    def shown_address(self) -> str:
        """The address without credentials, for messages."""
        return redact(self.uri) if self.uri else str(self.database)

    @property
    def ui_address(self) -> str:
        """The address of MLflow's page: of the server, or of `attnunet-store ui`."""
        return self.shown_address.rstrip("/") if self.uri else "http://127.0.0.1:5000"

    def run_page(self, study: str, run_id: str) -> str:
        """Return the address of MLflow's page of a run. For a local store, it opens while `ui_command` runs."""
        return f"{self.ui_address}/#/experiments/{study}/runs/{run_id}"

    @property
    def ui_command(self) -> str | None:
        """The command that shows the runs to a user at `ui_address`; None for a server, which always shows them."""
        return None if self.uri else shlex.join([sys.executable, "-m", "attnunet.store", "ui", str(self.root)])

    def restore_command(self, study: Experiment) -> str:
        """Return the command that restores a deleted study."""
        where = f"MLFLOW_TRACKING_URI={shlex.quote(redact(self.address))}"
        return f"{where} mlflow experiments restore --experiment-id {study.experiment_id}"

    @cached_property
    def client(self) -> mlflow.MlflowClient:
        """MLflow's client. It is made under a lock, because processes that open a new SQLite store together break it."""
        with self.lock():
            if self.uri:
                self.answers()  # comes first: if a server hangs, any other call takes MLFLOW_HTTP_REQUEST_TIMEOUT
            else:
                make = mlflow_internals.check_file if self.database.exists() else sqlite.create
                self.attempt(lambda: make(self.database))
            client = self.attempt(lambda: mlflow.MlflowClient(self.address))
            if self.uri:
                self.attempt(lambda: client.search_experiments(max_results=1))
            else:
                self.attempt(lambda: mlflow_internals.relocate(client, self.database, self.root / "artifacts"))
        return client

    def connect(self, patience: float) -> None:
        """Raise Away if the server of a new store does not answer within `patience` seconds, or refuses this user."""
        if self.uri and "client" not in vars(self):
            self.answers()
            try:
                self.attempt(lambda: None, patience)
            except Away as away:
                raise Away(f"{away}: start it, or correct tracking.uri") from away

    def lock(self) -> FileLock:
        """Return the lock that a process on this disk holds while it changes studies or sweeps."""
        return FileLock(self.root / ".lock")

    def study(self, name: str) -> str:
        """Return the id of the MLflow experiment `name`; make the experiment if it does not exist.

        Raises:
            Unavailable: the experiment was deleted, or the store refuses the name.
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
        """Return the runs of a study that meet a condition in MLflow's filter language, newest first."""
        newest = ["attributes.start_time DESC"]
        return list(self.attempt(lambda: self.client.search_runs([study], condition, order_by=newest, max_results=1000)))

    def reap(self) -> None:
        """Give the status KILLED to each run that has the status RUNNING but whose process is dead.

        A run that attnunet did not start keeps its status, because other programs may use the same server.
        """
        studies = [study.experiment_id for study in self.attempt(self.client.search_experiments)]
        running = "attributes.status = 'RUNNING'"
        for run in self.attempt(lambda: self.client.search_runs(studies, running, max_results=1000)):
            if OURS & set(run.data.tags) and not processes.is_alive(run.data.tags):
                self.attempt(partial(self.client.set_terminated, run.info.run_id, "KILLED"))

    def begin(self, study: str, name: str, tags: Mapping[str, str], run_id: str | None = None) -> str:
        """Start a new run of this process, or start the run `run_id` again; return the id of the run."""
        tags = {**tags, **processes.process_tags()}
        if run_id is None:
            shown = {tag: redact(value) for tag, value in tags.items()}
            created = self.attempt(lambda: self.client.create_run(study, tags=shown, run_name=redact(name)))
            return str(created.info.run_id)
        # The tags are set first. Otherwise another process could find the status RUNNING and the tags of a dead process.
        self.tag(run_id, tags)
        self.attempt(lambda: self.client.update_run(run_id, status="RUNNING"))
        return run_id

    def owns_folder(self, folder: Path, identity: str) -> bool:
        """Return whether the folder of a run or model lies in this store. A foreign store may hold any other address."""
        place = folder.resolve()
        return place.is_relative_to(self.root / "artifacts") and identity in place.parts

    def tag(self, run_id: str, tags: Mapping[str, str], patience: float | None = None) -> None:
        stored = [RunTag(name, redact(value)) for name, value in tags.items()]
        self.attempt(lambda: self.client.log_batch(run_id, tags=stored), patience)

    def supersede(self, runs: Sequence[str], by: str) -> None:
        """Mark runs as superseded by the run `by`; `python -m attnunet.store clean` removes the marked runs."""
        for run in runs:
            self.tag(run, {"superseded": by})

    def answers(self) -> bool:
        """Return whether the server and its database answer. If the server hangs, this takes PROBE seconds.

        Raises:
            Away: the server refuses this user.
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
        """Return the HTTP status with which the server answers a query of its database; None if it does not answer."""
        assert self.uri is not None
        return mlflow_internals.http_status(self.uri, PROBE)

    def warn(self, message: str) -> None:
        """Log a warning, unless one was already logged in this outage."""
        if not self.warned:
            log.warning(message)
        self.warned = True

    def attempt(self, call: Callable[[], T], patience: float | None = None) -> T:
        """Return the result of `call`. If the server does not answer, wait until it does, and then call again.

        Args:
            patience: the number of seconds to wait; None for `Store.patience`.

        Raises:
            Away: the server did not answer for `patience` seconds, or refuses this user.
            Unavailable: the database file of a local store has a fault.
            Exception: any other error of `call`. With a server, it is raised only if `call` fails twice while the server
                answers: after the first failure, the server may just have come back.
        """
        patience = self.patience if patience is None else patience
        deadline = time.monotonic() + patience
        refused, cause = False, None
        while True:
            if self.trouble is None:
                try:
                    answer = call()
                    if self.warned:
                        log.warning(f"the tracking server {self.shown_address} answers again")
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
    """Return the store with these settings; all jobs of a process share one object."""
    return Store(root, uri, patience)


def local_path(uri: str) -> str:
    """Return the path in an address that begins with `file:`; return any other address unchanged."""
    return url2pathname(urlparse(uri).path) if uri.startswith("file:") else uri
