"""The predictor behind MLflow's pyfunc interface; MLflow stores this file with a model and runs it to load one."""

from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from attnunet.inference.predictor import Predictor


class Served(PythonModel):
    """Volume uint8 (slices, height, width, channels) -> mask uint8 (slices, height, width) of 0 and 1."""

    # MLflow would make a schema of type hints, knows none for arrays, and warns of any hint and of none; the model's
    # signature says what goes in and what comes out.
    _skip_type_hint_validation = True

    def load_context(self, context):
        self.predictor = Predictor.load(Path(context.artifacts["predictor"]))

    def predict(self, context, model_input, params=None):
        return self.predictor.segment(np.asarray(model_input))


set_model(Served())
