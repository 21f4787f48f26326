"""The private parts of MLflow that attnunet uses, as MLflow 3.17 has them; on any other version, the public way."""

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from attnunet.errors import UserError
from attnunet.tracking import sqlite

WRITTEN_FOR = "3.17."


def known() -> bool:
    """Return whether the private parts are those that this module was written for."""
    return mlflow.__version__.startswith(WRITTEN_FOR)


def check_file(database: Path) -> None:
    """Raise SQLite's error if the file is not a store of MLflow's.

    The public way leaves this to MLflow's first call, which tries again and again for two minutes.
    """
    if known():
        with closing(sqlite3.connect(database, timeout=sqlite.WAIT)) as connection:
            connection.execute("SELECT version_num FROM alembic_version").fetchone()


def relocate(client: mlflow.MlflowClient, database: Path, artifacts: Path) -> None:
    """Let the store of a folder that was moved or copied find its files: MLflow stores their addresses absolute.

    Raises:
        UserError: the folder was moved, and MLflow has no public way to tell the store.
    """
    now = artifacts.as_uri()
    stored = {study.artifact_location for study in client.search_experiments(ViewType.ALL)} - {now}
    moved = [before for before in stored if before.startswith("file:") and before.endswith("/artifacts")]
    if moved and not known():
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
            ):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",  # LIKE would take an address's % for a wildcard
                    (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )


def http_status(uri: str, timeout: float) -> int | None:
    """Return the HTTP status with which a server answers a question to its database; None if it does not answer.

    MLflow's own request knows all of MLflow's settings of credentials and certificates. Its public client takes the
    time-out from the environment alone, and reports 500 for every fault of a server, and for one that does not answer.
    """
    try:
        if not known():
            mlflow.MlflowClient(uri).search_experiments(max_results=1)
            return 200

        from mlflow.utils import credentials, rest_utils

        question = {"endpoint": "/api/2.0/mlflow/experiments/search", "method": "GET", "params": {"max_results": 1}}
        once = {"timeout": timeout, "max_retries": 0, "raise_on_status": False}
        return rest_utils.http_request(credentials.get_default_host_creds(uri), **question, **once).status_code
    except MlflowException as error:
        return None if known() else error.get_http_status_code()
