"""One run in the store: its start, its end, and everything that it logs."""

import logging
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, Param

from attnunet.data.files import checksum, naming
from attnunet.errors import add_note, first_line
from attnunet.tracking.records import PRUNED, checksum_tag
from attnunet.tracking.redaction import redact
from attnunet.tracking.store import Away, Store, Unavailable, local_path

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from attnunet.inference.predictor import Predictor

log = logging.getLogger(__name__)
PULSE = 60.0  # seconds between heartbeats
ERROR = "error"
"""The tag of a failed run. It holds the first line of the error."""


class Run:
    """One MLflow run of this process.

    A metric is logged once for each step, even if the run repeats a step after an interruption. Metrics wait in memory until
    `send` or the thread of `heartbeat` sends them. Everything else is sent at once. If a server does not answer, the call
    that sends waits for it, but for no more than `Store.patience` seconds.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.id = store, run_id
        found = store.attempt(lambda: store.client.get_run(run_id))
        self.experiment_id: str = found.info.experiment_id
        self.artifacts: str = local_path(found.info.artifact_uri)
        histories = (store.attempt(partial(store.client.get_metric_history, run_id, name)) for name in found.data.metrics)
        self.known = set(found.data.params)
        self.logged = {(metric.key, metric.step) for history in histories for metric in history}
        self.checksums = {tag: value for tag, value in found.data.tags.items() if tag.endswith(".checksum")}
        self.ended = {PRUNED, ERROR} & set(found.data.tags)
        self.waiting: list[Metric] = []
        self.sending = threading.Lock()
        self.news = threading.Event()
        self.refusal: Exception | None = None  # the error with which the store refused metrics

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        now = int(time.time() * 1000)
        new = {name: value for name, value in values.items() if (name, step) not in self.logged}
        self.logged |= {(name, step) for name in new}
        self.waiting += [Metric(name, float(value), now, step) for name, value in new.items()]
        self.news.set()

    def send(self, patience: float | None = None) -> None:
        """Send the waiting metrics.

        If the answer of the server is lost, a metric is sent twice. It is stored once, because both copies have the same time.
        """
        with self.sending:
            while batch := self.waiting[:500]:
                self.store.attempt(partial(self.store.client.log_batch, self.id, metrics=batch), patience)
                del self.waiting[: len(batch)]

    def params(self, values: Mapping[str, Any]) -> None:
        """Log new parameters. A parameter that the run logged before an interruption keeps its value."""
        params = [Param(name, redact(str(value))) for name, value in values.items() if name not in self.known]
        for start in range(0, len(params), 100):
            self.store.attempt(partial(self.store.client.log_batch, self.id, params=params[start : start + 100]))

    def tags(self, values: Mapping[str, str], patience: float | None = None) -> None:
        self.store.tag(self.id, values, patience)

    def text(self, content: str, path: str) -> None:
        with tempfile.TemporaryDirectory() as here:
            file = Path(here) / Path(path).name
            file.write_bytes(redact(content).encode())
            self.file(file, str(Path(path).parent))

    def file(self, file: Path, folder: str) -> None:
        with naming(Path(self.artifacts)), self.record_checksums({str(Path(folder, file.name)): checksum(file)}):
            self.store.attempt(lambda: self.store.client.log_artifact(self.id, str(file), None if folder == "." else folder))

    @contextmanager
    def record_checksums(self, checksums: Mapping[str, str]) -> Iterator[None]:
        """Context manager: tag the run with the checksums of what the `with` block writes; `Record.file` checks them.

        If the block replaces an artifact, the tag holds the old and the new checksum until the block ends. The process may
        die before or after the replacement, so both checksums must be valid.
        """
        new = {checksum_tag(path): value for path, value in checksums.items()}
        changed = {tag: value for tag, value in new.items() if self.checksums.get(tag) != value}
        if both := {tag: f"{value} {self.checksums[tag]}" for tag, value in changed.items() if tag in self.checksums}:
            self.tags(both)
        yield
        if changed:
            self.tags(changed)
            self.checksums |= changed

    def network(self, network: "keras.Model", path: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            with naming(file):
                network.save(file)
            self.file(file, str(Path(path).parent))

    def last_step(self, metric: str) -> int:
        """Return the last step at which the metric was logged."""
        return max(step for name, step in self.logged if name == metric)

    def figures(self, drawn: "Mapping[str, Figure]", folder: str = "figures") -> None:
        """Log each figure as a PNG file, and as a PDF file for papers."""
        from attnunet.figures import save_figures

        with tempfile.TemporaryDirectory() as here:
            save_figures(drawn, Path(here))
            self.store.attempt(lambda: self.store.client.log_artifacts(self.id, here, folder))

    def predictor(self, predictor: "Predictor") -> None:
        """Log a predictor twice: as files in checkpoints/, and as an MLflow model that takes volumes of one slice or more."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "predictor"
            with naming(folder):
                predictor.save(folder)
            checksums = {f"checkpoints/{file.name}": checksum(file) for file in folder.iterdir()}
            with naming(Path(self.artifacts)), self.record_checksums(checksums):
                self.store.attempt(lambda: self.store.client.log_artifacts(self.id, str(folder), "checkpoints"))
            with naming(Path(self.artifacts)):
                self.store.attempt(lambda: self.log_model(folder))

    def log_model(self, folder: Path) -> None:
        """Log the MLflow model, unless the run logged it before an interruption. Remove a model that was left unfinished."""
        from attnunet.tracking.model import log_model

        client = self.store.client
        for model in client.search_logged_models([self.experiment_id], f"source_run_id = '{self.id}'"):
            if model.status == "READY":
                return
            client.delete_logged_model(model.model_id)
            left = Path(local_path(model.artifact_location))  # MLflow keeps the files of a deleted model
            if self.store.owns_folder(left, model.model_id):
                shutil.rmtree(left, ignore_errors=True)
        log_model(client, self.id, folder)

    def forget_end(self) -> None:
        """Delete the tags that say how the run ended before it started again."""
        for tag in self.ended:
            self.store.attempt(partial(self.store.client.delete_tag, self.id, tag))

    def end(self, status: str, patience: float | None = None) -> None:
        self.send(patience)
        self.store.attempt(lambda: self.store.client.set_terminated(self.id, status), patience)


class Pruned(Exception):
    """The search ended the run early, after the epoch `epoch`."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"pruned after epoch {epoch}")
        self.epoch = epoch


@contextmanager
def open_run(
    store: Store, study: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str], run_id: str | None = None
) -> Iterator[Run]:
    """Yield a run of the study that is open during a `with` block: a new run, or the run `run_id`, which starts again.

    After the block, the run gets the status FINISHED. After Ctrl-C or SIGTERM, it gets the status KILLED; in this case, the
    process does not wait for a server. After `Pruned`, it gets the status KILLED too, and a tag with the epoch. After another
    error, it gets the status FAILED, and the traceback is logged. If the server does not answer at the end, the next command
    that opens the store gives the run the status KILLED.
    """
    with stop_on_sigterm():
        current = Run(store, store.begin(study, name, tags, run_id))
        current.forget_end()
        current.params(params)
        with heartbeat(current):
            try:
                yield current
            except Away:
                raise
            except (KeyboardInterrupt, SystemExit):
                with suppress(Unavailable):
                    current.end("KILLED", patience=0)
                raise
            except Pruned as pruned:
                current.tags({PRUNED: str(pruned.epoch)})
                current.end("KILLED")
                raise
            except BaseException as error:
                with suppress(Unavailable):
                    for tell in (
                        partial(log_traceback, current, error),
                        partial(current.tags, {ERROR: f"{type(error).__name__}: {error}"[:500]}),
                        partial(current.end, "FAILED"),
                    ):
                        tell_failure(tell)
                raise
            current.end("FINISHED")


def log_traceback(run: Run, error: BaseException) -> None:
    """Log the traceback of an error. A note says where it is, so that the terminal need not show it."""
    run.text("".join(traceback.format_exception(error)), "traceback.txt")
    add_note(error, f"the traceback of run {run.id}: {run.artifacts}/traceback.txt")


def tell_failure(tell: Callable[[], None]) -> None:
    """Call `tell`. Log an error of this call instead of raising it, so that the caller can go on.

    A full disk, for example, may refuse the traceback but accept the status.

    Raises:
        Unavailable: the store does not answer.
    """
    try:
        tell()
    except Unavailable:
        raise
    except Exception as error:
        log.warning("the store does not take the reason of the failure: %s", first_line(error))


@contextmanager
def heartbeat(current: Run) -> Iterator[None]:
    """Send the run's metrics and heartbeats from a thread during a `with` block, so that training never waits for the store.

    A heartbeat every PULSE seconds tells other machines that the run's process is alive.
    """
    ended = threading.Event()

    def work() -> None:
        beaten = time.monotonic()
        while True:
            current.news.wait(PULSE)
            current.news.clear()
            if ended.is_set():
                return
            if time.monotonic() - beaten >= PULSE:
                beaten = time.monotonic()
                with suppress(Exception):  # a lost heartbeat does no harm
                    current.tags({"heartbeat": f"{time.time():.0f}"}, patience=0)
            try:
                current.send(patience=0)
            except Unavailable as unavailable:
                current.store.warn(f"{unavailable}: metrics wait, and training goes on")
            except Exception as error:
                current.refusal = error

    thread = threading.Thread(target=work, daemon=True, name="pulse")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        current.news.set()
        thread.join()


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Make SIGTERM end the `with` block with SystemExit, so that the run does not stay RUNNING."""
    if threading.current_thread() is not threading.main_thread():  # some launchers run jobs in threads, which get no signals
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
