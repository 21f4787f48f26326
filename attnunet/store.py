"""List, show or clear the runs of a store: `python -m attnunet.store ls`, `show RUN`, `clean` and `ui`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from attnunet.errors import UserError, exit_on_error
from attnunet.sweeps import terminal

LOOPBACK = "127.0.0.1"
WIDE = 1000
"""The width in columns of tables that do not go to a terminal: no row is broken."""


def main() -> None:
    """The command `attnunet-store`."""
    parser = argparse.ArgumentParser(prog="attnunet-store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("ls", help="list the studies and their runs, newest first")
    listing.add_argument("study", nargs="?", help="list all runs of this study; by default, the latest runs of each study")
    show = commands.add_parser("show", help="show what a run was, its scores, its command, its files, and how to go on")
    show.add_argument("run", help="the id of the run, its first digits, or models:/NAME@ALIAS")
    clean = commands.add_parser("clean", help="remove what failed, killed, superseded and deleted runs left on disk")
    clean.add_argument("--dry-run", action="store_true", help="only list the runs that would be removed")
    clean.add_argument("--yes", action="store_true", help="also remove the runs that can be resumed, without a question")
    ui = commands.add_parser(
        "ui", help="show the runs in MLflow's page, on this machine only; works after the folder was moved"
    )
    ui.add_argument("--port", type=int, default=5000)
    for command in (clean, ui):
        command.add_argument("root", nargs="?", type=Path, default=Path("mlruns"), help="tracking.root, by default mlruns")
    for command in (listing, show):
        command.add_argument("--root", type=Path, default=Path("mlruns"), help="tracking.root, by default mlruns")
    for command in (listing, show, clean):
        command.add_argument("--uri", help="tracking.uri, the address of an MLflow server, such as http://HOST:5000")
    terminal.escape_unknown_characters()
    arguments = parser.parse_args()
    with exit_on_error():
        uri = getattr(arguments, "uri", None)
        check_place(arguments.root, uri)
        if arguments.command == "ui":
            check_port(arguments.port)
            serve(arguments.root, arguments.port)
            return
        from attnunet.tracking.store import Store

        store, console = Store(arguments.root, uri, patience=0), terminal.console(WIDE)
        if arguments.command == "clean":
            from attnunet.tracking.clearing import clear

            clear(store, arguments.dry_run, lambda found: arguments.yes or ask(found))
        elif arguments.command == "ls":
            from attnunet.evaluation.stored import print_studies

            print_studies(store, arguments.study, console)
        else:
            from attnunet.evaluation.stored import print_run

            print_run(store, arguments.run, console)


def check_place(root: Path, uri: str | None) -> None:
    """Raise an error if there is no store in the folder `root`, or if `uri` is given and is no address of a server."""
    if uri is None:
        if not (root / "mlflow.db").exists():
            raise UserError(f"no store in {root.resolve()}: mlflow.db is not there")
        return
    from attnunet.config.checks import find_errors
    from attnunet.config.schema import Tracking

    if wrong := list(find_errors(Tracking, {"root": str(root), "uri": uri, "patience": 0}, "tracking.")):
        raise UserError("\n".join(wrong))


def ask(found: str) -> bool:
    """Return whether the user wants to remove runs that can be resumed. Without a terminal, return False.

    `found` says how many runs these are.
    """
    if not sys.stdin.isatty():
        print(f"{found}; without a terminal, such runs stay: --yes removes them, too")
        return False
    try:
        return input(f"{found}. Remove such runs, too? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


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
