"""Decide how a run starts: as a new run, by resuming an interrupted run, or by reusing a finished run."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from attnunet.config.fingerprints import Identity
from attnunet.data.files import digest
from attnunet.errors import add_note
from attnunet.tracking.machine import PREFIX
from attnunet.tracking.store import Away, Busy, Store

SCORE = "final/monitor"
"""The metric that holds the best value of `monitor` in a run. `train` returns this value in its outcome."""


@dataclass(frozen=True)
class Start:
    """How a run starts.

    Attributes:
        how: the outcome of the run if it succeeds: "finished", "resumed" or "reused".
        why: the reason, in one line for the terminal.
        folder: the folder that keeps the state and the checkpoints of the run until they are logged.
        run_id: the id of the MLflow run that is resumed or reused; None if MLflow gets a new run.
        score: the score of a reused run; None for any other run.
        replaces: the ids of earlier runs with the same fingerprint, which this run supersedes.
        machine: the kind of machine on which a resumed run started.
    """

    how: str
    why: str
    folder: Path
    run_id: str | None = None
    score: float | None = None
    replaces: tuple[str, ...] = ()
    machine: str | None = None

    def doubt(self, machine: str) -> str | None:
        """Return a warning if a resumed run started on a machine other than `machine`; else None."""
        if self.machine in (None, machine):
            return None
        return f"the last bits may differ: the run started on {self.machine}, and this machine is {machine}"


def lock_of(folder: Path) -> FileLock:
    """Return the lock of the run whose state is in `folder`. A process holds the lock while it trains the run."""
    return FileLock(f"{folder}.lock")


def unfinished_folder(store: Store, study: str, fingerprint: str) -> Path:
    """Return the folder that keeps the state of an unfinished run. `study` is the id of its MLflow experiment."""
    return store.root / "unfinished" / f"{fingerprint}-{digest([store.uri, study])}"


def has_state(folder: Path) -> bool:
    """Return whether the folder of an unfinished run holds the state of an epoch, from which the run can be resumed."""
    return any(folder.glob("state*.npz"))


@contextmanager
def claim_start(store: Store, study: str, identity: Identity, resume: str, say: Callable[[str], None]) -> Iterator[Start]:
    """Yield how the run with this identity starts. No other process on this disk can train the run during the `with` block.

    If another process on this disk trains the run now, wait until that process ends.

    Args:
        study: the id of the MLflow experiment.
        resume: "auto"; or "never", which always starts a new run.
        say: a function that prints a line.

    Raises:
        Busy: a living process trains the run on a machine with another disk.
    """
    folder = unfinished_folder(store, study, identity.fingerprint)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("waiting: another process trains this run")
        lock.acquire()
    try:
        found = find_start(store, study, identity, resume, folder)
        if found.score is None:
            folder.mkdir(exist_ok=True)  # from this folder, the next start knows that the state is on this disk
        yield found
    except Away as away:
        raise Away(f"{away}; what was trained is kept in {folder}, and the same command sends it") from away
    except (KeyboardInterrupt, SystemExit) as stop:
        command = "the same command" if resume == "auto" else "the same command with resume=auto"
        epochs = count_epochs(folder)
        add_note(stop, f"{command} {f'goes on after epoch {epochs}' if epochs else 'starts the run again'}")
        raise
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # a waiting process sees that the file is gone, and makes a new lock
        lock.release()


def count_epochs(folder: Path) -> int:
    """Return the number of epochs after which a training can go on from the state in a folder; see `training.state.State`."""
    for file in (folder / "state.npz", folder / "state-before.npz"):
        # For a damaged file, NumPy, zipfile and json raise many kinds of errors.
        with suppress(Exception), file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return len(json.loads(str(stored["history"])))
    return 0


def find_start(store: Store, study: str, identity: Identity, resume: str, folder: Path) -> Start:
    """Return how a run starts, by the runs of the study that have its fingerprint and by the state in a folder.

    A finished run with a score is reused, unless the code of one of its metrics has changed. Otherwise the latest unfinished
    run goes on from its state. A new run starts where there is none, where its state is gone, and with resume="never".

    Raises:
        Busy: another process is training the run.
    """
    store.reap()
    found = store.runs(study, f"tags.fingerprint = '{identity.fingerprint}'")
    runs = [run for run in found if "superseded" not in run.data.tags]
    earlier = tuple(run.info.run_id for run in runs)
    if resume == "never":
        shutil.rmtree(folder, ignore_errors=True)
        return Start("finished", "new run: resume=never", folder, replaces=earlier)

    for run in runs:
        if run.info.status == "FINISHED" and SCORE in run.data.metrics:
            if changed := identity.changed_metrics(run.data.tags):
                why = f"new run: run {run.info.run_id} is the same, but its {', '.join(changed)} came from other code"
                return Start("finished", why, folder, replaces=earlier)
            shutil.rmtree(folder, ignore_errors=True)
            ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.end_time / 1000))
            same = "with the same data, code, threads and settings"
            why = f"reused run {run.info.run_id}, finished {ended}: {run.info.run_name}, {same}"
            return Start("reused", why, folder, run.info.run_id, run.data.metrics[SCORE])
        if run.info.status == "RUNNING":
            raise Busy(f"run {run.info.run_id} is being trained on {run.data.tags.get('host')}: wait for it, or resume=never")

    state = has_state(folder)
    if not runs:
        if state:
            return Start("resumed", "resumed from its state on disk: its run was deleted in MLflow", folder)
        return Start("finished", f"new run: {explain_new(store, study, identity)}", folder)
    last, replaced = runs[0], earlier[1:]
    name = f"run {last.info.run_id} ({last.info.status})"
    trained = [name for name in last.data.metrics if not name.startswith(PREFIX)]
    if folder.exists() or not trained:
        why = f"resumed {name}{' from its last epoch' if state else ', which had ended no epoch'}"
        return Start("resumed", why, folder, last.info.run_id, replaces=replaced, machine=last.data.tags.get("machine"))
    why = f"new run: the state of {name} is not in {folder}"
    return Start("finished", why, folder, replaces=earlier)


def explain_new(store: Store, study: str, identity: Identity) -> str:
    same = store.runs(study, f"tags.recipe = '{identity.recipe}'")
    if not same:
        return "none with this fingerprint"
    before = same[0].data.tags
    changed = [f"its {name} ({before.get(name)})" for name, now in identity.arithmetic.items() if before.get(name) != now]
    if not changed:
        return f"run {same[0].info.run_id} was superseded"
    return f"run {same[0].info.run_id} is the same but for {' and '.join(changed)}, which change the last bits"
