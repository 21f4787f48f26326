"""Remove the runs that nobody needs, and the files of these runs."""

import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from filelock import Timeout
from mlflow.entities import LoggedModel, Run, ViewType

from attnunet.tracking import registry
from attnunet.tracking.records import list_studies, search_runs
from attnunet.tracking.resume import has_state, lock_of, unfinished_folder
from attnunet.tracking.store import OURS, Store, local_path


def clear(store: Store, dry_run: bool, confirm: Callable[[str], bool]) -> None:
    """Remove failed, killed, superseded and deleted runs. With `dry_run`, only print which runs would be removed.

    The files, the models and the unfinished state of each run are removed, too. A deleted run is a run that was deleted on
    MLflow's page, which keeps the files of the run. A finished run stays, unless another run supersedes it. The parent run
    of a sweep stays if one of its jobs stays, and so does the run from whose weights a kept run started (`init`). A run also
    stays if its model is registered, or if another process is about to resume it. No file outside of `root` is touched.

    On a server, only runs of attnunet are deleted, and the server keeps their files until its `mlflow gc`.

    Args:
        confirm: a function that returns the answer to the question whether to remove the runs that can be resumed, too.
    """
    store.reap()
    found = search_runs(store, list_studies(store, ViewType.ALL), view=ViewType.ALL)
    runs = [run for run in found if not store.uri or OURS & set(run.data.tags)]
    kept = {run.info.run_id for run in runs if not reason_to_clear(run)} | registry.registered_runs(store)
    resumable = [run for run in runs if run.info.run_id not in kept and can_be_resumed(store, run)]
    if resumable and not dry_run:
        for run in resumable:
            host = run.data.tags.get("host")
            print(f"{run.info.run_id}  {run.info.status:10}  {run.info.run_name}, whose state is on {host}")
        if not confirm(f"{count(resumable)} can be resumed by the same command"):
            kept |= {run.info.run_id for run in resumable}
    origins = {run.info.run_id: run.data.params.get("init") for run in runs}
    for origin in list(kept):
        while origin := origins.get(origin):
            kept.add(origin)
    kept |= {run.data.tags.get("mlflow.parentRunId") for run in runs if run.info.run_id in kept}
    states = {state_of(store, run) for run in runs if run.info.run_id in kept}
    gone, freed = [], 0
    for run in runs:
        if run.info.run_id in kept:
            continue
        state = state_of(store, run)
        try:
            with hold_locks([state] if state else []):
                size = remove(store, run.info.run_id, [state] if state and state not in states else [], dry_run)
        except Timeout:
            continue  # another process is resuming this run
        if size is not None:
            gone.append(run)
            freed += size
            states.add(state)  # an earlier run with the same settings does not count it again
    print(f"{count(gone)}, {freed / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}")
    if dry_run and resumable:
        print(f"{count(resumable)} of these can be resumed; clean asks before it removes them")
    if store.uri and gone:
        server = store.shown_address
        print(
            f"{server} keeps the files of deleted runs; there, this frees them: MLFLOW_TRACKING_URI={server} mlflow gc "
            "--backend-store-uri DATABASE"
        )


def count(runs: Sized) -> str:
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"


def state_of(store: Store, run: Run) -> Path | None:
    """Return the folder that keeps the state of a run while it is unfinished; None for a run that cannot have one."""
    fingerprint = run.data.tags.get("fingerprint", "")
    known = re.fullmatch("[0-9a-z]+", fingerprint)  # a tag from a foreign store could lead to any folder
    return unfinished_folder(store, run.info.experiment_id, fingerprint) if known else None


def can_be_resumed(store: Store, run: Run) -> bool:
    """Return whether an unfinished run has a state on this disk, or may have one on the machine that started it."""
    state = state_of(store, run)
    if state is None or reason_to_clear(run) not in ("FAILED", "KILLED"):
        return False
    return has_state(state) or (store.uri is not None and run.data.tags.get("host") != platform.node())


@contextmanager
def hold_locks(folders: Iterable[Path]) -> Iterator[None]:
    """Hold the locks of these folders during a `with` block, so that no process resumes a run with one of these folders.

    Raises:
        Timeout: another process holds one of the locks.
    """
    with ExitStack() as stack:
        for folder in folders:
            lock = lock_of(folder)
            lock.acquire(timeout=0)
            stack.callback(lock.release)
            stack.callback(Path(lock.lock_file).unlink, missing_ok=True)
        yield


def remove(store: Store, run_id: str, left: Iterable[Path], dry_run: bool) -> int | None:
    """Remove a run, its files, its models and the folders `left`; return the size of all removed files in bytes.

    Return None if the run stays. With `dry_run`, remove nothing, but print the run and return the size.
    """
    # The run is read again, because from now on no other process can resume it.
    run = store.attempt(lambda: store.client.get_run(run_id))
    why, deleted = reason_to_clear(run), run.info.lifecycle_stage == "deleted"
    models = find_models(store, run)
    folders = [*own_folders(store, run, models), *left]
    if not why or (deleted and not any(folder.exists() for folder in folders)):
        return None
    size = sum(map(folder_size, folders))
    print(f"{run_id}  {why:10}  {size / 1e6:8.1f} MB  {run.info.run_name}")
    if not dry_run:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for model in models:
            store.attempt(partial(store.client.delete_logged_model, model.model_id))
        if not deleted:
            store.attempt(lambda: store.client.delete_run(run_id))
    return size


def find_models(store: Store, run: Run) -> list[LoggedModel]:
    """Return the models that a run logged."""
    source = f"source_run_id = '{run.info.run_id}'"
    return list(store.attempt(lambda: store.client.search_logged_models([run.info.experiment_id], source)))


def own_folders(store: Store, run: Run, models: Iterable[LoggedModel]) -> list[Path]:
    """Return the folders of a run and its models that lie in this store; none if a server keeps the files."""
    addresses = {run.info.run_id: Path(local_path(run.info.artifact_uri)).parent}
    addresses |= {model.model_id: Path(local_path(model.artifact_location)) for model in models}
    return [folder for identity, folder in addresses.items() if not store.uri and store.owns_folder(folder, identity)]


def folder_size(folder: Path) -> int:
    """Return the size of all files in a folder in bytes; 0 if there is no such folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def reason_to_clear(run: Run) -> str | None:
    """Return why a run can be removed; None if the run stays, for example because it is running."""
    if run.info.status == "RUNNING":
        return None
    if "superseded" in run.data.tags:
        return "superseded"
    if run.info.lifecycle_stage == "deleted":
        return "deleted"
    return str(run.info.status) if run.info.status in ("FAILED", "KILLED") else None
