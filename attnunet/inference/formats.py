"""Export formats. Each function writes a network for another runtime, and returns a function that runs the written file.

That function takes images uint8 (B, S, S, C) and returns logits float32 (B, S, S, 1), as the network does. Each function
imports its runtime itself, since the check of the configuration reads FORMATS before TensorFlow is loaded.
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
    """Write Keras's own file, without optimizer and loss."""
    from attnunet.inference.predictor import load_network

    network.save(path)
    return load_network(path).predict_on_batch


def to_savedmodel(network: keras.Model, path: Path) -> Answer:
    """Write a folder that TensorFlow and TensorFlow Serving load; its signature is `serve`."""
    import tensorflow as tf

    network.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.serve(images).numpy()


def to_onnx(network: keras.Model, path: Path) -> Answer:
    """Write ONNX with tf2onnx, and run it in ONNX Runtime.

    Raises:
        ModuleNotFoundError: one of the two is not installed.
    """
    import onnxruntime
    import tf2onnx  # noqa: F401 - Keras calls it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="In the future `np.object`", category=FutureWarning)  # Keras looks for it
        network.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    (image,) = session.get_inputs()
    return lambda images: session.run(None, {image.name: images})[0]


def to_tflite(network: keras.Model, path: Path) -> Answer:
    """Write a file for LiteRT, formerly TensorFlow Lite, in float32."""
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
"""For each value of export's `format`: the function that writes it, and the name of the file or folder."""
