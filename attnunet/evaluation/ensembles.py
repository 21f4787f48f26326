"""The loading of the models that commands name, and the decision of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Unpack

import numpy as np

from attnunet.config import targets
from attnunet.data.slices import DataError
from attnunet.evaluation.decision import read_truth
from attnunet.evaluation.scoring import load_predictor, prepare_as_trained, slices_of_part
from attnunet.inference.ensemble import Ensemble
from attnunet.inference.predictor import Predictor
from attnunet.inference.stream import Settings, divide, mean
from attnunet.metrics.decision import Case, Decision, decide
from attnunet.tracking.models import Model


def load_model(model: Model, **settings: Unpack[Settings]) -> Predictor | Ensemble:
    """Return the predictor or the ensemble that a command names, with the settings that the command gives.

    The decision of an ensemble is chosen on the validation patients of its members, unless the command gives all of it; see
    `choose_decision`.

    Raises:
        NotFound: a run keeps no checkpoint.
        TargetError: the command line did not allow a module that a network needs, or the module cannot be imported.
        UserError: the members of an ensemble do not take the same volumes, or a file does not hold a network for lesions.
        DataError: the decision has to be chosen, and the data of a member cannot be read.
    """
    if model.folder is not None:
        targets.import_modules(model.facts[0].get("modules", ()), str(model.folder))
        return Predictor.load(model.folder).adjusted(**settings)
    own, decision = divide(settings)
    predictors = tuple(replace(load_predictor(record), **own) for record in model.records)
    if len(predictors) == 1:
        return predictors[0].adjusted(**settings)
    ensemble = Ensemble(predictors, Decision())
    if len(decision) < len(fields(Decision)):
        ensemble = replace(ensemble, decision=choose_decision(model, predictors))
    return ensemble.adjusted(**settings)


def choose_decision(model: Model, predictors: Sequence[Predictor]) -> Decision:
    """Return the decision of an ensemble with the highest mean Dice over the validation patients of its members.

    The probabilities of a patient are the mean over the members that validated on the patient. A member that trained on the
    patient takes no part. `attnunet.metrics.decision.decide` makes the choice, on the grid of the first member.

    Raises:
        DataError: the data of a member cannot be read, or each member trained on all its validation patients.
    """
    maps: dict[tuple[str, str], list[np.ndarray]] = {}
    truths: dict[tuple[str, str], np.ndarray] = {}
    for record, predictor in zip(model.records, predictors, strict=True):
        try:
            prepared = prepare_as_trained(record.config.data, predictor.preparation, record.store.root / "cache")
            indices = slices_of_part(record, prepared, "val")
        except DataError as error:
            raise DataError(
                f"{error}\nrun={model.name}: the decision of an ensemble is chosen on validation patients of its members; "
                f"without the data of run {record.id}, give threshold, smallest_lesion and fill_holes"
            ) from error
        trained = set(record.split["train"])
        for volume in predictor.volumes(prepared, [i for i in indices if prepared.slices[i].patient not in trained]):
            key = (record.content, volume.name)
            maps.setdefault(key, []).append(volume.probabilities)
            truths[key] = read_truth(prepared, volume)
    if not maps:
        raise DataError(
            f"run={model.name}: each member trained on its validation patients; give threshold, smallest_lesion and fill_holes"
        )
    grid = model.records[0].config.evaluation
    cases = [Case("/".join(key), mean(found), truths[key]) for key, found in maps.items()]
    return decide(cases, grid.thresholds, grid.smallest_lesions, grid.fill_holes).decision
