"""Exports a predictor: writes its network for another runtime, checks the file, and adds the facts that a caller needs."""

import json
from pathlib import Path

import keras
import numpy as np

from attnunet.data.files import building
from attnunet.errors import UserError
from attnunet.inference.formats import FORMATS
from attnunet.inference.predictor import Predictor

TOLERANCE = 1e-4
"""The tolerance for a logit x of the network: the file's logit may differ from it by TOLERANCE * (1 + |x|)."""


def to_float32(network: keras.Model) -> keras.Model:
    """Return a network with the same weights that computes in float32. The given network may have any precision.

    On the CPU, ONNX Runtime and LiteRT have no kernels for some parts of a network of mixed precision.
    """

    def policy(node: dict) -> dict:
        return {**node, "config": {"name": "float32"}} if node.get("class_name") == "DTypePolicy" else node

    config = json.loads(network.to_json(), object_hook=policy)
    exact = keras.models.model_from_json(json.dumps(config))
    exact.set_weights(network.get_weights())
    return exact


def export_predictor(predictor: Predictor, form: str, folder: Path) -> tuple[Path, float]:
    """Write the network in float32 and the file predictor.json. Return the file's path and the rounding difference.

    predictor.json says how to prepare images and how to turn probabilities into masks. The folder appears only after a check
    that the written file gives the same logits as the network. The rounding difference is the largest difference between the
    network's logits in float32 and in the precision of its training.

    Raises:
        UserError: the format needs a package that is not installed, or the file gives other logits.
    """
    network = to_float32(predictor.network)
    write, name = FORMATS[form]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with building(folder) as temporary:
        images = np.random.default_rng(0).integers(0, 256, (2, *network.input_shape[1:]), dtype=np.uint8)
        images = images.astype(network.inputs[0].dtype)
        expected = network.predict_on_batch(images)  # first, because Keras cannot export a network that was never called
        rounding = np.abs(expected - predictor.network.predict_on_batch(images)).max()
        try:
            answer = write(network, temporary / name)
        except ModuleNotFoundError as error:
            raise UserError(f"format={form} needs the package {error.name}: pip install {error.name}") from error
        found = answer(images)
        if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            distance = np.abs(found - expected).max()
            raise UserError(f"format={form}: the file's logits differ by up to {distance:.2g} from the network's")
        (temporary / "predictor.json").write_text(predictor.facts)
    return folder / name, float(rounding)
