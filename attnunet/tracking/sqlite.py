"""The SQLite file that a local store is in: its address, how it is made, checked and moved."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
from sqlalchemy.engine import URL

WAIT = 60  # seconds that one who writes waits for another

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
"""What SQLite, MLflow and Optuna say about a file, and what there is to do."""


def address(database: Path) -> str:
    """Return SQLAlchemy's address of a database file, which holds for whatever characters the path has.

    The driver is named: after a bare `sqlite:///`, MLflow takes the quoted path for a path, and makes its parent folder.
    """
    query = {"timeout": str(WAIT)}
    return URL.create("sqlite+pysqlite", database=str(database), query=query).render_as_string(hide_password=False)


def explain_fault(database: Path, error: BaseException) -> str | None:
    """Return a sentence on what is wrong with the file and what to do; None for an error that tells of something else."""
    said = str(error)
    return next((f"{database}: {advice}" for words, advice in TROUBLES.items() if words in said), None)


def check_file(database: Path) -> None:
    """Raise SQLite's error where the file is no store; MLflow would try again and again for two minutes."""
    with closing(sqlite3.connect(database, timeout=WAIT)) as connection:
        connection.execute("SELECT version_num FROM alembic_version").fetchone()


def create(database: Path) -> None:
    """Make a new store, whole or not at all: MLflow's migrations are no transaction, and half of them can never be opened."""
    temporary = database.with_name(f"creating-{database.name}")
    for left in database.parent.glob(f"{temporary.name}*"):  # with SQLite's journal
        left.unlink()
    mlflow.MlflowClient(address(temporary)).search_experiments(max_results=1)
    os.replace(temporary, database)


def relocate(database: Path, artifacts: Path) -> None:
    """Let the store of a folder that was moved or copied find its files: MLflow stores their addresses absolute."""
    now = artifacts.as_uri()
    with closing(sqlite3.connect(database, timeout=WAIT)) as connection, connection:
        stored = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (before,) in stored:
            if before and before != now and before.startswith("file:") and before.endswith("/artifacts"):
                for table, column in (
                    ("experiments", "artifact_location"),
                    ("runs", "artifact_uri"),
                    ("logged_models", "artifact_location"),
                ):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",  # LIKE would take an address's % for a wildcard
                        (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )
