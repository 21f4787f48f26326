"""The SQLite file of a local store: its address, how it is made, and what its errors mean."""

import os
from pathlib import Path

import mlflow
from sqlalchemy.engine import URL

WAIT = 60  # seconds that a writer waits for another one

AGAIN = "restore a copy of it, or move it away and start again"
TROUBLES = {
    "malformed": f"it is damaged: {AGAIN}",
    "not a database": f"it is no SQLite database: {AGAIN}",
    "no such table": f"it is no store of MLflow's: {AGAIN}",
    "out-of-date database schema": "another version of MLflow made it: install that version, or bring a copy of it up to date "
    "by `mlflow db upgrade`",
    "with the table schema": "another version of Optuna made it: install that version, or give another hydra.sweeper.storage",
    "locate revision": "a later version of MLflow made it: install that version",
    "is locked": "another process holds it: start again when that one has ended",
    "is full": "the disk is full: free some space there",
    "readonly": "it cannot be written to: give a tracking.root that can be",
    "unable to open": "it cannot be opened: give a tracking.root that can be read and written",
    "disk I/O error": "the disk cannot be read or written: restore the file elsewhere, and give that folder as tracking.root",
}
"""Words in the errors of SQLite, MLflow and Optuna, each with the cause and what to do."""


def address(database: Path) -> str:
    """Return SQLAlchemy's address of a database file, whose path may hold any characters.

    It names the driver: after a bare `sqlite:///`, MLflow would use the quoted path as it is, and make its parent folder.
    """
    query = {"timeout": str(WAIT)}
    return URL.create("sqlite+pysqlite", database=str(database), query=query).render_as_string(hide_password=False)


def explain_fault(database: Path, error: BaseException) -> str | None:
    """Return a sentence on what is wrong with the file and what to do; None if the error is about something else."""
    said = str(error)
    return next((f"{database}: {advice}" for words, advice in TROUBLES.items() if words in said), None)


def create(database: Path) -> None:
    """Make a new store, whole or not at all: MLflow's migrations are no transaction, and it cannot open an unfinished one."""
    temporary = database.with_name(f"creating-{database.name}")
    for left in database.parent.glob(f"{temporary.name}*"):  # with SQLite's journal
        left.unlink()
    mlflow.MlflowClient(address(temporary)).search_experiments(max_results=1)
    os.replace(temporary, database)
