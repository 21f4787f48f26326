"""The files of a run's MLflow model. They need no other part of the store, and no package beside those they name."""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LoggedModel
from mlflow.models import Model, ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from attnunet.data.phantom import draw_patient
from attnunet.inference.predictor import Predictor

PACKAGE = Path(__file__).parent.parent
REQUIREMENTS = ("tensorflow", "keras", "numpy", "scipy", "opencv-python-headless", "filelock")
"""The packages that prediction imports. Headless OpenCV needs no library of a screen, which a container lacks."""


def save_model(folder: Path, predictor: Predictor, source: Path, logged: LoggedModel) -> None:
    """Write the files of an MLflow model into a new folder. `source` is a folder in which the predictor is saved."""
    mlflow.pyfunc.save_model(
        folder,
        loader_module="attnunet.served",
        data_path=str(source),
        code_paths=[str(PACKAGE), *sorted({find_source(module) for module in predictor.modules})],
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
            run_id=logged.source_run_id,
        ),
        signature=sign(predictor),
        input_example=draw_example(predictor),
        pip_requirements=[f"{name}=={metadata.version(name)}" for name in REQUIREMENTS],
    )


def sign(predictor: Predictor) -> ModelSignature:
    """Return the signature of the model.

    The tensor has the type "object", because MLflow accepts only the type of the signature, and "object" stands for all.
    """
    names = list(predictor.preparation.file_channels)
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
        params=ParamSchema(
            [
                ParamSpec("spacing", DataType.double, [], (-1,)),
                ParamSpec("sequences", DataType.string, names, (-1,)),
            ]
        ),
    )


def draw_example(predictor: Predictor) -> tuple[np.ndarray, dict[str, list]]:
    """Return an example of a request: a slice of a phantom, never of a patient, and its parameters."""
    names = list(predictor.preparation.file_channels)
    images, _ = draw_patient(np.random.default_rng(0), slices=3, size=32)
    return images[1:2][..., np.arange(len(names)) % images.shape[-1]], {"spacing": [5.0, 1.0, 1.0], "sequences": names}


def find_source(module: str) -> str:
    """Return the folder of the top-level package of an imported module; the file, if the top level is a single file."""
    spec = find_spec(module.partition(".")[0])
    assert spec is not None
    return str(spec.submodule_search_locations[0] if spec.submodule_search_locations else spec.origin)
