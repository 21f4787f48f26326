"""The SQLite file of a local store: its address, its creation, and the meaning of its errors."""

import os
from pathlib import Path

import mlflow
from sqlalchemy.engine import URL

WAIT = 60  # seconds that a writer waits for another writer

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
"""The keys are words in errors of SQLite, MLflow and Optuna. Each value states the cause and what the user can do."""


def address(database: Path) -> str:
    """Return the SQLAlchemy address of a database file. The path of the file may hold any characters.

    The address names the driver. After `sqlite:///` without a driver, MLflow would not decode the quoted path, and would make
    the parent folder of the wrong path.
    """
    query = {"timeout": str(WAIT)}
    return URL.create("sqlite+pysqlite", database=str(database), query=query).render_as_string(hide_password=False)


def explain_fault(database: Path, error: BaseException) -> str | None:
    """Return a sentence that says what is wrong with the file and what to do; None if the error is about something else."""
    said = str(error)
    return next((f"{database}: {advice}" for words, advice in TROUBLES.items() if words in said), None)


def create(database: Path) -> None:
    """Make a new store in a temporary file, and rename the file after the store is complete.

    MLflow's migrations do not run in one transaction, and MLflow cannot open a store with unfinished migrations.
    """
    temporary = database.with_name(f"creating-{database.name}")
    for left in database.parent.glob(f"{temporary.name}*"):  # includes SQLite's journal
        left.unlink()
    mlflow.MlflowClient(address(temporary)).search_experiments(max_results=1)
    os.replace(temporary, database)
