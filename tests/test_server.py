"""A run through an MLflow server on PostgreSQL, which is restarted, stays away, and sees no credentials."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import psycopg2
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.conftest import command
from tests.serving import free_port, serving
from tests.test_train import SMOKE, assert_same, weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SECRET, USER = "correct-horse-battery", "nightly-user"
CREDENTIALS = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": SECRET}


def as_postgres(*arguments: str | Path) -> None:
    """PostgreSQL does not run as root."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*user, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, timeout=60, cwd="/")


@contextmanager
def database() -> Iterator[str]:
    """The address of a PostgreSQL of this test's own, on loopback."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert installed, "needs Debian's postgresql"
    binaries, port = installed[-1], free_port()
    # Not below pytest's folders, which only root may enter.
    with TemporaryDirectory(prefix="attnunet-postgres-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data, options = f"{folder}/data", f"-h 127.0.0.1 -p {port} -c unix_socket_directories= -c fsync=off"
        as_postgres(binaries / "initdb", "-D", data, "-U", "mlflow", "--auth=trust", "--no-sync")
        as_postgres(binaries / "pg_ctl", "start", "-w", "-D", data, "-o", options, "-l", f"{folder}/log")
        try:
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        finally:
            as_postgres(binaries / "pg_ctl", "stop", "-w", "-m", "immediate", "-D", data)


@dataclass
class Server:
    """MLflow on PostgreSQL, with artifacts that only it writes; it can be stopped and started again."""

    folder: Path
    database: str
    port: int = field(default_factory=free_port)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def start(self) -> None:
        arguments = ["--backend-store-uri", self.database, "--artifacts-destination", str(self.artifacts), "--serve-artifacts"]
        arguments += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.stack.enter_context(
            serving([sys.executable, "-m", "mlflow", "server", *arguments], self.port, self.folder / "server.log")
        )

    def stop(self) -> None:
        self.stack.close()

    def run(self, study: str) -> Run:
        experiment = self.client.get_experiment_by_name(study)
        (run,) = self.client.search_runs([experiment.experiment_id])
        return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with database() as address:
        server = Server(tmp_path_factory.mktemp("server"), address)
        server.start()
        yield server
        server.stop()


def overrides(server: Server, study: str, root: Path) -> list[str]:
    return [a.format(root=root) for a in SMOKE] + ["tracking=server", f"tracking.uri={server.uri}", f"study={study}"]


def assert_logged_once(run: Run, client: MlflowClient, epochs: int) -> None:
    for metric in ("train/loss", "val/dice", "train/epoch_seconds"):
        assert [m.step for m in client.get_metric_history(run.info.run_id, metric)] == list(range(1, epochs + 1)), metric


@pytest.mark.ci
def test_a_run_uploads_its_files_and_tells_nobody_the_credentials(server: Server, lgg_root: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    keys = overrides(server, "uploaded", lgg_root)
    result = command(*keys, cwd=tmp_path / "run", environment=CREDENTIALS)
    assert result.returncode == 0, result.stderr
    run = server.run("uploaded")
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert_logged_once(run, server.client, epochs=2)

    # Read back over HTTP, the checkpoint loads and the picture shows something; so does the logged model.
    downloaded = Path(server.client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    assert weights(downloaded / "checkpoints" / "best.keras")
    assert cv2.imread(str(downloaded / "figures" / "predictions.png")).std() > 5
    assert "patient" in (downloaded / "patients.csv").read_text().splitlines()[0]
    (model,) = server.client.search_logged_models([run.info.experiment_id])
    assert model.status == "READY"
    networks = list(server.artifacts.rglob("predictor/best.keras"))
    assert len(networks) == 1
    assert_same(weights(networks[0]), weights(downloaded / "checkpoints" / "best.keras"))

    # Its model is registered on the server.
    tracking = ("tracking=server", f"tracking.uri={server.uri}")
    registered = command("study=uploaded", "register=best", *tracking, cwd=tmp_path / "run", name="compare")
    assert registered.returncode == 0, registered.stderr
    version = server.client.get_model_version_by_alias("attnunet", "best")
    assert version.run_id == run.info.run_id
    (card,) = server.artifacts.rglob("README.md")
    assert card.read_text() == version.description

    # A finished run is known to the server too.
    again = command(*keys, cwd=tmp_path / "run", environment=CREDENTIALS)
    assert f"reused run {run.info.run_id}" in again.stdout

    refused = command(*keys, f"tracking.uri=http://{USER}:{SECRET}@127.0.0.1:{server.port}", cwd=tmp_path / "run")
    assert refused.returncode == 1
    assert "MLFLOW_TRACKING_USERNAME" in refused.stderr
    assert SECRET not in refused.stdout + refused.stderr + result.stdout + result.stderr + again.stdout + again.stderr
    for folder in (tmp_path, server.folder):
        for file in folder.rglob("*"):
            assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
    assert not [row for row in rows(server) if SECRET in row or USER in row]
    assert [row for row in rows(server) if "focal_dice" in row]  # that the search would find it


def rows(server: Server) -> list[str]:
    """Every row of every table of the database."""
    with psycopg2.connect(server.database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        found = []
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            found += [row for (row,) in cursor.fetchall()]
    return found


def test_a_server_that_is_restarted_during_training_costs_no_metric(server: Server, lgg_root: Path, tmp_path: Path) -> None:
    keys = [*overrides(server, "restarted", lgg_root), "epochs=60", "trainer.figures=false", "trainer.keep=none"]
    down: list[int] = []
    with started(tmp_path, keys) as (process, lines):
        wait_until(lambda: epochs(lines) >= 3, process)
        server.stop()
        before = epochs(lines)
        wait_until(lambda: epochs(lines) >= before + 3, process)  # training does not stand still
        down.append(epochs(lines) - before)
        server.start()
        assert process.wait(900) == 0, "".join(lines)
    assert down[0] >= 3
    assert "metrics wait, and training goes on" in "".join(lines)
    run = server.run("restarted")
    assert run.info.status == "FINISHED"
    assert_logged_once(run, server.client, epochs=60)


def test_a_server_that_stays_away_leaves_everything_on_disk_to_be_sent_later(
    server: Server, lgg_root: Path, tmp_path: Path
) -> None:
    keys = [*overrides(server, "away", lgg_root), "epochs=30", "tracking.patience=3"]
    with started(tmp_path, keys) as (process, lines):
        wait_until(lambda: epochs(lines) >= 2, process)
        server.stop()
        assert process.wait(900) == 1
    said = "".join(lines)
    assert "the same command sends it" in said
    assert "Traceback" not in said
    assert epochs(lines) == 30  # trained to the end
    (state,) = tmp_path.glob("mlruns/unfinished/*/state.npz")
    assert list(state.parent.glob("best-*.npz"))

    server.start()
    sent = command(*keys, cwd=tmp_path)
    assert sent.returncode == 0, sent.stderr
    assert "resumed run" in sent.stdout
    assert "epoch " not in sent.stdout  # without training again
    run = server.run("away")
    assert run.info.status == "FINISHED"
    assert_logged_once(run, server.client, epochs=30)
    assert not list(tmp_path.glob("mlruns/unfinished/*"))


@contextmanager
def started(folder: Path, keys: list[str]) -> Iterator[tuple[subprocess.Popen, list[str]]]:
    """A command under way, and the lines that it has printed so far."""
    arguments = [sys.executable, "-u", "-m", "attnunet.train", *keys]
    lines: list[str] = []
    with subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
        reader.start()
        try:
            yield process, lines
        finally:
            process.kill()
            reader.join(30)


def epochs(lines: list[str]) -> int:
    return sum(line.startswith("epoch ") for line in list(lines))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 900
    while not condition():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)
