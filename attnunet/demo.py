"""Serve a page to try a network on: `python -m attnunet.demo`, in the folder where the runs were made."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from attnunet.config import targets
from attnunet.errors import UserError, exit_on_error
from attnunet.store import LOOPBACK, check_port
from attnunet.sweeps import terminal
from attnunet.training import runtime


def main() -> None:
    """The command `attnunet-demo`."""
    parser = argparse.ArgumentParser(prog="attnunet-demo", description=__doc__)
    runs = "a run by its id or first digits, models:/NAME@ALIAS, study:NAME or a folder with best.keras and predictor.json"
    parser.add_argument("run", nargs="?", help=f"{runs}; by default, the page lets you choose among the runs of the store")
    parser.add_argument("--root", type=Path, default=Path("mlruns"), help="the folder of the store, by default mlruns")
    parser.add_argument("--port", type=int, default=8501, help="the port, by default 8501")
    address = "by default 127.0.0.1, which only this machine reaches; 0.0.0.0 opens the page to everyone in the network"
    parser.add_argument("--address", default=LOOPBACK, help=address)
    upload = "the largest file that can be uploaded, by default 200"
    parser.add_argument("--upload", type=int, default=200, metavar="MB", help=upload)
    modules = "your own module that a network needs; can be given several times"
    parser.add_argument("--module", action="append", default=[], help=modules)
    terminal.escape_unknown_characters()
    arguments = parser.parse_args()
    with exit_on_error():
        if find_spec("streamlit") is None:
            raise UserError("the page needs the package streamlit: pip install 'attnunet[demo]'")
        check_port(arguments.port, arguments.address)
        check_networks(arguments)
        serve(arguments)


def check_networks(arguments: argparse.Namespace) -> None:
    """Raise UserError if there is no network for the page."""
    from attnunet.config import is_folder
    from attnunet.page.networks import find_networks

    if not ((arguments.root / "mlflow.db").exists() or is_folder(arguments.run)):
        raise UserError(
            f"--root {arguments.root}: no runs there; start the command in the folder where the runs were made, or give "
            "their mlruns, or a folder with best.keras and predictor.json"
        )
    targets.allow(arguments.module)
    runtime.available_threads(None)
    find_networks(arguments.root, arguments.run)


def serve(arguments: argparse.Namespace) -> None:
    """Replace this process with Streamlit's server for the page."""
    hosts = ["localhost", LOOPBACK] if arguments.address == LOOPBACK else ["*"]
    settings = {
        "server.address": arguments.address,
        "server.port": arguments.port,
        "server.maxUploadSize": arguments.upload,
        "server.headless": "true",  # asks for no address of a user, and opens no browser
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",  # a traceback goes to the terminal alone
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    # Without this list, a foreign page could give its own name the address 127.0.0.1, and then read this page.
    flags += [f"--server.allowedHosts={host}" for host in hosts]
    script = str(Path(__file__).parent / "page" / "script.py")
    own = [str(arguments.root.resolve()), arguments.run or "", *arguments.module]
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", script, *flags, "--", *own])


if __name__ == "__main__":
    main()
