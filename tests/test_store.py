"""The store: opened by many at once, moved, damaged, cleared."""

import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url

from attnunet import store as commands
from attnunet.tracking import sqlite
from attnunet.tracking.clearing import clear
from attnunet.tracking.processes import process_tags
from attnunet.tracking.resume import lock_of, unfinished_folder
from attnunet.tracking.store import Store, Unavailable, local_path
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
    tags = {"fingerprint": status.lower(), **tags}
    run_id = of.begin(of.study(study), status.lower(), tags)
    of.client.log_text(run_id, "x" * 1000, "note.txt")
    of.client.set_terminated(run_id, status)
    folder = unfinished_folder(of, of.study(study), tags["fingerprint"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.npz").write_text("x" * 1000)
    return run_id


def refuse(found: str) -> bool:
    """The answer to a question that nobody may ask."""
    raise AssertionError(found)


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


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the study "kept", and nothing in it; to be copied."""
    root = tmp_path_factory.mktemp("master") / "mlruns"
    made(root)
    return root


ODD = ("a b", "a%20b", "c?d", "50%41", "w [x]", "#1;é'\"&=+{c}", "~x")


def test_a_folder_of_whatever_name_has_its_own_store(tmp_path: Path, master: Path) -> None:
    for name in ODD:
        shutil.copytree(master, tmp_path / name / "mlruns")
    notes = {}
    for name in ODD:
        of = Store(tmp_path / name / "mlruns", None, 0)
        notes[name] = note(of, run(of, "FINISHED"))
        assert make_url(of.address).database == str(tmp_path / name / "mlruns" / "mlflow.db")
        assert shlex.split(of.ui_command or "")[-2:] == ["ui", str(tmp_path / name / "mlruns")]
    for name in ODD:
        root = tmp_path / name / "mlruns"
        with sqlite3.connect(root / "mlflow.db") as database:
            assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,), name
        database.close()
        assert notes[name].is_relative_to(root / "artifacts")
        assert notes[name].read_text() == "x" * 1000
        (found,) = Store(root, None, 0).client.search_runs([made(root).study("kept")])
        assert [file.path for file in Store(root, None, 0).client.list_artifacts(found.info.run_id)] == ["note.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ODD)


def test_a_new_store_is_made_in_its_own_folder_too(tmp_path: Path) -> None:
    made(tmp_path / "c?d%20 [x]" / "mlruns")
    assert [path.name for path in tmp_path.iterdir()] == ["c?d%20 [x]"]
    assert [path.name for path in (tmp_path / "c?d%20 [x]" / "mlruns").glob("*.db*")] == ["mlflow.db"]


def test_a_moved_folder_takes_along_what_was_its_own_and_nothing_else(tmp_path: Path, master: Path) -> None:
    """An address of `a b` holds a %, which must not stand for whatever else there is."""
    root = tmp_path / "new" / "mlruns"
    shutil.copytree(master, root)
    own, other = "file:///old/a%20b/mlruns/artifacts", "file:///old/aXY20b/mlruns/artifacts"
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'kept'", (own,))
        database.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'Default'", (f"{other}/0",))
    database.close()
    client = Store(root, None, 0).client
    assert client.get_experiment_by_name("kept").artifact_location == (root / "artifacts").as_uri()
    assert client.get_experiment_by_name("Default").artifact_location == f"{other}/0"


def cut(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:20_000])


def garbage(database: Path) -> None:
    database.write_bytes(bytes(range(256)) * 40)


def empty(database: Path) -> None:
    database.write_bytes(b"")


def of_something_else(database: Path) -> None:
    database.unlink()
    with sqlite3.connect(database) as made:
        made.execute("CREATE TABLE cats (name TEXT)")
    made.close()


def of_another_mlflow(database: Path) -> None:
    with sqlite3.connect(database) as changed:
        changed.execute("UPDATE alembic_version SET version_num = 'c0ffee'")
    changed.close()


def folder(database: Path) -> None:
    database.unlink()
    database.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "it is damaged: restore a copy of it, or move it away and start again"),
        (garbage, "it is no SQLite database: restore a copy of it, or move it away"),
        (empty, "it is no store of MLflow's: restore a copy of it, or move it away"),
        (of_something_else, "it is no store of MLflow's: restore a copy of it, or move it away"),
        (of_another_mlflow, "another version of MLflow made it: install that version"),
        (folder, "it cannot be opened: give a tracking.root"),
    ],
)
def test_a_file_that_is_no_store_is_named_with_what_to_do(
    spoil: Callable[[Path], None], said: str, tmp_path: Path, master: Path
) -> None:
    root = tmp_path / "mlruns"
    shutil.copytree(master, root)
    spoil(root / "mlflow.db")
    before = (root / "mlflow.db").read_bytes() if spoil is not folder else b""
    start = time.monotonic()
    with pytest.raises(Unavailable, match=f"{root}/mlflow.db: {said}"):
        _ = Store(root, None, 0).client
    assert time.monotonic() - start < 30  # s; MLflow itself tries for 115
    if spoil is not folder:
        assert (root / "mlflow.db").read_bytes() == before


def test_a_store_that_another_process_holds_is_said(tmp_path: Path, master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "mlruns"
    shutil.copytree(master, root)
    monkeypatch.setattr(sqlite, "WAIT", 0.1)
    holder = sqlite3.connect(root / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match=r"mlflow.db: another process holds it: start again when that one has ended"):
        _ = Store(root, None, 0).client
    holder.close()
    assert made(root)


def test_what_happens_to_the_file_later_is_said_too(tmp_path: Path, master: Path) -> None:
    shutil.copytree(master, tmp_path / "mlruns")
    store = made(tmp_path / "mlruns")

    def fails() -> None:
        raise MlflowException("(sqlite3.OperationalError) database or disk is full")

    with pytest.raises(Unavailable, match=r"mlflow.db: the disk is full: free some space there"):
        store.attempt(fails)


def test_a_study_that_cannot_be_had_is_said(tmp_path: Path, master: Path) -> None:
    shutil.copytree(master, tmp_path / "mlruns")
    store = made(tmp_path / "mlruns")
    store.client.delete_experiment(store.study("kept"))
    with pytest.raises(Unavailable, match=r"study=kept was deleted in MLflow: take another name, or MLFLOW_TRACKING_URI="):
        store.study("kept")
    with pytest.raises(Unavailable, match=r"study=x{501}: the store refuses this name: .*500"):
        store.study("x" * 501)


def test_a_page_on_a_port_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = store("ui", "--port", str(port), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"attnunet: --port {port}: Address already in use; give another port, from 1024 to 65535\n"
    assert "--port 70000: " in store("ui", "--port", "70000", cwd=tmp_path).stderr


@pytest.mark.slow
@pytest.mark.ci
def test_the_page_of_a_folder_that_was_moved_shows_its_files(tmp_path: Path) -> None:
    run_id = run(made(tmp_path / "mlruns"), "FINISHED")
    moved = (tmp_path / "mlruns").rename(tmp_path / "moved to 50%41?")
    port = free_port()
    command = [sys.executable, "-m", "attnunet.store", "ui", str(moved), "--port", str(port)]
    with (
        serving(command, port, tmp_path / "ui.log") as address,
        urllib.request.urlopen(f"{address}/get-artifact?path=note.txt&run_uuid={run_id}", timeout=60) as answer,
    ):
        assert answer.read() == b"x" * 1000
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["moved to 50%41?"]


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
    assert "4 runs, 0.0 MB would be freed\n2 runs of these can be resumed; clean asks before" in only_said.stdout
    assert all(path.exists() for path in notes.values())

    asked = store("clean", cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    assert (
        "2 runs can be resumed by the same command; without a terminal, such runs stay: --yes removes them, too"
        in asked.stdout
    )
    assert {run_id for run_id, path in notes.items() if path.exists()} == {finished, failed, killed}

    done = store("clean", "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {run_id for run_id, path in notes.items() if path.exists()} == {finished}
    assert [*(kept.root / "unfinished").iterdir()] == [unfinished_folder(kept, kept.study("kept"), "finished")]
    kept_runs = {r.info.run_id: r.info.status for r in kept.client.search_runs([kept.study("kept")])}
    assert kept_runs == {finished: "FINISHED", alive: "RUNNING"}
    assert store("clean", cwd=tmp_path).stdout == "0 runs, 0.0 MB freed\n"


def test_clean_touches_no_file_outside_of_the_store(tmp_path: Path) -> None:
    """A store that came from elsewhere may say that a run's files are in any folder."""
    precious = tmp_path / "precious"
    (precious / "thesis").mkdir(parents=True)
    store = Store(tmp_path / "mlruns", None, patience=0)
    study = store.client.create_experiment("theirs", artifact_location=precious.as_uri())
    run = store.client.create_run(study).info.run_id
    store.client.set_terminated(run, "KILLED")
    (precious / run / "artifacts").mkdir(parents=True)
    (precious / run / "artifacts" / "file").touch()
    clear(store, dry_run=False, confirm=refuse)
    assert store.client.get_run(run).info.lifecycle_stage == "deleted"
    assert (precious / run / "artifacts" / "file").exists()
    assert (precious / "thesis").exists()
    # Nor all that is in it, by a run whose files are said to be the store itself, or by a fingerprint that is a pattern.
    (store.root / "artifacts").mkdir(exist_ok=True)
    (store.root / "unfinished" / "other-1").mkdir(parents=True)
    (store.root / "unfinished" / "other-1.lock").touch()
    greedy = store.client.create_run(study, tags={"fingerprint": "*"}).info.run_id
    store.client.set_terminated(greedy, "FAILED")
    with closing(sqlite3.connect(store.database)) as connection, connection:
        address = (store.root / "artifacts").as_uri()
        connection.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (address, greedy))
    clear(store, dry_run=False, confirm=refuse)
    assert store.database.exists()
    assert (store.root / "unfinished" / "other-1").exists()


def test_clean_leaves_what_a_process_is_at(tmp_path: Path, master: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One holds the lock of a run that it is about to take up; another trains a run that a later one superseded."""
    shutil.copytree(master, tmp_path / "mlruns")
    kept = made(tmp_path / "mlruns")
    killed = run(kept, "KILLED")
    training = kept.begin(kept.study("kept"), "training", {"fingerprint": "t", "superseded": "by another"})
    with lock_of(unfinished_folder(kept, kept.study("kept"), "killed")):
        clear(kept, dry_run=False, confirm=lambda _: True)
        assert capsys.readouterr().out.endswith("\n0 runs, 0.0 MB freed\n")
        assert note(kept, killed).exists()
    clear(kept, dry_run=False, confirm=lambda _: True)
    assert killed in capsys.readouterr().out
    assert not note(kept, killed).exists()
    assert not list(kept.root.glob("unfinished/*"))
    assert [r.info.run_id for r in kept.client.search_runs([kept.study("kept")])] == [training]


def test_clean_keeps_the_runs_from_whose_weights_a_kept_run_started(tmp_path: Path, master: Path) -> None:
    """last started from middle, and middle from first, which the page deleted."""
    shutil.copytree(master, tmp_path / "mlruns")
    kept = made(tmp_path / "mlruns")
    first, middle = run(kept, "FINISHED", fingerprint="a"), run(kept, "FINISHED", fingerprint="b", superseded="by another")
    last, other = run(kept, "FINISHED", fingerprint="c"), run(kept, "FINISHED", fingerprint="d", superseded="by another")
    for later, origin in ((middle, first), (last, middle), (other, "None")):
        kept.client.log_param(later, "init", origin)
    kept.client.delete_run(first)
    clear(kept, dry_run=False, confirm=refuse)
    assert [note(kept, run_id).exists() for run_id in (first, middle, last)] == [True] * 3
    assert [r.info.run_id for r in kept.client.search_runs([kept.study("kept")])] == [last, middle]


def test_clean_asks_only_before_it_removes_what_can_be_resumed(
    tmp_path: Path, master: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(master, tmp_path / "mlruns")
    kept = made(tmp_path / "mlruns")
    study = kept.study("kept")
    sweep = kept.begin(study, "sweep", {"sweep": "s"})
    kept.client.set_terminated(sweep, "KILLED")
    job = run(kept, "KILLED", **{"mlflow.parentRunId": sweep})
    state = unfinished_folder(kept, study, "killed")
    # No epoch had ended; a later run took its place; the page of MLflow deleted it.
    fresh = run(kept, "FAILED")
    (unfinished_folder(kept, study, "failed") / "state.npz").unlink()
    superseded = run(kept, "KILLED", superseded="by another")
    deleted = run(kept, "KILLED", fingerprint="gone")
    kept.client.delete_run(deleted)
    # The same settings, recorded on a server.
    server = unfinished_folder(Store(kept.root, "http://127.0.0.1:9", 0), study, "killed")
    server.mkdir()

    questions: list[str] = []
    clear(kept, dry_run=False, confirm=lambda found: bool(questions.append(found)))
    assert questions == ["1 run can be resumed by the same command"]
    said = capsys.readouterr().out
    assert said.startswith(f"{job}  KILLED      killed, whose state is on ")
    assert "3 runs, 0.0 MB freed" in said
    left = {run.info.run_id for run in kept.client.search_runs([study])}
    assert left == {sweep, job}
    assert (state / "state.npz").exists()
    assert not {fresh, superseded, deleted} & {path.name for path in (kept.root / "artifacts").iterdir()}

    clear(kept, dry_run=True, confirm=refuse)
    assert "2 runs, 0.0 MB would be freed\n1 run of these can be resumed; clean asks before" in capsys.readouterr().out
    clear(kept, dry_run=False, confirm=lambda _: True)
    assert not kept.client.search_runs([study])
    assert [*(kept.root / "unfinished").iterdir()] == [server]


@pytest.mark.parametrize(("typed", "yes"), [("y", True), ("YES ", True), ("", False), ("n", False), (None, False)])
def test_only_a_yes_is_a_yes(typed: str | None, yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(question: str) -> str:
        assert question == "2 runs can be resumed. Remove such runs, too? [y/N] "
        if typed is None:
            raise EOFError  # Ctrl-D
        return typed

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys, "stdin", Mock(isatty=lambda: True))
    assert commands.ask("2 runs can be resumed") == yes


def test_runs_of_others_are_not_ended(tmp_path: Path, master: Path) -> None:
    """A run of ours without its `process` tag is: nobody could go on with it."""
    shutil.copytree(master, tmp_path / "mlruns")
    kept = made(tmp_path / "mlruns")
    study = kept.study("kept")
    others, ours = kept.client.create_run(study), kept.client.create_run(study, tags={"fingerprint": "f"})
    kept.reap()
    status = {run.info.run_id: run.info.status for run in kept.client.search_runs([study])}
    assert status == {others.info.run_id: "RUNNING", ours.info.run_id: "KILLED"}


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
    assert kept.client.get_run(run_id).data.tags["process"] == process_tags()["process"]


# Opens the new stores 0 to 9 in turn, each one when it is told to.
OPEN = """
import sys, time
from pathlib import Path
from attnunet.tracking.store import Store
for attempt in range(10):
    folder = Path(str(attempt))
    (folder / ("ready" + sys.argv[1])).touch()
    while not (folder / "go").exists():
        time.sleep(0.001)
    store = Store(folder / "mlruns", None, 0)
    run = store.begin(store.study("new"), "one of eight", {})
    store.client.log_metric(run, "value", 1.0)
    store.client.set_terminated(run, "FINISHED")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_new_store_opened_by_eight_processes_at_once_is_whole_ten_times_of_ten(tmp_path: Path) -> None:
    folders = [tmp_path / str(attempt) for attempt in range(10)]
    for folder in folders:
        folder.mkdir()
    jobs = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(job)], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for job in range(8)
    ]
    for folder in folders:
        while len(list(folder.glob("ready*"))) < 8:
            assert not any(job.poll() for job in jobs)
            time.sleep(0.05)
        (folder / "go").touch()
    for job in jobs:
        _, error = job.communicate(timeout=120)
        assert job.returncode == 0, error
    for folder in folders:
        kept = Store(folder / "mlruns", None, 0)
        assert [r.info.status for r in kept.client.search_runs([kept.study("new")])] == ["FINISHED"] * 8
