"""The errors that a user can fix, and the only function that ends a command after an error."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

HINTS = {
    "ENOSPC": "free some space there",
    "EDQUOT": "free some space there",
    "EROFS": "give a folder that can be written to",
    "EACCES": "give a file or folder that this user may read and write",
    "EPERM": "give a file or folder that this user may read and write",
    "EADDRINUSE": "give another port",
}
"""What a user can do about an error of the operating system. The keys are the names of the errors in `errno`."""

FOREIGN = {
    "mlflow": "the MLflow store",
    "sqlalchemy": "the database",
    "sqlite3": "the database",
    "optuna": "Optuna",
    "hydra": "the configuration",
    "omegaconf": "the configuration",
    "multiprocessing": "worker processes",
    "multiprocess": "worker processes",
}
"""The keys are packages whose errors concern the user's input or machine. Each value begins the message of such an error."""

MARK = "attnunet: "
"""The beginning of the notes that `add_note` adds to an error."""
INTERRUPTED = 128 + signal.SIGINT
"""The exit code after Ctrl-C, as in a shell."""


class UserError(Exception):
    """An error that the user can fix. The message names the key or file, the value that was found, and the allowed values."""


def explain(error: BaseException) -> str | None:
    """Return the message of an error that the user can fix; None for any other error, which needs its traceback."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        hint = HINTS.get(errno.errorcode.get(error.errno or 0, ""))
        return f"{where}{error.strerror}{f'; {hint}' if hint else ''}"
    if isinstance(error, MemoryError):
        return "there is not enough memory: lower batch_size, evaluation.batch_size or image_size"
    package = type(error).__module__.partition(".")[0]
    if package in FOREIGN:
        return f"{FOREIGN[package]}: {first_line(database_error(error) or error)} (HYDRA_FULL_ERROR=1 shows where)"
    return None


def database_error(error: BaseException) -> BaseException | None:
    """Return the error of SQLite that caused an error of MLflow or SQLAlchemy; None if SQLite was not the cause.

    The message of MLflow or SQLAlchemy is a page of SQL.
    """
    cause: BaseException | None = error
    while cause is not None and type(cause).__module__ != "sqlite3":
        cause = cause.__cause__
    return cause


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def add_note(error: BaseException, note: str) -> None:
    """Add to an error a note that `exit_on_error` prints after the message: where its traceback is, or how to go on."""
    error.add_note(f"{MARK}{note}")


def read_notes(error: BaseException) -> list[str]:
    """Return the notes that `add_note` added to an error."""
    notes = getattr(error, "__notes__", ())
    return [note.removeprefix(MARK) for note in notes if note.startswith(MARK)]  # other packages add notes too


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Exit with code 1 after an error, and with code 130 after Ctrl-C.

    Print one message if `explain` returns one, or if a note says where the traceback is. Otherwise print the traceback.
    Hydra's environment variable HYDRA_FULL_ERROR=1 shows the traceback of every error. After Ctrl-C, print one line.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        notes = read_notes(end)
        if isinstance(end, SystemExit) and not notes:
            raise
        print("; ".join(["attnunet: stopped", *notes]), file=sys.stderr)
        sys.exit(INTERRUPTED if isinstance(end, KeyboardInterrupt) else end.code)
    except Exception as error:
        notes = read_notes(error)
        message = explain(error) or (notes and f"{type(error).__name__}: {first_line(error)}")
        if not message or os.environ.get("HYDRA_FULL_ERROR") == "1":
            log.exception("attnunet failed")  # also writes to Hydra's log file, which would stay empty
            sys.exit(1)
        sys.exit("; ".join([f"attnunet: {message}", *notes]))
