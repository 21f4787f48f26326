"""The private parts of MLflow: as they were read in the version that is installed; on another one, the public way."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest

from attnunet.errors import UserError
from attnunet.tracking import mlflow_internals
from attnunet.tracking.mlflow_internals import WRITTEN_FOR, check_file, http_status
from attnunet.tracking.store import Store


class Answers(BaseHTTPRequestHandler):
    """Answers every question with the status that its address begins with; the path and user of each are kept."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        answer = b"{}" if self.server.status == 200 else b"no"  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Answers.asked = []
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["private", "public"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way that the test goes."""
    if request.param == "public":
        monkeypatch.setattr(mlflow_internals.mlflow, "__version__", "3.18.0")
    return request.param


def test_the_private_parts_were_read_in_the_version_that_is_installed() -> None:
    assert mlflow.__version__.startswith(WRITTEN_FOR), "read mlflow_internals.py against this version of MLflow"


@pytest.mark.parametrize("status", [200, 401, 403, 500, 503])
def test_a_servers_status_is_had_with_the_users_credentials(
    status: int, way: str, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    server.status = status  # type: ignore[attr-defined]
    expected = 500 if way == "public" and status > 500 else status
    assert http_status(f"http://127.0.0.1:{server.server_port}", timeout=5) == expected
    ((path, user),) = Answers.asked
    assert path.startswith("/api/2.0/mlflow/experiments/search")
    assert user == "Bearer abc"


def test_a_server_that_is_not_there_has_no_status(way: str) -> None:
    expected = None if way == "private" else 500
    assert http_status("http://127.0.0.1:9", timeout=1) == expected


def test_a_moved_store_finds_its_files_or_says_that_it_cannot(way: str, tmp_path: Path) -> None:
    before, after = tmp_path / "before" / "mlruns", tmp_path / "after" / "mlruns"
    study = Store(before, None, 0).study("kept")
    shutil.move(before.parent, after.parent)
    untouched = (after / "mlflow.db").read_bytes()
    if way == "private":
        found = Store(after, None, 0).client.get_experiment(study)
        assert found.artifact_location == (after / "artifacts").as_uri()
    else:
        with pytest.raises(UserError, match=rf"{after}/mlflow.db: .*{before}/artifacts.*move the folder back, or install"):
            _ = Store(after, None, 0).client
        assert (after / "mlflow.db").read_bytes() == untouched
        shutil.move(after.parent, before.parent)
        assert Store(before, None, 0).study("kept") == study


def test_another_database_is_told_by_sqlite_or_left_to_mlflow(way: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "cats.db")) as database:
        database.execute("CREATE TABLE cats (name TEXT)")
    if way == "private":
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            check_file(tmp_path / "cats.db")
    else:
        check_file(tmp_path / "cats.db")


def columns(client: mlflow.MlflowClient, study: str) -> list[str]:
    view = json.loads(client.get_experiment(study).tags[mlflow_internals.VIEW_TAG])
    assert view["columnOrder"][3:-3] == [f"params.`{name}`" for name in view["params"]]
    return view["params"]


def test_the_view_of_a_study_shows_the_newest_keys_first_and_keeps_the_earlier_ones(tmp_path: Path) -> None:
    store = Store(tmp_path / "mlruns", None, 0)
    study, client = store.study("seen"), store.client
    for keys, shown in ((["a"], ["a"]), (["b", "a"], ["b", "a"]), (["a"], ["b", "a"]), (["c"], ["c", "b", "a"])):
        mlflow_internals.show_columns(client, study, "final/monitor", "val/loss", keys)
        assert columns(client, study) == shown
    view = json.loads(client.get_experiment(study).tags[mlflow_internals.VIEW_TAG])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`final/monitor`", True)
    mlflow_internals.show_columns(client, study, "final/monitor", "val/dice", [f"k{number}" for number in range(20)])
    assert columns(client, study) == [f"k{number}" for number in range(mlflow_internals.MOST_COLUMNS)]


def test_another_version_of_mlflow_gets_no_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "mlruns", None, 0)
    study, client = store.study("seen"), store.client
    monkeypatch.setattr(mlflow_internals.mlflow, "__version__", "3.18.0")
    mlflow_internals.show_columns(client, study, "final/monitor", "val/dice", ["a"])
    assert mlflow_internals.VIEW_TAG not in client.get_experiment(study).tags
    assert mlflow_internals.view_query() == ""
