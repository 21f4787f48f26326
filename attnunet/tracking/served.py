"""The predictor behind MLflow's pyfunc interface; MLflow stores this file with a model and runs it to load one."""

import warnings
from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from attnunet.inference import Predictor

# MLflow asks for type hints at `predict`, from which it would make a schema, but knows none for arrays; the model's
# signature says what they are.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*Add type hints to the `predict` method")

    class Served(PythonModel):
        """Volume uint8 (slices, height, width, channels) -> mask uint8 (slices, height, width) of 0 and 1."""

        def load_context(self, context):
            self.predictor = Predictor.load(Path(context.artifacts["predictor"]))

        def predict(self, context, model_input, params=None):
            return self.predictor.segment(np.asarray(model_input))


set_model(Served())
