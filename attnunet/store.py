"""The store of a folder, looked at or cleared: `python -m attnunet.store ui` and `python -m attnunet.store clean`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attnunet import terminal

if TYPE_CHECKING:
    from mlflow.entities import Run


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
    if not (arguments.root / "mlflow.db").exists():
        sys.exit(f"attnunet-store: no store in {arguments.root.resolve()}: mlflow.db is not there")
    if arguments.command == "ui":
        show(arguments.root, arguments.port)
    else:
        clear(arguments.root, arguments.dry_run)


def show(root: Path, port: int) -> None:
    """Become MLflow's server on this store."""
    from attnunet.tracking.store import Store

    store = Store(root, None, patience=0)
    store.reap()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # ten processes for what is not in this store
    address = ["--backend-store-uri", f"sqlite:///{store.database}", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *address, "--workers", "1"])


def clear(root: Path, dry_run: bool) -> None:
    """Runs that failed, were killed or superseded go, with their files, their models and what they had not finished.

    Runs that were deleted on MLflow's page, which keeps their files, go too. Finished runs stay, and the sweep
    above them.
    """
    from mlflow.entities import ViewType

    from attnunet.tracking.store import Store, local_path

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
        why, deleted = reason(run), run.info.lifecycle_stage == "deleted"
        models = store.client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
        folders = [Path(local_path(run.info.artifact_uri)).parent, *(Path(local_path(m.artifact_location)) for m in models)]
        fingerprint = run.data.tags.get("fingerprint")
        if fingerprint and fingerprint not in stays:
            folders += store.root.glob(f"unfinished/{fingerprint}-*")
        if not why or (deleted and not any(folder.exists() for folder in folders)):
            continue
        size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
        gone, freed = gone + 1, freed + size
        print(f"{run.info.run_id}  {why:10}  {size / 1e6:8.1f} MB  {run.info.run_name}")
        if dry_run:
            continue
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for model in models:
            store.client.delete_logged_model(model.model_id)
        if not deleted:
            store.client.delete_run(run.info.run_id)
    print(f"{gone} runs, {freed / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}")


def reason(run: Run) -> str | None:
    """Why a run can go; None for one that stays."""
    if "superseded" in run.data.tags:
        return "superseded"
    if run.info.lifecycle_stage == "deleted":
        return "deleted"
    return str(run.info.status) if run.info.status in ("FAILED", "KILLED") else None


if __name__ == "__main__":
    main()
