"""Export formats. Each has a function that writes a network, and a function that loads the written file.

A `load_...` function returns a function that runs the file. It maps images (B, S, S, C), of the type of the network's input,
to logits float32 (B, S, S, 1), as the network does. Each bundle contains the source of a `load_...` function, so they use
nothing of attnunet. Each function imports its runtime itself, because the check of the configuration reads FORMATS before
TensorFlow is loaded.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnunet.errors import UserError

if TYPE_CHECKING:
    import keras
    import openvino


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        name: the name of the written file or folder.
        write: writes a network to a path.
        load: returns the function that runs the file.
        packages: the packages that `load` needs.
    """

    name: str
    write: Callable[[keras.Model, Path], None]
    load: Callable[[Path], Callable[[np.ndarray], np.ndarray]]
    packages: tuple[str, ...]


def write_keras(network: keras.Model, path: Path) -> None:
    """Write a file in Keras's own format, which Keras loads without attnunet.

    Raises:
        UserError: the network has layers of the user's own.
    """
    from attnunet.inference.plain import foreign_layers

    if foreign := foreign_layers(network):
        raise UserError(
            f"format=keras: Keras alone cannot load your own layers ({', '.join(foreign)}); allowed: the other formats, or "
            "the run's checkpoint best.keras together with your modules"
        )
    network.save(path)


def load_keras(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import keras

    return keras.models.load_model(path, compile=False).predict_on_batch


def write_savedmodel(network: keras.Model, path: Path) -> None:
    """Write a folder that TensorFlow and TensorFlow Serving can load. Its signature is `serve`."""
    network.export(path, format="tf_saved_model", verbose=False)


def load_savedmodel(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.serve(images).numpy()


def write_onnx(network: keras.Model, path: Path) -> None:
    """Write an ONNX file with tf2onnx.

    Raises:
        ModuleNotFoundError: tf2onnx is not installed.
    """
    import tf2onnx  # noqa: F401 - Keras calls it

    logging.getLogger("tf2onnx").setLevel(logging.WARNING)  # it tells of each node that it folds
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="In the future `np.object`", category=FutureWarning)  # Keras reads np.object
        network.export(path, format="onnx", verbose=False)


def load_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]


def write_litert(network: keras.Model, path: Path) -> None:
    """Write a float32 file for LiteRT, formerly TensorFlow Lite."""
    network.export(path, format="litert", verbose=False)


def load_litert(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError:
        from tensorflow.lite.python.interpreter import Interpreter  # the copy of LiteRT in TensorFlow

    interpreter = Interpreter(str(path))
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(image["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(logits["index"])

    return run


def write_openvino(network: keras.Model, path: Path) -> None:
    """Write a float32 network for OpenVINO: an XML file with the graph, and a file .bin beside it with the weights.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
    """
    model = as_openvino(network)

    import openvino

    openvino.save_model(model, path, compress_to_fp16=False)


def as_openvino(network: keras.Model) -> openvino.Model:
    """Return a network as a graph of OpenVINO.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # else OpenVINO sends usage statistics
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        write_savedmodel(network, Path(folder))
        return openvino.Core().read_model(folder)


def load_openvino(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # else OpenVINO sends usage statistics
    import openvino

    core = openvino.Core()
    graph = core.read_model(path)
    graph.reshape([1, *list(graph.input().partial_shape)[1:]])
    # Each core computes an image of its own. In float32, because some processors would compute in bfloat16.
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(core.compile_model(graph, "CPU", settings))

    def run(images: np.ndarray) -> np.ndarray:
        logits = np.empty((*images.shape[:3], 1), np.float32)
        queue.set_callback(lambda request, place: np.copyto(logits[place], request.get_output_tensor().data[0]))
        for place in range(len(images)):
            queue.start_async({0: images[place : place + 1]}, place)
        queue.wait_all()
        return logits

    return run


FORMATS = {
    "keras": Format("network.keras", write_keras, load_keras, ("keras", "tensorflow")),
    "savedmodel": Format("network", write_savedmodel, load_savedmodel, ("tensorflow",)),
    "onnx": Format("network.onnx", write_onnx, load_onnx, ("onnxruntime",)),
    "litert": Format("network.tflite", write_litert, load_litert, ("ai-edge-litert",)),
    "openvino": Format("network.xml", write_openvino, load_openvino, ("openvino",)),
}
"""The value of export's `format`, and the format."""
