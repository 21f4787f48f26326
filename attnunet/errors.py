"""The errors that a user can fix, and the only function that ends a command after an error."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
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


ALIKE = 0.7
"""The likeness from which a name counts as a misspelling of another, from 0 to 1."""
FEW = 8
"""How many allowed names a message lists beside a name that is probably meant."""


def explain_unknown(problem: str, name: str, allowed: Sequence[str], known: Iterable[str] | None = None) -> str:
    """Return the message about a name that does not exist. It first offers close names that exist.

    Args:
        problem: the beginning of the message.
        name: the wrong name.
        allowed: the names that are allowed in its place.
        known: the names that are searched for close ones; None for `allowed`.
    """
    close = find_close(name, allowed if known is None else known)
    if not close:
        return f"{problem}; allowed: {', '.join(allowed) or 'none'}"
    more = f", and {len(allowed) - FEW} more" if len(allowed) > FEW else ""
    return f"{problem}; did you mean {' or '.join(close)}?\n  allowed: {', '.join(allowed[:FEW])}{more}"


def find_close(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are most like a wrong one, at most three. The most likely name comes first.

    A longer name is compared by its last parts: learning_rate with the end of optimizer.learning_rate.
    """
    parts = name.lower().split(".")
    likeness = {}
    for candidate in known:
        tail = candidate.lower().split(".")[-len(parts) :]
        alike = [compare_words(*pair) for pair in zip(parts[::-1], tail[::-1], strict=False)]
        mean = sum(alike) / len(parts)
        if candidate != name and (alike[0] == 1 or min(alike[0], mean) >= ALIKE):
            likeness[candidate] = mean
    best = max(likeness.values(), default=0)
    found = [candidate for candidate, value in likeness.items() if value >= best - 0.05]
    return sorted(found, key=lambda candidate: -likeness[candidate])[:3]


def compare_words(word: str, other: str) -> float:
    """Return how alike two words are, from 0 to 1: the mean of difflib's ratios of their letters, in order and sorted.

    The sorted letters forgive two letters that were swapped.
    """
    from difflib import SequenceMatcher  # only an error needs it

    ordered = SequenceMatcher(None, word, other).ratio()
    return (ordered + SequenceMatcher(None, sorted(word), sorted(other)).ratio()) / 2


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
