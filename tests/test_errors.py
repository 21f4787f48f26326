"""How errors end a command: one sentence where the user can mend them, the traceback elsewhere, exit code 1 in both."""

import errno
import sqlite3

import pytest
from mlflow.exceptions import MlflowException

from attnunet.config import ConfigError
from attnunet.data.slices import DataError
from attnunet.errors import add_note, exit_on_error, explain, explain_unknown, find_close
from attnunet.tracking.records import RunError
from attnunet.tracking.store import Away


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConfigError("epochs=0: must be above 0"), "epochs=0: must be above 0"),
        (DataError("a.png: damaged"), "a.png: damaged"),
        (RunError("run=1: no such run"), "run=1: no such run"),
        (Away("the server does not answer"), "the server does not answer"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/disk/x"),
            "/disk/x: No space left on device; free some space there",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", b"/a"), "/a: No such file or directory"),
        (MlflowException("no such run\nmore"), "the MLflow store: no such run (HYDRA_FULL_ERROR=1 shows where)"),
        (
            sqlite3.DatabaseError("file is not a database"),
            "the database: file is not a database (HYDRA_FULL_ERROR=1 shows where)",
        ),
        (MemoryError(), "there is not enough memory: lower batch_size, evaluation.batch_size or image_size"),
    ],
)
def test_an_error_that_the_user_can_mend_is_one_sentence(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise error
    assert end.value.code == f"attnunet: {message}"  # text as the exit code: Python prints it and exits with 1


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), OSError("of no kind"), KeyError("a")])
def test_a_fault_of_ours_shows_its_traceback(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert explain(error) is None
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise error
    assert end.value.code == 1
    assert type(error).__name__ in caplog.text
    assert "Traceback" in caplog.text


def test_hydras_variable_shows_every_traceback(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise DataError("a.png: damaged")
    assert end.value.code == 1
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [(KeyboardInterrupt(), 130, "attnunet: stopped"), (SystemExit(143), 143, "attnunet: stopped")],
)
@pytest.mark.parametrize("note", ["", "the same command goes on after epoch 2"])
def test_a_command_that_is_stopped_says_so_in_one_line(
    end: BaseException, code: int, said: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if note:
        add_note(end, note)
    with pytest.raises(SystemExit) as ended, exit_on_error(), exit_on_error():  # as around Hydra, and inside
        raise end
    assert ended.value.code == code
    expected = f"{said}; {note}\n" if note else f"{said}\n"
    assert capsys.readouterr().err == (expected if note or code == 130 else "")  # SIGTERM before a run ends silently


def test_a_traceback_that_is_kept_elsewhere_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    error = ZeroDivisionError("division by zero\nmore")
    error.add_note("a note of another package")
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise error
    assert end.value.code == 1
    assert "Traceback" in caplog.text
    caplog.clear()
    add_note(error, "the traceback of run 1: /a/traceback.txt")
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise error
    assert end.value.code == "attnunet: ZeroDivisionError: division by zero; the traceback of run 1: /a/traceback.txt"
    assert caplog.text == ""


def test_what_ends_well_goes_on() -> None:
    with exit_on_error():
        reached = True
    assert reached


def test_a_database_tells_its_own_error_whatever_it_is_wrapped_in() -> None:
    """MLflow wraps SQLAlchemy's, whose first line may be of something else."""

    def fail() -> None:
        try:
            try:
                raise sqlite3.OperationalError("database or disk is full")
            except sqlite3.OperationalError as error:
                raise RuntimeError("(raised as a result of autoflush)\n[SQL: INSERT]") from error
        except RuntimeError as error:
            raise MlflowException(str(error)) from error

    with pytest.raises(MlflowException) as wrapped:
        fail()
    assert explain(wrapped.value) == "the MLflow store: database or disk is full (HYDRA_FULL_ERROR=1 shows where)"


KEYS = (
    "model",
    "model.filters",
    "modules",
    "seed",
    "split.seed",
    "optimizer.learning_rate",
    "trainer.keep",
    "loss.terms.dice",
)


@pytest.mark.parametrize(
    ("typed", "close"),
    [
        ("learning_rate", ["optimizer.learning_rate"]),
        ("optimzer.learning_rate", ["optimizer.learning_rate"]),
        ("trainer.learning_rate", ["optimizer.learning_rate"]),
        ("Filter", ["model.filters"]),
        ("sede", ["seed", "split.seed"]),
        ("split.sed", ["split.seed"]),
        # Letters of modle stand in modules as well as in model, but in model only two are swapped.
        ("modle", ["model"]),
        ("loss.weights.dise", ["loss.terms.dice"]),
        # Only the group is right.
        ("trainer.foo", []),
        ("trainer.speed", []),
        ("model.seed", ["split.seed"]),
        ("lr", []),
    ],
)
def test_a_misspelt_name_is_understood(typed: str, close: list[str]) -> None:
    assert find_close(typed, KEYS) == close


def test_what_is_allowed_follows_what_was_meant() -> None:
    assert explain_unknown("x: unknown key", "x", ["a", "b"]) == "x: unknown key; allowed: a, b"
    assert explain_unknown("x: unknown key", "x", []) == "x: unknown key; allowed: none"
    names = [f"fold{number}" for number in range(10)]
    assert explain_unknown("m=fodl3: no such choice", "fodl3", names) == (
        "m=fodl3: no such choice; did you mean fold3?\n"
        "  allowed: fold0, fold1, fold2, fold3, fold4, fold5, fold6, fold7, and 2 more"
    )
