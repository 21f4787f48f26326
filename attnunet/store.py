"""The store of a folder, looked at or cleared: `python -m attnunet.store ui` and `python -m attnunet.store clean`."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attnunet import terminal
from attnunet.errors import UserError, exit_on_error

if TYPE_CHECKING:
    from mlflow.entities import Run

    from attnunet.tracking.store import Store


def main() -> None:
    """The command `attnunet-store`."""
    parser = argparse.ArgumentParser(prog="attnunet-store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ui = commands.add_parser("ui", help="MLflow's page on the runs, on loopback; finds the files of a folder that was moved")
    ui.add_argument("root", nargs="?", type=Path, default=Path("mlruns"), help="tracking.root, by default mlruns")
    ui.add_argument("--port", type=int, default=5000)
    clean = commands.add_parser("clean", help="remove what failed, killed, superseded and deleted runs left on disk")
    clean.add_argument("root", nargs="?", type=Path, default=Path("mlruns"), help="tracking.root, by default mlruns")
    clean.add_argument("--dry-run", action="store_true", help="only say what would go")
    terminal.escape_unknown_characters()
    arguments = parser.parse_args()
    with exit_on_error():
        if not (arguments.root / "mlflow.db").exists():
            raise UserError(f"no store in {arguments.root.resolve()}: mlflow.db is not there")
        if arguments.command == "ui":
            check_port(arguments.port)
            show(arguments.root, arguments.port)
        else:
            clear(arguments.root, arguments.dry_run)


def check_port(port: int) -> None:
    """Raise UserError where no server can listen on a port of loopback; MLflow's would end with exit code 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port that was just left is free
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--port {port}: {reason}; give another port, from 1024 to 65535") from error


def show(root: Path, port: int) -> None:
    """Become MLflow's server on this store."""
    from attnunet.tracking.store import Store

    store = Store(root, None, patience=0)
    store.reap()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # ten processes for what is not in this store
    address = ["--backend-store-uri", store.address, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *address, "--workers", "1"])


def clear(root: Path, dry_run: bool) -> None:
    """Runs that failed, were killed or superseded go, with their files, their models and what they had not finished.

    Runs that were deleted on MLflow's page, which keeps their files, go too. Finished runs stay, and the sweep
    above them, and what a process is about to take up again.
    """
    from filelock import Timeout
    from mlflow.entities import ViewType

    from attnunet.tracking.store import Store

    store = Store(root, None, patience=0)
    store.reap()
    studies = [study.experiment_id for study in store.client.search_experiments(ViewType.ALL)]
    runs = store.client.search_runs(studies, run_view_type=ViewType.ALL, max_results=50_000)
    stays = {run.data.tags.get("fingerprint") for run in runs if not reason(run)}
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs if not reason(run)}
    gone, freed = 0, 0
    for run in runs:
        if run.info.run_id in parents:
            continue  # of jobs that stay
        fingerprint = run.data.tags.get("fingerprint")
        left = {path.with_suffix("") for path in store.root.glob(f"unfinished/{fingerprint}-*")} if fingerprint else set()
        try:
            with locked(left):
                size = remove(store, run.info.run_id, left if fingerprint not in stays else set(), dry_run)
        except Timeout:
            continue  # a process is at it
        if size is not None:
            gone, freed = gone + 1, freed + size
    print(f"{gone} runs, {freed / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}")


@contextmanager
def locked(folders: Iterable[Path]) -> Iterator[None]:
    """For a block in which no process takes up what is kept in these folders.

    Raises:
        Timeout: one does already.
    """
    from attnunet.tracking.resume import lock_of

    with ExitStack() as stack:
        for folder in folders:
            lock = lock_of(folder)
            lock.acquire(timeout=0)
            stack.callback(lock.release)
            stack.callback(Path(lock.lock_file).unlink, missing_ok=True)
        yield


def remove(store: Store, run_id: str, left: Iterable[Path], dry_run: bool) -> int | None:
    """Remove a run that can go, with its files, its models and what is `left` of it; -> bytes, None of one that stays."""
    from attnunet.tracking.store import local_path

    run = store.client.get_run(run_id)  # as it is now, that no other process can take it up
    why, deleted = reason(run), run.info.lifecycle_stage == "deleted"
    models = store.client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    folders = [Path(local_path(run.info.artifact_uri)).parent, *(Path(local_path(m.artifact_location)) for m in models), *left]
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


def reason(run: Run) -> str | None:
    """Why a run can go; None for one that stays, as each does that is under way."""
    if run.info.status == "RUNNING":
        return None
    if "superseded" in run.data.tags:
        return "superseded"
    if run.info.lifecycle_stage == "deleted":
        return "deleted"
    return str(run.info.status) if run.info.status in ("FAILED", "KILLED") else None


if __name__ == "__main__":
    main()
