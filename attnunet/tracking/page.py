"""MLflow's page of a study: its address, its table and its description."""

from collections.abc import Iterable

from attnunet.config import format_override
from attnunet.tracking import mlflow_internals
from attnunet.tracking.labels import NOTE
from attnunet.tracking.store import Store


def place_of(study: str) -> str:
    """Return the place of a study's table on MLflow's page. `study` is the id of the MLflow experiment."""
    return f"#/experiments/{study}/runs{mlflow_internals.view_query()}"


def announce(store: Store, study: str) -> str:
    """Return the lines that say where the runs of a study can be compared: the command for a local store, and the address."""
    lines = filter(None, (store.ui_command, f"{store.ui_address}/{place_of(study)}"))
    return "compare   " + "\n          ".join(lines)


def show_study(store: Store, study: str, score: str, monitor: str, keys: Iterable[str]) -> None:
    """Let the table of a study show the score and these keys of the command line, and sort the runs by the score.

    A study without a description gets one, with a link to its table.

    Args:
        score: the metric that holds the best value of `monitor`.
    """
    client = store.client
    with store.lock():
        store.attempt(lambda: mlflow_internals.show_columns(client, study, score, monitor, list(keys)))
        found = store.attempt(lambda: client.get_experiment(study))
        if NOTE not in found.tags:
            table = f"[All trainings, the best first]({place_of(study)})"
            compare = f"python -m attnunet.compare {format_override('study', found.name)}"
            told = f"`{compare}` says which differences can be trusted."
            store.attempt(lambda: client.set_experiment_tag(study, NOTE, f"{table}, by {monitor}.\n\n{told}"))
