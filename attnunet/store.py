"""Show or clear the store of a folder: `python -m attnunet.store ui` and `python -m attnunet.store clean`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from attnunet.errors import UserError, exit_on_error
from attnunet.sweeps import terminal

LOOPBACK = "127.0.0.1"


def main() -> None:
    """The command `attnunet-store`."""
    parser = argparse.ArgumentParser(prog="attnunet-store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ui = commands.add_parser(
        "ui", help="show the runs in MLflow's page, on this machine only; works after the folder was moved"
    )
    ui.add_argument("root", nargs="?", type=Path, default=Path("mlruns"), help="tracking.root, by default mlruns")
    ui.add_argument("--port", type=int, default=5000)
    clean = commands.add_parser("clean", help="remove what failed, killed, superseded and deleted runs left on disk")
    clean.add_argument("root", nargs="?", type=Path, default=Path("mlruns"), help="tracking.root, by default mlruns")
    clean.add_argument("--dry-run", action="store_true", help="only list the runs that would be removed")
    terminal.escape_unknown_characters()
    arguments = parser.parse_args()
    with exit_on_error():
        if not (arguments.root / "mlflow.db").exists():
            raise UserError(f"no store in {arguments.root.resolve()}: mlflow.db is not there")
        if arguments.command == "ui":
            check_port(arguments.port)
            serve(arguments.root, arguments.port)
        else:
            from attnunet.tracking.clearing import clear

            clear(arguments.root, arguments.dry_run)


def check_port(port: int, address: str = LOOPBACK) -> None:
    """Raise UserError if no server can listen on this port and address. MLflow's server would then exit with code 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # like the server: a port is free at once after its use
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            given = f"--port {port}" if address == LOOPBACK else f"--address {address} --port {port}"
            raise UserError(f"{given}: {reason}; give another port, from 1024 to 65535") from error


def serve(root: Path, port: int) -> None:
    """Replace this process with MLflow's server for the store."""
    from attnunet.tracking.page import place_of
    from attnunet.tracking.store import Store

    store = Store(root, None, patience=0)
    store.reap()
    for study in store.client.search_experiments(order_by=["last_update_time DESC"], max_results=10):
        if study.experiment_id != "0":  # MLflow's own, which is empty
            print(f"{study.name}: http://{LOOPBACK}:{port}/{place_of(study.experiment_id)}", flush=True)
    # Otherwise MLflow starts ten processes for jobs. This store has no jobs.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    address = ["--backend-store-uri", store.address, "--host", LOOPBACK, "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *address, "--workers", "1"])


if __name__ == "__main__":
    main()
