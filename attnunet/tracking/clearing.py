"""Remove the runs that nobody needs, and the files of these runs."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout
from mlflow.entities import Run, ViewType

from attnunet.tracking import registry
from attnunet.tracking.resume import lock_of
from attnunet.tracking.store import Store, local_path


def clear(root: Path, dry_run: bool) -> None:
    """Remove failed, killed, superseded and deleted runs. With `dry_run`, only print which runs would be removed.

    The files, the models and the unfinished state of each run are removed, too. A deleted run is a run that was deleted on
    MLflow's page, which keeps the files of the run. A finished run stays, unless another run supersedes it. The parent run
    of a sweep stays if one of its jobs stays. A run also stays if its model is registered, or if another process is about to
    resume it. No file outside of `root` is touched.
    """
    store = Store(root, None, patience=0)
    store.reap()
    studies = [study.experiment_id for study in store.client.search_experiments(ViewType.ALL)]
    runs = store.client.search_runs(studies, run_view_type=ViewType.ALL, max_results=50_000)
    stays = {run.data.tags.get("fingerprint") for run in runs if not reason_to_clear(run)}
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs if not reason_to_clear(run)}
    registered = registry.registered_runs(store)
    gone, freed = 0, 0
    for run in runs:
        if run.info.run_id in parents | registered:
            continue  # a job of this parent run stays, or the registered model needs its files
        fingerprint = run.data.tags.get("fingerprint")
        known = re.fullmatch("[0-9a-z]+", fingerprint or "")  # a tag from a foreign store could hold a glob pattern
        left = {path.with_suffix("") for path in store.root.glob(f"unfinished/{fingerprint}-*")} if known else set()
        try:
            with hold_locks(left):
                size = remove(store, run.info.run_id, left if fingerprint not in stays else set(), dry_run)
        except Timeout:
            continue  # another process is resuming this run
        if size is not None:
            gone, freed = gone + 1, freed + size
    print(f"{gone} runs, {freed / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}")


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
    run = store.client.get_run(run_id)  # read again, because from now on no other process can resume the run
    why, deleted = reason_to_clear(run), run.info.lifecycle_stage == "deleted"
    models = store.client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    addresses = {run_id: Path(local_path(run.info.artifact_uri)).parent}
    addresses |= {model.model_id: Path(local_path(model.artifact_location)) for model in models}
    folders = [*(folder for identity, folder in addresses.items() if store.owns_folder(folder, identity)), *left]
    if not why or (deleted and not any(folder.exists() for folder in folders)):
        return None
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    print(f"{run_id}  {why:10}  {size / 1e6:8.1f} MB  {run.info.run_name}")
    if not dry_run:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for model in models:
            store.client.delete_logged_model(model.model_id)
        if not deleted:
            store.client.delete_run(run_id)
    return size


def reason_to_clear(run: Run) -> str | None:
    """Return why a run can be removed; None if the run stays, for example because it is running."""
    if run.info.status == "RUNNING":
        return None
    if "superseded" in run.data.tags:
        return "superseded"
    if run.info.lifecycle_stage == "deleted":
        return "deleted"
    return str(run.info.status) if run.info.status in ("FAILED", "KILLED") else None
