"""The store: opened by many at once, moved, cleared; and what `attempt` does with a server."""

import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from attnunet.tracking.store import Away, Store, identity, local_path
from tests.serving import free_port, serving


def store(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attnunet.store", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def made(root: Path, study: str = "kept") -> Store:
    made = Store(root, None, 0)
    made.study(study)
    return made


def run(of: Store, status: str, study: str = "kept", **tags: str) -> str:
    """A run with an artifact, and what it left unfinished."""
    run_id = of.begin(of.study(study), status.lower(), {"fingerprint": status.lower(), **tags})
    of.client.log_text(run_id, "x" * 1000, "note.txt")
    of.client.set_terminated(run_id, status)
    folder = of.root / "unfinished" / f"{status.lower()}-0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.npz").write_text("x" * 1000)
    return run_id


def note(of: Store, run_id: str) -> Path:
    return Path(local_path(of.client.get_run(run_id).info.artifact_uri)) / "note.txt"


def test_a_folder_that_was_moved_finds_its_files(tmp_path: Path) -> None:
    before = made(tmp_path / "one" / "mlruns")
    run_id = run(before, "FINISHED")
    shutil.copytree(tmp_path / "one" / "mlruns", tmp_path / "copy of it" / "mlruns")
    shutil.rmtree(tmp_path / "one")
    after = Store(tmp_path / "copy of it" / "mlruns", None, 0)
    assert note(after, run_id) == tmp_path / "copy of it" / "mlruns" / "artifacts" / run_id / "artifacts" / "note.txt"
    assert after.client.list_artifacts(run_id)[0].path == "note.txt"
    assert after.client.get_experiment_by_name("kept").artifact_location == (after.root / "artifacts").as_uri()
    # New runs go there too.
    assert note(after, run(after, "KILLED")).exists()


@pytest.mark.slow
@pytest.mark.ci
def test_the_page_of_a_folder_that_was_moved_shows_its_files(tmp_path: Path) -> None:
    run_id = run(made(tmp_path / "mlruns"), "FINISHED")
    (tmp_path / "mlruns").rename(tmp_path / "moved")
    port = free_port()
    command = [sys.executable, "-m", "attnunet.store", "ui", str(tmp_path / "moved"), "--port", str(port)]
    with (
        serving(command, port, tmp_path / "ui.log") as address,
        urllib.request.urlopen(f"{address}/get-artifact?path=note.txt&run_uuid={run_id}", timeout=60) as answer,
    ):
        assert answer.read() == b"x" * 1000


@pytest.mark.slow
def test_clean_removes_what_ended_badly_and_keeps_the_rest(tmp_path: Path) -> None:
    kept = made(tmp_path / "mlruns")
    finished, failed, killed = (run(kept, status) for status in ("FINISHED", "FAILED", "KILLED"))
    superseded, deleted = run(kept, "FINISHED"), run(kept, "FINISHED")
    kept.supersede([superseded], by=finished)
    kept.client.delete_run(deleted)
    alive = kept.begin(kept.study("kept"), "alive", {})
    gone = (failed, killed, superseded, deleted)
    notes = {run_id: note(kept, run_id) for run_id in (finished, *gone)}

    only_said = store("clean", "--dry-run", cwd=tmp_path)
    assert only_said.returncode == 0, only_said.stderr
    assert all(run_id in only_said.stdout for run_id in gone)
    assert finished not in only_said.stdout
    assert "4 runs, 0.0 MB would be freed" in only_said.stdout
    assert all(path.exists() for path in notes.values())

    done = store("clean", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {run_id for run_id, path in notes.items() if path.exists()} == {finished}
    assert {path.name for path in (kept.root / "unfinished").iterdir()} == {"finished-0"}
    kept_runs = {r.info.run_id: r.info.status for r in kept.client.search_runs([kept.study("kept")])}
    assert kept_runs == {finished: "FINISHED", alive: "RUNNING"}
    assert store("clean", cwd=tmp_path).stdout == "0 runs, 0.0 MB freed\n"


def test_a_folder_without_a_store_is_said(tmp_path: Path) -> None:
    for action in ("clean", "ui"):
        result = store(action, cwd=tmp_path)
        assert result.returncode == 1
        assert f"no store in {tmp_path}/mlruns" in result.stderr
    assert not list(tmp_path.iterdir())


KILLED = """
import os
from pathlib import Path
from alembic.operations import Operations
from attnunet.tracking.store import Store
calls, create_table = [], Operations.create_table
def killed(self, *arguments, **keywords):
    calls.append(arguments)
    if len(calls) == 5:
        os.kill(os.getpid(), 9)
    return create_table(self, *arguments, **keywords)
Operations.create_table = killed
Store(Path("mlruns"), None, 0).client
"""


def test_a_store_whose_making_was_killed_is_made_anew(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert process.returncode == -9
    assert [path.name for path in (tmp_path / "mlruns").glob("*.db")] == ["creating-mlflow.db"]
    assert made(tmp_path / "mlruns").client.get_experiment_by_name("kept")
    assert [path.name for path in (tmp_path / "mlruns").glob("*.db*")] == ["mlflow.db"]


def test_a_run_is_this_processs_before_it_is_under_way_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another process that looked in between would take it for one whose process died."""
    kept = made(tmp_path / "mlruns")
    run_id = run(kept, "KILLED")
    kept.tag(run_id, {"process": "1 0.00"})
    seen = []
    update = kept.client.update_run

    def updated(run_id: str, status: str) -> None:
        update(run_id, status=status)
        Store(kept.root, None, 0).reap()
        seen.append(kept.client.get_run(run_id).info.status)

    monkeypatch.setattr(kept.client, "update_run", updated)
    assert kept.begin(kept.study("kept"), "again", {}, run_id) == run_id
    assert seen == ["RUNNING"]
    assert kept.client.get_run(run_id).data.tags["process"] == identity()["process"]


class Server(Store):
    """One that answers, or does not, as it is told."""

    def __init__(self, root: Path, patience: float, there: bool) -> None:
        super().__init__(root, "http://127.0.0.1:1", patience)
        self.there, self.asked = there, 0

    def answers(self) -> bool:
        return self.there

    def raises(self, times: int) -> str:
        self.asked += 1
        if self.asked <= times:
            raise MlflowException("no")
        return "done"


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnunet.tracking.store.time.sleep", lambda seconds: None)


@pytest.mark.usefixtures("no_sleep")
def test_a_call_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    server = Server(tmp_path, patience=60, there=False)
    assert server.attempt(lambda: server.raises(times=5)) == "done"
    assert server.asked == 6


@pytest.mark.usefixtures("no_sleep")
def test_patience_ends(tmp_path: Path) -> None:
    server = Server(tmp_path, patience=0, there=False)
    with pytest.raises(Away, match=r"the tracking server http://127.0.0.1:1 does not answer"):
        server.attempt(lambda: server.raises(times=5))
    assert server.asked == 1


@pytest.mark.usefixtures("no_sleep")
def test_what_a_server_refuses_is_tried_once_more(tmp_path: Path) -> None:
    server = Server(tmp_path, patience=60, there=True)
    assert server.attempt(lambda: server.raises(times=1)) == "done"
    server.asked = 0
    with pytest.raises(MlflowException, match="no"):
        server.attempt(lambda: server.raises(times=2))


@pytest.mark.parametrize(("code", "there"), [(INVALID_PARAMETER_VALUE, True), (TEMPORARILY_UNAVAILABLE, False)])
def test_a_server_whose_database_is_away_does_not_answer(
    code: int, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: MlflowClient, **_: object) -> None:
        raise MlflowException("no", code)

    monkeypatch.setattr(MlflowClient, "search_experiments", refuse)
    assert Store(tmp_path, "http://127.0.0.1:1", 0).answers() is there


def test_nothing_listens_where_no_server_is(tmp_path: Path) -> None:
    assert not Store(tmp_path, f"http://127.0.0.1:{free_port()}", 0).answers()


OPEN = """
import sys, time
from pathlib import Path
from attnunet.tracking.store import Store
Path("ready" + sys.argv[1]).touch()
while not Path("go").exists():
    time.sleep(0.001)
store = Store(Path("mlruns"), None, 0)
run = store.begin(store.study("new"), "one of eight", {})
store.client.log_metric(run, "value", 1.0)
store.client.set_terminated(run, "FINISHED")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_new_store_opened_by_eight_processes_at_once_is_whole_ten_times_of_ten(tmp_path: Path) -> None:
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        jobs = [
            subprocess.Popen([sys.executable, "-c", OPEN, str(job)], cwd=folder, stderr=subprocess.PIPE, text=True)
            for job in range(8)
        ]
        while len(list(folder.glob("ready*"))) < 8:
            assert not any(job.poll() for job in jobs)
            time.sleep(0.05)
        (folder / "go").touch()
        for job in jobs:
            _, error = job.communicate(timeout=120)
            assert job.returncode == 0, error
        kept = Store(folder / "mlruns", None, 0)
        assert [r.info.status for r in kept.client.search_runs([kept.study("new")])] == ["FINISHED"] * 8
