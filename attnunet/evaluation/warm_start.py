"""Training that starts from the weights of an earlier run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnunet.data.cache import Prepared
from attnunet.data.split import Split
from attnunet.evaluation.known import find_ancestors, known_patients
from attnunet.tracking.records import Record, RunError, find_checkpoint
from attnunet.tracking.store import Store

if TYPE_CHECKING:
    from attnunet.inference.predictor import Predictor, Preparation

SEEN = {"val": ("train",), "test": ("train", "val")}
"""The parts of an earlier run's split in which the patients of a part may not be."""
PREPARED = ("channels", "neighbors", "intensity", "pixel_size", "plane", "image_size")
"""What a network's weights have seen of the preparation of images."""


def find_origin(store: Store, run_id: str, prepared: Prepared, split: Split) -> Record:
    """Return the run whose weights a training with this split may start from, without importing TensorFlow.

    Neither that run nor one from whose weights it started may have trained on a validation or test patient of the split, or
    have been validated on a test patient.

    Args:
        store: the store of the runs.
        run_id: the run's id, or the first digits of it.
        prepared: the data of the training.
        split: the split of the training.

    Raises:
        NotFound: there is no such run, or it keeps no checkpoint.
        RunError: one of these runs has seen a patient that it may not have seen, or is gone.
    """
    origin = find_checkpoint(store, run_id)
    _, gone = find_ancestors(origin)
    if gone:
        raise RunError(f"init={run_id}: {gone}; allowed: a run whose origin is in the store")
    for part, parts in SEEN.items():
        if seen := {name for own in parts for name in known_patients(origin, own, prepared, split.parts[part])}:
            raise RunError(
                f"init={run_id}: run {origin.id} ({origin.name}), or a run from whose weights it started, has seen patients "
                f"of {part}: {', '.join(sorted(seen))}; allowed: a run that has not"
            )
    return origin


def start_from(predictor: Predictor, origin: Record) -> list[str]:
    """Set the weights of a network to those of the best checkpoint of a run. Return how the preparation of images differs.

    Raises:
        RunError: the networks have different weights, or a channel of both is at another place.
    """
    from attnunet.evaluation.scoring import load_predictor

    earlier = load_predictor(origin)
    weights, now = earlier.network.get_weights(), predictor.network.get_weights()
    theirs, ours = ([value.shape for value in values] for values in (weights, now))
    if theirs != ours:
        raise RunError(
            f"init={origin.id}: its network has {len(theirs)} arrays of weights with {sum(map(np.prod, theirs)):,} numbers, "
            f"this network {len(ours)} with {sum(map(np.prod, ours)):,}, or in another order; "
            "allowed: a run with the same model and channels"
        )
    before, after = input_names(earlier.preparation), input_names(predictor.preparation)
    if moved := [name for place, name in enumerate(after) if name in before and before.index(name) != place]:
        raise RunError(
            f"init={origin.id}: its network takes the channels {', '.join(before)}, this one {', '.join(after)}, so its "
            f"weights for {', '.join(moved)} belong to another channel; allowed: the same order of data.channels and neighbors"
        )
    predictor.network.set_weights(weights)
    pairs = [(name, getattr(earlier.preparation, name), getattr(predictor.preparation, name)) for name in PREPARED]
    return [f"{name} was {then} and is {own}" for name, then, own in pairs if then != own]


def input_names(preparation: Preparation) -> list[str]:
    """Return a name for each channel of a network's input."""
    around = [f"{name} of the slice {where}" for where in ("before", "after") for name in preparation.neighbors]
    return [*preparation.channels, *around]
