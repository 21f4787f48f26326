"""The loading of models that commands name, and the decision of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Unpack

from attnunet.config import targets
from attnunet.evaluation.scoring import load_predictor
from attnunet.inference.ensemble import Ensemble
from attnunet.inference.predictor import Predictor
from attnunet.inference.stream import Settings, divide
from attnunet.metrics.decision import Decision
from attnunet.tracking.models import Model
from attnunet.tracking.records import Record


def load_model(model: Model, **settings: Unpack[Settings]) -> Predictor | Ensemble:
    """Return the predictor or the ensemble that a command names, with the settings that the command gives.

    The decision of an ensemble is chosen on the validation patients of its members, unless the command gives all of it; see
    `choose_decision`.

    Raises:
        NotFound: a run keeps no checkpoint.
        TargetError: the command line did not allow a module that a network needs, or the module cannot be imported.
        UserError: the members of an ensemble do not take the same volumes, or a file does not hold a network for lesions.
        DataError: the decision has to be chosen, and the data of the members cannot be read.
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
        ensemble = replace(ensemble, decision=choose_decision(model.records, ensemble))
    return ensemble.adjusted(**settings)


def choose_decision(records: Sequence[Record], ensemble: Ensemble) -> Decision:
    raise NotImplementedError
