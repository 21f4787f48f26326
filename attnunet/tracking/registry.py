"""The registered model of a store: its versions, and the alias that names the best one."""

from attnunet.config import targets
from attnunet.tracking.records import Record
from attnunet.tracking.store import Store

NAME, ALIAS = "attnunet", "best"
ADDRESS = f"models:/{NAME}@{ALIAS}"
DESCRIPTION = "Networks that segment lesions in slices of brain MRI. Each version has a model card."


def register(record: Record, card: str) -> int:
    """Register the predictor of a run as a new version, give the alias to it, and return its number.

    The model is written anew from the checkpoint, so a run of an earlier version gets a model in today's form. The card
    becomes a file of the model and the description of the version. If a version has the same run and card, it gets the alias.

    Raises:
        NotFound: the run keeps no checkpoint.
        Tampered: a file of the checkpoint was changed after the run wrote it.
    """
    from attnunet.tracking.model import log_model

    record.check_checkpoint()
    targets.import_modules(record.modules, f"run {record.id} ({record.name})")
    store, client = record.store, record.store.client

    def give() -> int:
        if not client.search_registered_models(f"name = '{NAME}'"):
            client.create_registered_model(NAME, description=DESCRIPTION)
        versions = client.search_model_versions(f"name = '{NAME}' and run_id = '{record.id}'")
        number = next((found.version for found in versions if found.description == card), None)
        if number is None:
            with record.file("checkpoints") as checkpoints:
                model = log_model(client, record.id, checkpoints, card)
            address = model.artifact_location
            number = client.create_model_version(NAME, address, record.id, description=card, model_id=model.model_id).version
        client.set_registered_model_alias(NAME, ALIAS, number)
        return int(number)

    with store.lock():
        return store.attempt(give)


def registered_runs(store: Store) -> set[str]:
    """Return the ids of the runs whose models are registered."""
    found = store.attempt(lambda: store.client.search_model_versions(f"name = '{NAME}'"))
    return {version.run_id for version in found}
