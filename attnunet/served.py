"""The start of a logged model. `mlflow.pyfunc.load_model` calls `_load_pyfunc` with the folder of a predictor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attnunet.training import runtime

if TYPE_CHECKING:
    from attnunet.tracking.answers import Answers


def _load_pyfunc(folder: str) -> Answers:
    """Return the logged model, computed with the same libraries as in training; import the modules that it needs.

    The modules come from the copy that was logged with the model. So only load a model that you trust.
    """
    for name, value in runtime.DEFAULTS.items():
        os.environ.setdefault(name, value)  # has an effect if TensorFlow is not loaded yet, as in MLflow's server

    from attnunet.inference import served
    from attnunet.tracking.answers import Answers

    return Answers(served.load_served(folder))
