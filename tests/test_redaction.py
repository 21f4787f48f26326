"""Credentials reach nothing that a run stores."""

from pathlib import Path

import pytest

from attnunet.tracking.redaction import redact
from attnunet.tracking.run import open_run
from attnunet.tracking.store import Store, local_path

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "hydra.sweeper.storage=postgresql://ada:pa55@db:5432/optuna?x=1",
            "hydra.sweeper.storage=postgresql://***@db:5432/optuna?x=1",
        ),
        ("two: http://a:b@c, ftp://d@e/f", "two: http://***@c, ftp://***@e/f"),
        ("http://host:5000/?token=abc&x=1", "http://host:5000/?token=***&x=1"),
        ("https://host/a?x=1&api_key=abc' and", "https://host/a?x=1&api_key=***' and"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("mail ada@example.org, 3 / 4 @ 5", "mail ada@example.org, 3 / 4 @ 5"),
    ],
)
def test_the_credentials_of_an_address_are_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_secret_of_the_environment_reaches_no_param_tag_or_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("SOME_TOKEN", "9f8e7d6c5b4a")
    monkeypatch.setenv("OTHER_KEY", "1")  # as good as none, and found everywhere
    store = Store(tmp_path / "mlruns", None, patience=0)
    study = store.study("secrets")
    typed = {"command": f"python -m attnunet.train data.root=/{SECRET}", "overrides": "x=9f8e7d6c5b4a", "note": "1 + 1"}

    def fails() -> None:
        with open_run(store, study, "name", {"data.root": f"/{SECRET}"}, typed) as current:
            current.text(f"root: /{SECRET}", "config.yaml")
            raise ValueError(f"refused: http://ada:{SECRET}@host said 9f8e7d6c5b4a")

    with pytest.raises(ValueError, match="refused"):
        fails()
    (found,) = store.runs(study, "")
    assert found.data.params["data.root"] == "/***"
    assert found.data.tags["command"] == "python -m attnunet.train data.root=/***"
    assert found.data.tags["overrides"] == "x=***"
    assert found.data.tags["note"] == "1 + 1"
    assert found.data.tags["error"] == "ValueError: refused: http://***@host said ***"
    artifacts = Path(local_path(found.info.artifact_uri))
    assert "http://***@host said ***" in (artifacts / "traceback.txt").read_text()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or (SECRET.encode() not in file.read_bytes() and b"9f8e7d6c5b4a" not in file.read_bytes())
