"""Functions that use private parts of MLflow 3.17. With any other version of MLflow, they use only its public functions."""

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from attnunet.errors import UserError
from attnunet.tracking import sqlite

WRITTEN_FOR = "3.17."


def is_known_version() -> bool:
    """Return whether MLflow has the version that this module was written for."""
    return mlflow.__version__.startswith(WRITTEN_FOR)


def check_file(database: Path) -> None:
    """Raise SQLite's error if the file is not a store of MLflow.

    With any other version of MLflow, do nothing. MLflow's own first call then raises the error, after two minutes of retries.
    """
    if is_known_version():
        with closing(sqlite3.connect(database, timeout=sqlite.WAIT)) as connection:
            connection.execute("SELECT version_num FROM alembic_version").fetchone()


def relocate(client: mlflow.MlflowClient, database: Path, artifacts: Path) -> None:
    """Update the addresses in a store whose folder was moved or copied, because MLflow stores absolute paths.

    Raises:
        UserError: the folder was moved, and MLflow is not the version that this module was written for. MLflow has no public
            function that updates the addresses.
    """
    now = artifacts.as_uri()
    stored = {study.artifact_location for study in client.search_experiments(ViewType.ALL)} - {now}
    moved = [before for before in stored if before.startswith("file:") and before.endswith("/artifacts")]
    if moved and not is_known_version():
        raise UserError(
            f"{database}: its runs were made in {moved[0]}, and MLflow {mlflow.__version__} cannot move them: "
            f"move the folder back, or install MLflow {WRITTEN_FOR}*"
        )
    with closing(sqlite3.connect(database, timeout=sqlite.WAIT)) as connection, connection:
        for before in moved:
            for table, column in (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
                ("model_versions", "source"),
                ("model_versions", "storage_location"),
            ):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",  # LIKE would read a % in an address as a wildcard
                    (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )


def http_status(uri: str, timeout: float) -> int | None:
    """Return the HTTP status with which a server answers a query of its database; None if the server does not answer.

    MLflow's private request function applies MLflow's settings for credentials and certificates. The public client reads its
    time-out only from the environment. It reports the status 500 for a faulty server, and also for an absent server.
    """
    try:
        if not is_known_version():
            mlflow.MlflowClient(uri).search_experiments(max_results=1)
            return 200

        from mlflow.utils import credentials, rest_utils

        question = {"endpoint": "/api/2.0/mlflow/experiments/search", "method": "GET", "params": {"max_results": 1}}
        once = {"timeout": timeout, "max_retries": 0, "raise_on_status": False}
        return rest_utils.http_request(credentials.get_default_host_creds(uri), **question, **once).status_code
    except MlflowException as error:
        return None if is_known_version() else error.get_http_status_code()
