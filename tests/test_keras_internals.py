"""The private part of Keras works on the version that it was written for, and is left alone on any other."""

import ast
import gc
import re
import weakref
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from attnunet.config.targets import PACKAGE
from attnunet.training import keras_internals
from attnunet.training.keras_internals import WRITTEN_FOR, skip_gradient_sum

IMAGES = np.arange(8, dtype=np.float32).reshape(4, 2)


def train(skip: bool) -> tuple[weakref.ref, list[np.ndarray]]:
    """Train a step; return the graph of the step, and the weights."""
    graphs = []

    def loss(wanted: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        graphs.append(weakref.ref(found.graph))
        return keras.losses.mean_squared_error(wanted, found)

    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(0.1), loss, jit_compile=False)
    if skip:
        skip_gradient_sum(network.optimizer)
    network.fit(IMAGES, IMAGES[:, :1], epochs=1, verbose=0)
    return graphs[-1], network.get_weights()


def test_the_private_part_was_read_in_the_version_that_is_installed() -> None:
    assert keras.__version__.startswith(WRITTEN_FOR), "read keras_internals.py against this version of Keras"


def test_the_step_of_one_device_is_freed_and_ends_with_the_same_weights() -> None:
    kept, expected = train(skip=False)
    freed, found = train(skip=True)
    keras.backend.clear_session()
    gc.collect()
    assert kept() is not None  # else Keras frees it by itself, and keras_internals.py can go
    assert freed() is None
    for ours, keras_s in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, keras_s)


@pytest.mark.parametrize("scaled", [False, True])
def test_keras_asks_the_part_that_is_replaced(scaled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    adam = keras.optimizers.Adam(0.1)
    monkeypatch.setattr(type(adam), "_all_reduce_sum_gradients", lambda self, pairs: asked.append(1) or list(pairs))
    optimizer = keras.optimizers.LossScaleOptimizer(adam) if scaled else adam
    weight = keras.Variable(1.0)
    optimizer.build([weight])
    optimizer.apply([keras.ops.ones(())])
    assert asked == [1]
    skip_gradient_sum(optimizer)
    optimizer.apply([keras.ops.ones(())])
    assert asked == [1]


def test_another_version_of_keras_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_internals.keras, "__version__", "3.16.0")
    adam = keras.optimizers.Adam(0.1)
    skip_gradient_sum(adam)
    assert "_all_reduce_sum_gradients" not in vars(adam)


PRIVATE = ("keras.src", "mlflow.utils", "mlflow.store", "mlflow.tracking._", "tensorflow.python")


def uses_of_private_parts(file: Path) -> Iterator[str]:
    """Yield imports of private modules, and private attributes of anything but the class itself. `_replace` is public."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PRIVATE):
            yield f"{file.name}: {node.module}"
        if isinstance(node, ast.Attribute) and re.match("_(?!replace$)[a-z]", node.attr) and ast.unparse(node.value) != "self":
            yield f"{file.name}: {ast.unparse(node)}"


def test_private_parts_are_used_in_one_file_for_each_package() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if "sweeps" not in file.parts]  # sweeps stand for Hydra
    found = [use for file in files for use in uses_of_private_parts(file)]
    assert sorted(found) == [
        "keras_internals.py: inner._all_reduce_sum_gradients",
        "mlflow_internals.py: mlflow.utils",  # credentials, rest_utils
        "workers.py: os._exit",  # Python's, and documented
    ]
