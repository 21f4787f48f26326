"""The networks that the page offers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnunet.config import is_folder
from attnunet.tracking import models, records
from attnunet.tracking.store import Store, open_store

if TYPE_CHECKING:
    from attnunet.page.scans import Network


def find_networks(root: Path, run: str | None) -> dict[str, str]:
    """Return the label of each network by its value of the key `run`, without loading TensorFlow.

    `run` is the only network, in one of `models.FORMS`. If it is None, the networks are the finished runs of the store at
    `root` that keep a checkpoint, newest first.

    Raises:
        NotFound: there is no such network.
        UserError: see `models.Model.check`.
    """
    if run is not None:
        return {run: models.find_model(open_network_store(root, run), run).name}
    store = open_store(root.resolve(), None, 0)
    found = [records.Record(store, run) for run in records.search_runs(store, records.list_studies(store))]
    kept = [record for record in found if record.is_current and record.params.get("trainer.keep", "none") != "none"]
    if not kept:
        raise records.NotFound(f"{root}: no finished run keeps a checkpoint; train one, with trainer.keep=best or all")
    return {record.id: label(record) for record in reversed(kept)}


def open_network_store(root: Path, run: str) -> Store | None:
    """Return the store that a network comes from. A folder with a network needs none."""
    return None if is_folder(run) else open_store(root.resolve(), None, 0)


def label(record: records.Record) -> str:
    """Return the validation Dice, the name and the first digits of the id of a run."""
    return f"{record.metrics.get('final/val/dice', float('nan')):.3f}  {record.name} ({record.id[:8]})"


def load_network(root: Path, run: str) -> Network:
    """Return the predictor or ensemble of a network. TensorFlow must be configured.

    Raises:
        UserError: see `attnunet.evaluation.ensembles.load_model`.
    """
    from attnunet.evaluation.ensembles import load_model

    return load_model(models.find_model(open_network_store(root, run), run))
