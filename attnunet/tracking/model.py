"""The MLflow model of a run. Its files need nothing else of the store, and no package beside those that they name."""

import json
import shutil
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from attnunet.data.phantom import draw_patient

PACKAGE = Path(__file__).parent.parent
REQUIREMENTS = ("tensorflow", "keras", "numpy", "scipy", "opencv-python-headless", "filelock")
"""The packages that prediction imports. OpenCV without windows needs no library of a screen, which a container lacks."""


def log_model(client: mlflow.MlflowClient, run_id: str, checkpoints: Path, card: str | None = None) -> LoggedModel:
    """Log the MLflow model of a run, and return it.

    Args:
        run_id: the id of the run.
        checkpoints: a folder with the run's best.keras and predictor.json.
        card: the text of README.md among the files of the model; None for no such file.
    """
    run = client.get_run(run_id)
    logged = client.create_logged_model(run.info.experiment_id, "model", run_id, params=run.data.params)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_model(folder, checkpoints, logged)
        if card is not None:
            (folder / "README.md").write_text(card)
        client.log_model_artifacts(logged.model_id, str(folder))
    return client.finalize_logged_model(logged.model_id, "READY")


def save_model(folder: Path, checkpoints: Path, logged: LoggedModel) -> None:
    """Write the files of an MLflow model into a new folder. See `log_model` for `checkpoints`."""
    facts = json.loads((checkpoints / "predictor.json").read_text())
    sequences = facts["preparation"]["file_channels"]
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "predictor"  # MLflow uses the name of this folder in the model
        data.mkdir()
        for name in ("best.keras", "predictor.json"):
            shutil.copy(checkpoints / name, data)
        mlflow.pyfunc.save_model(
            folder,
            loader_module="attnunet.served",
            data_path=str(data),
            code_paths=[str(PACKAGE), *sorted({find_source(module) for module in facts.get("modules", ())})],
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
                run_id=logged.source_run_id,
            ),
            signature=sign(sequences),
            input_example=draw_example(sequences),
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in REQUIREMENTS],
        )


def sign(sequences: list[str]) -> ModelSignature:
    """Return the signature of a model whose training files hold these sequences.

    The tensor has the type "object", because MLflow accepts only the type of the signature, and "object" stands for all.
    """
    spacing = ParamSpec("spacing", DataType.double, [], (-1,))
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
        params=ParamSchema([spacing, ParamSpec("sequences", DataType.string, sequences, (-1,))]),
    )


def draw_example(sequences: list[str]) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Return an example of a request: a slice of a phantom, never of a patient, and its parameters."""
    images, _ = draw_patient(np.random.default_rng(0), slices=3, size=32)
    volume = images[1:2][..., np.arange(len(sequences)) % images.shape[-1]]
    return volume, {"spacing": [5.0, 1.0, 1.0], "sequences": sequences}


def find_source(module: str) -> str:
    """Return the folder of the top-level package of an imported module; the file, if the top level is a single file."""
    spec = find_spec(module.partition(".")[0])
    assert spec is not None
    return str(spec.submodule_search_locations[0] if spec.submodule_search_locations else spec.origin)
