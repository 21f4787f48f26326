"""Functions that use private parts of MLflow 3.17. With any other version of MLflow, they use only its public functions."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from attnunet.errors import UserError
from attnunet.tracking import sqlite

WRITTEN_FOR = "3.17."
VIEW = "attnunet"
"""The key of the view that `show_columns` gives to a study."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
MOST_COLUMNS = 12  # parameters that the view shows


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


def show_columns(client: mlflow.MlflowClient, study: str, score: str, monitor: str, params: Sequence[str]) -> None:
    """Give a study the view that `view_query` opens: its trainings, the best first, with score and parameters as columns.

    MLflow's page reads such a view from a tag of the study. The page writes these tags when a user shares a view. The
    parameters of earlier calls stay in the view, after the new ones. With any other version of MLflow, do nothing.

    Args:
        study: the id of the MLflow experiment.
        score: the metric by which the runs are sorted. The lowest loss comes first, and the highest value of any other.
        monitor: the metric of each epoch whose best value is the score.
        params: the parameters that tell the runs apart.
    """
    if not is_known_version():
        return
    before = client.get_experiment(study).tags.get(VIEW_TAG, "{}")
    earlier = json.loads(before).get("params", [])
    shown = list(dict.fromkeys([*params, *earlier]))[:MOST_COLUMNS] if set(params) - set(earlier) else earlier
    widths = {"1": 73, "attributes.`Run Name`": 300, f"metrics.`{score}`": 120}  # in pixels; "1" holds the boxes to tick
    widths |= {f"params.`{name}`": max(80, 8 * len(name) + 25) for name in shown}
    widths |= {"metrics.`final/val/dice`": 120, "metrics.`final/test/dice`": 120, "attributes.`Dataset`": 230}
    sections = {name: name not in ("final", "System metrics") for name in ("val", "train", "final", "System metrics")}
    view = {
        "params": shown,
        "searchFilter": "tags.fingerprint LIKE '%'",  # trainings have a fingerprint, and sweeps have none
        "orderByKey": f"metrics.`{score}`",
        "orderByAsc": monitor.endswith("loss"),
        "selectedColumns": list(widths)[2:],
        "columnOrder": list(widths),
        "columnWidths": widths,
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": display, "isReordered": False} for name, display in sections.items()
        ],
        "compareRunCharts": [
            {"type": "LINE", "uuid": monitor, "metricSectionId": monitor.partition("/")[0], "isGenerated": True}
            | {"metricKey": monitor, "selectedMetricKeys": [monitor], "deleted": False},
            {"type": "PARALLEL", "uuid": "parameters", "metricSectionId": monitor.partition("/")[0], "isGenerated": False}
            | {"selectedParams": shown, "selectedMetrics": [score], "showAllRuns": False, "deleted": False},
        ],
    }
    if (after := json.dumps(view)) != before:
        client.set_experiment_tag(study, VIEW_TAG, after)


def view_query() -> str:
    """Return the end of the address that opens the view of a study; "" with a version of MLflow that has no such view.

    The page then also leaves out what belongs to language models.
    """
    return f"?workflowType=machine_learning&viewStateShareKey={VIEW}" if is_known_version() else ""


def machine_monitors() -> list[Any]:
    """Return MLflow's collectors of the load of CPU and memory, and of the GPUs if there are any.

    With any other version of MLflow, return none. Its public functions cannot log through `Run`, which waits for a server.
    """
    if not is_known_version():
        return []
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors: list[Any] = [CPUMonitor()]
    with suppress(Exception):  # no GPU, or the package nvidia-ml-py is not installed
        monitors.append(GPUMonitor())
    return monitors
