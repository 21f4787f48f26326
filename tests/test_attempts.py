"""What `attempt` does with a tracking server that is away, returns or refuses."""

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from attnunet.tracking.store import Away, Store
from tests.serving import free_port


class Server(Store):
    """One that answers, or does not, as it is told."""

    def __init__(self, root: Path, patience: float, there: bool) -> None:
        super().__init__(root, "http://127.0.0.1:1", patience)
        self.there, self.asked = there, 0

    def status(self) -> int | None:
        return 200 if self.there else None

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
    back = iter([None, None, 503, 200])
    server.status = lambda: next(back)
    assert server.attempt(lambda: server.raises(times=1)) == "done"
    assert server.asked == 2  # once it was known to be away, it was only asked whether it is back


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


def test_nothing_listens_where_no_server_is(tmp_path: Path) -> None:
    assert not Store(tmp_path, f"http://127.0.0.1:{free_port()}", 0).answers()
