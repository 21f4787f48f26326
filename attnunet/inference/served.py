"""The form in which MLflow serves a logged model.

`mlflow.pyfunc.load_model` calls `_load_pyfunc` with the folder of a predictor.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from attnunet.inference.predictor import Predictor


class Served:
    """Maps a volume of numbers (slices, height, width, channels) to a mask uint8 (slices, height, width) of 0 and 1."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, volume: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        return self.predictor.segment(np.asarray(volume))


def _load_pyfunc(folder: str) -> Served:
    """Return the predictor in a folder.

    The function first imports the modules that the model needs, from the copy that was logged with the model. So only load
    a model that you trust.
    """
    for module in json.loads(Path(folder, "predictor.json").read_text())["modules"]:
        import_module(module)
    return Served(Predictor.load(Path(folder)))
