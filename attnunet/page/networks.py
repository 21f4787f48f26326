"""The networks that the page offers: the runs of a store, or a folder with a predictor."""

import json
from pathlib import Path

from attnunet.config import targets
from attnunet.errors import UserError
from attnunet.inference.predictor import Predictor
from attnunet.tracking import records
from attnunet.tracking.store import open_store


def find_networks(place: Path) -> dict[str, str]:
    """Return the label of each network by its id, newest first.

    The networks are the finished runs of the store at `place` that keep a checkpoint. If `place` is a folder with
    predictor.json, it is the only network, and its id is "".

    Raises:
        UserError: no run of the store keeps a checkpoint.
    """
    if is_predictor(place):
        return {"": place.resolve().name}
    store = open_store(place.resolve(), None, 0)
    found = [records.Record(store, run) for run in records.search_runs(store, records.list_studies(store))]
    kept = [record for record in found if record.is_current and record.params.get("trainer.keep", "none") != "none"]
    if not kept:
        raise UserError(f"{place}: no finished run keeps a checkpoint; train one, with trainer.keep=best or all")
    return {record.id: label(record) for record in reversed(kept)}


def label(record: records.Record) -> str:
    """Return the validation Dice, the name and the first digits of the id of a run."""
    return f"{record.metrics.get('final/val/dice', float('nan')):.3f}  {record.name} ({record.id[:8]})"


def is_predictor(place: Path) -> bool:
    """Return whether a folder holds the two files of a predictor."""
    return (place / "best.keras").is_file() and (place / "predictor.json").is_file()


def load_network(place: Path, network: str) -> Predictor:
    """Return the predictor with this id at `place`.

    Raises:
        TargetError: the command line does not allow a module that the network needs.
    """
    from attnunet.evaluation import scoring

    if not is_predictor(place):
        return scoring.load_predictor(records.find_checkpoint(open_store(place.resolve(), None, 0), network))
    targets.import_modules(json.loads((place / "predictor.json").read_text()).get("modules", ()), str(place))
    return Predictor.load(place)
