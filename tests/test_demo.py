"""The command `attnunet-demo`: what it refuses, and how it starts Streamlit."""

import os
import socket
import sys
from pathlib import Path

import pytest

from attnunet import demo
from attnunet.config import targets
from attnunet.page import networks


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one run, in the folder where the command starts."""
    monkeypatch.setattr(targets, "own", set())
    monkeypatch.syspath_prepend(tmp_path)  # undoes what `targets.allow` adds
    monkeypatch.setattr(networks, "find_networks", lambda root, run: {"id": "run"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    return tmp_path / "mlruns"


def started(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    """Return the arguments with which `attnunet-demo` starts Python."""
    begun: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, found: begun.append(found))
    monkeypatch.setattr(sys, "argv", ["attnunet-demo", "--port", "0", *arguments])
    demo.main()
    (found,) = begun
    return found


def refusal(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        started(monkeypatch, *arguments)
    return str(end.value)


def test_the_page_is_for_this_machine_alone_and_keeps_to_itself(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    found = started(monkeypatch)
    flags, own = found[: found.index("--")], found[found.index("--") + 1 :]
    assert flags[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(flags[4]).is_file()
    assert {"--server.address=127.0.0.1", "--server.maxUploadSize=200", "--browser.gatherUsageStats=false"} <= set(flags)
    assert [flag for flag in flags if "allowedHosts" in flag] == [
        f"--server.allowedHosts={host}" for host in ("localhost", "127.0.0.1")
    ]
    assert own == [str(store), ""]


def test_another_address_and_size_are_taken_when_told(monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    store.rename(tmp_path / "other" / "runs")
    keys = ["study:s", "--root", "other/runs", "--address", "0.0.0.0", "--upload", "50", "--module", "a", "--module", "b"]
    found = started(monkeypatch, *keys)
    assert {"--server.address=0.0.0.0", "--server.maxUploadSize=50", "--server.allowedHosts=*"} <= set(found)
    assert found[found.index("--") + 1 :] == [str(tmp_path / "other" / "runs"), "study:s", "a", "b"]
    assert targets.own == {"a", "b"}


def test_a_folder_needs_no_store(monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path) -> None:
    (store / "mlflow.db").unlink()
    (tmp_path / "network").mkdir()
    assert started(monkeypatch, "network")[-1] == "network"
    assert "--root mlruns: no runs there" in refusal(monkeypatch)
    assert "--root mlruns: no runs there" in refusal(monkeypatch, "1234abcd")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert "the page needs the package streamlit: pip install 'attnunet[demo]'" in refusal(monkeypatch)


def test_a_port_or_address_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"--port {port}: " in refusal(monkeypatch, "--port", port)
    assert "--address 192.0.2.1 --port 0: " in refusal(monkeypatch, "--address", "192.0.2.1")
