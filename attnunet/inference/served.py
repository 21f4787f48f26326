"""A logged model as MLflow serves it: `mlflow.pyfunc.load_model` calls `_load_pyfunc` with the folder of a predictor."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from attnunet.inference.predictor import Predictor


class Served:
    """Answers a volume uint8 (slices, height, width, channels) with its mask uint8 (slices, height, width) of 0 and 1."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, volume: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        return self.predictor.segment(np.asarray(volume))


def _load_pyfunc(folder: str) -> Served:
    """Return the predictor. The model's own copy of the modules that it needs is imported: to load a model is to trust it."""
    for module in json.loads(Path(folder, "predictor.json").read_text())["modules"]:
        import_module(module)
    return Served(Predictor.load(Path(folder)))
