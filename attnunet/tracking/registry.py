"""The registered model of a store: its versions, and the alias that names the best one."""

import tempfile
from pathlib import Path

import mlflow
from mlflow.entities import LoggedModel

from attnunet.tracking.records import NotFound, Record
from attnunet.tracking.store import Store

NAME, ALIAS = "attnunet", "best"
ADDRESS = f"models:/{NAME}@{ALIAS}"
CARD = "README.md"
"""The name of the model card among the files of a model."""
DESCRIPTION = "Networks that segment lesions in slices of brain MRI. Each version has a model card."


def find_model(record: Record) -> LoggedModel:
    """Return the MLflow model of a finished run.

    Raises:
        NotFound: the run has no checkpoint or no model; its trainer.keep was none, or the model was deleted.
        Tampered: a file of the predictor was changed after the run wrote it.
    """
    record.check_checkpoint()
    store, study = record.store, record.run.info.experiment_id
    found = store.attempt(lambda: store.client.search_logged_models([study], f"source_run_id = '{record.id}'"))
    ready = [model for model in found if model.status == "READY"]
    if not ready:
        raise NotFound(f"run {record.id} ({record.name}) has no MLflow model; train it again to register it")
    with tempfile.TemporaryDirectory() as folder:
        address = f"{ready[0].artifact_location}/data/predictor"
        files = store.attempt(
            lambda: mlflow.artifacts.download_artifacts(address, dst_path=folder, tracking_uri=store.address)
        )
        record.check(Path(files), "checkpoints")
    return ready[0]


def register(record: Record, card: str) -> int:
    """Give the alias to the model of a run, and return the number of its version. A model gets one version only.

    The card becomes the description of the version, and a file of the model.

    Raises:
        NotFound, Tampered: see `find_model`.
    """
    model, store, client = find_model(record), record.store, record.store.client

    def give() -> int:
        if not client.search_registered_models(f"name = '{NAME}'"):
            client.create_registered_model(NAME, description=DESCRIPTION)
        found = [v for v in client.search_model_versions(f"name = '{NAME}'") if v.model_id == model.model_id]
        version = (
            found[0]
            if found
            else client.create_model_version(NAME, model.artifact_location, record.id, model_id=model.model_id)
        )
        client.update_model_version(NAME, version.version, card)
        client.set_registered_model_alias(NAME, ALIAS, version.version)
        return int(version.version)

    with store.lock(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / CARD
        file.write_text(card)
        store.attempt(lambda: client.log_model_artifact(model.model_id, str(file)))
        return store.attempt(give)


def registered_runs(store: Store) -> set[str]:
    """Return the ids of the runs whose models are registered."""
    found = store.attempt(lambda: store.client.search_model_versions(f"name = '{NAME}'"))
    return {version.run_id for version in found}
