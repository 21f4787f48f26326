"""Training that starts from the weights of an earlier run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnunet.data.cache import Prepared
from attnunet.data.split import Split
from attnunet.evaluation.known import known_patients
from attnunet.tracking.records import Record, RunError, find_checkpoint
from attnunet.tracking.store import Store

if TYPE_CHECKING:
    import keras

SEEN = {"val": ("train",), "test": ("train", "val")}
"""The parts of an earlier run's split in which the patients of a part may not be."""


def find_origin(store: Store, run_id: str, prepared: Prepared, split: Split) -> Record:
    """Return the run whose weights a training with this split may start from, without importing TensorFlow.

    That run may have started from another run's weights, and so on. No run of this chain may have trained on a validation or
    test patient of the split, or have been validated on a test patient.

    Args:
        store: the store of the runs.
        run_id: the run's id, or the first digits of it.
        prepared: the data of the training.
        split: the split of the training.

    Raises:
        NotFound: there is no such run, or it keeps no checkpoint.
        RunError: a run of the chain has seen a patient that it may not have seen.
    """
    origin = earlier = find_checkpoint(store, run_id)
    while True:
        for part, parts in SEEN.items():
            if seen := {name for own in parts for name in known_patients(earlier, own, prepared, split.parts[part])}:
                raise RunError(
                    f"init={run_id}: run {earlier.id} ({earlier.name}) has seen patients of {part}: "
                    f"{', '.join(sorted(seen))}; allowed: a run that has not"
                )
        if not earlier.config.get("init"):
            return origin
        earlier = find_checkpoint(store, earlier.config.init)


def start_from(network: keras.Model, origin: Record) -> None:
    """Set the weights of a network to those of the best checkpoint of a run.

    Raises:
        RunError: the networks have different weights.
    """
    from attnunet.evaluation.scoring import load_predictor

    weights = load_predictor(origin).network.get_weights()
    theirs, ours = ([value.shape for value in values] for values in (weights, network.get_weights()))
    if theirs != ours:
        raise RunError(
            f"init={origin.id}: its network has {len(theirs)} arrays of weights with {sum(map(np.prod, theirs)):,} numbers, "
            f"this network {len(ours)} with {sum(map(np.prod, ours)):,}, or in another order; "
            "allowed: a run with the same model and channels"
        )
    network.set_weights(weights)
