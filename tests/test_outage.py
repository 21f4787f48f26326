"""A tracking server that hangs, is slow, answers with errors or refuses the user: what it costs, and what is said."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from attnunet.tracking import store as stores
from attnunet.tracking.run import Run, heartbeat
from attnunet.tracking.store import Away, Store

RUN = {"info": {"run_id": "r", "experiment_id": "1", "artifact_uri": "mlflow-artifacts:/1/r", "status": "RUNNING"}, "data": {}}
ANSWERS = {"runs/get": {"run": RUN}, "experiments/search": {"experiments": [{"experiment_id": "1", "name": "x"}]}}


class Fake(ThreadingHTTPServer):
    """As much of MLflow's server as a run in its epochs asks for, on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.delay, self.hangs = 200, 0.0, False
        self.released = threading.Event()
        self.metrics: list[tuple[str, float, int]] = []
        self.asked = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        server = self.server
        server.asked += 1
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        time.sleep(server.delay)
        if server.hangs:
            server.released.wait(20)
            return
        path = self.path.partition("/mlflow/")[2].partition("?")[0]
        if server.status == 200 and path == "runs/log-batch":
            server.metrics += [(m["key"], m["value"], int(m["step"])) for m in body.get("metrics", ())]
        answer = json.dumps(ANSWERS.get(path, {})).encode() if server.status == 200 else b"no"
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setattr(stores, "PROBE", 0.5)
    monkeypatch.setattr(stores, "RETRY", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with Fake() as fake:
        thread = threading.Thread(target=fake.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield fake
        finally:
            fake.released.set()
            fake.shutdown()
            thread.join(30)


@contextmanager
def under_way(server: Fake, folder: Path) -> Iterator[Run]:
    run = Run(Store(folder, server.uri, patience=20), "r")
    with heartbeat(run):
        yield run
        run.send()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("attnunet")]


@pytest.mark.ci
def test_training_never_waits_for_a_server_that_hangs(server: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with under_way(server, tmp_path) as run, caplog.at_level(logging.WARNING):
        run.metrics({"val/dice": 0.0}, step=0)
        wait_until(lambda: not run.waiting)
        server.hangs = True
        slowest = 0.0
        for step in range(1, 21):
            start = time.monotonic()
            run.metrics({"val/dice": step / 100}, step)
            slowest = max(slowest, time.monotonic() - start)
            time.sleep(0.1)
        assert slowest < 0.5  # s; a request to it takes 2
        wait_until(lambda: warnings(caplog))
        server.hangs = False
    assert server.metrics == [("val/dice", step / 100, step) for step in range(21)]
    assert warnings(caplog) == [
        f"the tracking server {server.uri} does not answer: metrics wait, and training goes on",
        f"the tracking server {server.uri} answers again",
    ]


def test_what_cannot_go_on_without_a_server_that_hangs_waits_for_it_as_long_as_it_may(server: Fake, tmp_path: Path) -> None:
    run = Run(Store(tmp_path, server.uri, patience=1.5), "r")
    server.hangs = True
    start = time.monotonic()
    with pytest.raises(Away, match=f"the tracking server {server.uri} does not answer"):
        run.tags({"a": "b"})
    assert 1.5 <= time.monotonic() - start < 6
    # Known to be away, it is asked by probes alone, which are short.
    start = time.monotonic()
    with pytest.raises(Away):
        run.store.attempt(lambda: run.store.client.get_run("r"), patience=0)
    assert time.monotonic() - start < 1.5  # s; a request takes 2
    server.hangs = False
    run.tags({"a": "b"})


def test_a_server_that_hangs_from_the_start_costs_no_more_than_the_patience(server: Fake, tmp_path: Path) -> None:
    server.hangs = True
    start = time.monotonic()
    with pytest.raises(Away, match="does not answer"):
        _ = Store(tmp_path, server.uri, patience=0).client
    assert time.monotonic() - start < 1.5  # s; a request takes 2


def test_at_the_start_nobody_waits_for_a_server_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    start = time.monotonic()
    with pytest.raises(Away) as away:
        Store(tmp_path, "http://127.0.0.1:9", patience=600).connect(patience=0)
    assert time.monotonic() - start < 2
    assert str(away.value) == "the tracking server http://127.0.0.1:9 does not answer: start it, or correct tracking.uri"
    assert caplog.text == ""


def test_a_job_of_a_sweep_waits_for_a_server_at_its_start(
    server: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = 503
    store = Store(tmp_path, server.uri, patience=20)
    thread = threading.Thread(target=store.connect, args=(20,))
    thread.start()
    wait_until(lambda: server.asked >= 3)
    assert thread.is_alive()
    server.status = 200
    thread.join(20)
    assert not thread.is_alive()
    assert warnings(caplog) == [
        f"the tracking server {server.uri} answers with HTTP 503: waiting for it up to 20 s",
        f"the tracking server {server.uri} answers again",
    ]


def test_one_that_is_slow_is_not_away(server: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.delay = 0.2
    with under_way(server, tmp_path) as run:
        run.metrics({"val/dice": 0.5}, step=1)
    assert server.metrics == [("val/dice", 0.5, 1)]
    assert warnings(caplog) == []


def test_errors_of_a_server_are_an_outage_that_is_said_once(
    server: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with under_way(server, tmp_path) as run:
        server.status = 500
        for step in range(5):
            run.metrics({"val/dice": 0.5}, step)
            time.sleep(0.1)
        with pytest.raises(Away, match=f"the tracking server {server.uri} answers with HTTP 500"):
            run.send(patience=0)
        server.status = 200
    assert [step for _, _, step in server.metrics] == list(range(5))
    assert warnings(caplog) == [
        f"the tracking server {server.uri} answers with HTTP 500: metrics wait, and training goes on",
        f"the tracking server {server.uri} answers again",
    ]


@pytest.mark.parametrize("status", [401, 403])
def test_a_user_who_is_refused_learns_which_variables_to_set_and_waits_for_nothing(
    server: Fake, tmp_path: Path, status: int
) -> None:
    server.status = status
    start = time.monotonic()
    with pytest.raises(Away, match=rf"refuses this user \(HTTP {status}\): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACK"):
        _ = Store(tmp_path, server.uri, patience=600).client
    assert time.monotonic() - start < 10
    assert server.asked == 1


def test_a_user_who_is_refused_during_training_loses_nothing(
    server: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with under_way(server, tmp_path) as run:
        server.status = 401
        run.metrics({"val/dice": 0.5}, step=1)
        wait_until(lambda: "refuses this user" in caplog.text)
        run.metrics({"val/dice": 0.6}, step=2)
        server.status = 200
    assert server.metrics == [("val/dice", 0.5, 1), ("val/dice", 0.6, 2)]


def test_metrics_that_a_server_refuses_end_the_training_at_its_next_epoch(server: Fake, tmp_path: Path) -> None:
    run = Run(Store(tmp_path, server.uri, patience=0), "r")

    def refused(run_id: str, **_: object) -> None:
        raise ValueError("the run was deleted")

    run.store.client.log_batch = refused
    with heartbeat(run):
        run.metrics({"val/dice": 0.5}, step=1)
        wait_until(lambda: run.refusal is not None)
        with pytest.raises(ValueError, match="the run was deleted"):
            run.metrics({"val/dice": 0.6}, step=2)
