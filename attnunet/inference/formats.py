"""Export formats. Each `to_...` function writes a network for another runtime, and returns a function that runs the file.

The returned function maps images uint8 (B, S, S, C) to logits float32 (B, S, S, 1), as the network does. Each function imports
its runtime itself, because the check of the configuration reads FORMATS before TensorFlow is loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

Answer = Callable[[np.ndarray], np.ndarray]


def to_keras(network: keras.Model, path: Path) -> Answer:
    """Write a file in Keras's own format, without optimizer and loss."""
    from attnunet.inference.predictor import load_network

    network.save(path)
    return load_network(path).predict_on_batch


def to_savedmodel(network: keras.Model, path: Path) -> Answer:
    """Write a folder that TensorFlow and TensorFlow Serving can load. Its signature is `serve`."""
    import tensorflow as tf

    network.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.serve(images).numpy()


def to_onnx(network: keras.Model, path: Path) -> Answer:
    """Write an ONNX file with tf2onnx. The returned function runs the file in ONNX Runtime.

    Raises:
        ModuleNotFoundError: tf2onnx or ONNX Runtime is not installed.
    """
    import onnxruntime
    import tf2onnx  # noqa: F401 - Keras calls it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="In the future `np.object`", category=FutureWarning)  # Keras reads np.object
        network.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    (image,) = session.get_inputs()
    return lambda images: session.run(None, {image.name: images})[0]


def to_tflite(network: keras.Model, path: Path) -> Answer:
    """Write a float32 file for LiteRT (formerly TensorFlow Lite)."""
    import tensorflow as tf

    network.export(path, format="litert", verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(str(path))
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(image["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(logits["index"])

    return answer


FORMATS: dict[str, tuple[Callable[[keras.Model, Path], Answer], str]] = {
    "keras": (to_keras, "network.keras"),
    "savedmodel": (to_savedmodel, "network"),
    "onnx": (to_onnx, "network.onnx"),
    "tflite": (to_tflite, "network.tflite"),
}
"""Maps each value of export's `format` to the function that writes the format, and to the name of the file or folder."""
