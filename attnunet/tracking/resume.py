"""What is there of a run already: finished, unfinished, or under way in another process."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from attnunet.tracking.store import Away, Busy, Store

SCORE = "final/monitor"
"""The metric that holds a run's best value of `monitor`, which `train` returns."""


@dataclass(frozen=True)
class Start:
    """Where a run stands before it starts.

    Attributes:
        how: "finished" (by this process, when it ends), "resumed" or "reused".
        why: a line for the terminal.
        folder: where its state and checkpoints are kept until they are logged.
        run_id: the MLflow run to go on under, or that was reused; None for a new one.
        score: what a reused run reached.
        replaces: earlier runs of the same fingerprint, which this one supersedes.
        machine: the kind of machine that a resumed run was begun on.
    """

    how: str
    why: str
    folder: Path
    run_id: str | None = None
    score: float | None = None
    replaces: tuple[str, ...] = ()
    machine: str | None = None

    def doubt(self, machine: str) -> str | None:
        """Return a line where this machine is another kind than the run's; what it computes on is known once it computes."""
        if self.machine in (None, machine):
            return None
        return f"its last bits may differ: it was begun on {self.machine}, this is {machine}"


def lock_of(folder: Path) -> FileLock:
    """What a process holds from when it looks for its run, which is kept in `folder`, until it has ended."""
    return FileLock(f"{folder}.lock")


@contextmanager
def claim_start(
    store: Store,
    study: str,
    fingerprint: str,
    recipe: str,
    arithmetic: Mapping[str, str],
    resume: str,
    say: Callable[[str], None],
) -> Iterator[Start]:
    """Where the run with this fingerprint stands; no other process on this disk trains it while the block lasts.

    Args:
        study: the MLflow experiment's id.
        recipe: the fingerprint less the arithmetic.
        arithmetic: the tags of what only the last bits depend on, threads and settings of libraries.
        resume: "auto", or "never" to start anew whatever there is.
        say: prints a line.

    Raises:
        Busy: a living process on a machine with another disk trains it.
    """
    place = hashlib.blake2b(f"{store.uri} {study}".encode(), digest_size=4).hexdigest()
    folder = store.root / "unfinished" / f"{fingerprint}-{place}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("waiting: another process trains this run")
        lock.acquire()
    try:
        found = find_start(store, study, fingerprint, recipe, arithmetic, resume, folder)
        if found.score is None:
            folder.mkdir(exist_ok=True)  # by which the next start knows that its state, if any, was on this disk
        yield found
    except Away as away:
        raise Away(f"{away}; what was trained is kept in {folder}, and the same command sends it") from away
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # one that waits for it sees that, and takes a new one
        lock.release()


def find_start(
    store: Store, study: str, fingerprint: str, recipe: str, arithmetic: Mapping[str, str], resume: str, folder: Path
) -> Start:
    store.reap()
    runs = [run for run in store.runs(study, f"tags.fingerprint = '{fingerprint}'") if "superseded" not in run.data.tags]
    earlier = tuple(run.info.run_id for run in runs)
    if resume == "never":
        shutil.rmtree(folder, ignore_errors=True)
        return Start("finished", "new run: resume=never", folder, replaces=earlier)

    for run in runs:
        if run.info.status == "FINISHED" and SCORE in run.data.metrics:
            shutil.rmtree(folder, ignore_errors=True)
            ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.info.end_time / 1000))
            why = f"reused run {run.info.run_id}, finished {ended}: {run.info.run_name}, with the same data, code and threads"
            return Start("reused", why, folder, run.info.run_id, run.data.metrics[SCORE])
        if run.info.status == "RUNNING":
            raise Busy(f"run {run.info.run_id} is being trained on {run.data.tags.get('host')}: wait for it, or resume=never")

    state = any(folder.glob("state*.npz"))
    if not runs:
        if state:
            return Start("resumed", "resumed from its state on disk: its run was deleted in MLflow", folder)
        return Start("finished", f"new run: {explain_new(store, study, recipe, arithmetic)}", folder)
    last, replaced = runs[0], earlier[1:]
    name = f"run {last.info.run_id} ({last.info.status})"
    if folder.exists() or not last.data.metrics:
        why = f"resumed {name} {'from its last epoch' if state else ', which had ended no epoch'}"
        return Start("resumed", why, folder, last.info.run_id, replaces=replaced, machine=last.data.tags.get("machine"))
    why = f"new run: the state of {name} is not in {folder}"
    return Start("finished", why, folder, replaces=earlier)


def explain_new(store: Store, study: str, recipe: str, arithmetic: Mapping[str, str]) -> str:
    same = store.runs(study, f"tags.recipe = '{recipe}'")
    if not same:
        return "none with this fingerprint"
    before = same[0].data.tags
    changed = [f"its {name} ({before.get(name)})" for name, now in arithmetic.items() if before.get(name) != now]
    if not changed:
        return f"run {same[0].info.run_id} was superseded"
    return f"run {same[0].info.run_id} is the same but for {' and '.join(changed)}, which change the last bits"
