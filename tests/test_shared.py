"""Networks that jobs of one process share: what the second one gets is what it would have made itself, to the last bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from attnunet.models.attention_resunet import attention_resunet
from attnunet.training import network_cache
from attnunet.training.schedules import adam
from attnunet.training.state import variables

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
MASKS = (IMAGES > 127).astype(np.float32)
traced: list[str] = []


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    network_cache.kept.clear()
    traced.clear()


class Told(keras.losses.Loss):
    """Says when it is traced: Python runs it then only."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        traced.append(self.name)
        return keras.losses.binary_crossentropy(y_true, y_pred, from_logits=True)


def build() -> keras.Model:
    network = attention_resunet(16, 1, [2, 4], layers.Conv2D, dropout=0.5)
    network.compile(adam(10, 0.01), Told(), jit_compile=False)
    return network


class Failing(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        raise InterruptedError


def job(seed: int, key: str = "key", callbacks: tuple[keras.callbacks.Callback, ...] = ()) -> list[np.ndarray]:
    """What a training of three steps from this seed ends with, and predicts."""
    policy = keras.config.dtype_policy()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(seed)
    network = network_cache.compile_once(key, build)
    data = tf.data.Dataset.from_tensors((IMAGES, MASKS)).repeat()
    network.fit(data, epochs=3, steps_per_epoch=1, shuffle=False, verbose=0, callbacks=[*callbacks])
    logits = network_cache.without_optimizer(network).predict_on_batch(IMAGES)
    return [logits, *(np.asarray(variable.value) for variable in variables(network))]


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_a_later_job_traces_nothing_and_ends_with_the_bits_of_one_of_its_own(
    precision: str, request: pytest.FixtureRequest
) -> None:
    """Under mixed_float16 the optimizer has a scale of the loss besides, and counts its steps."""
    if precision == "mixed_float16":
        request.getfixturevalue("mixed_float16")
    alone = job(seed=1)
    network_cache.kept.clear()
    first = job(seed=0)
    traced.clear()
    second = job(seed=1)
    assert not traced
    for ours, expected in zip(second, alone, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    assert hasattr(network_cache.kept["key"].optimizer, "inner_optimizer") == (precision == "mixed_float16")


@pytest.mark.slow
def test_a_job_that_failed_leaves_nothing_to_the_next() -> None:
    alone = job(seed=1)
    with pytest.raises(InterruptedError):
        job(seed=0, callbacks=(Failing(),))
    for ours, expected in zip(job(seed=1), alone, strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("key", ["other", pytest.param("", marks=pytest.mark.slow)])
def test_another_computation_gets_a_network_of_its_own_and_takes_the_place(key: str) -> None:
    """Without a key every one is another."""
    job(seed=0, key="" if key == "" else "key")
    (before,) = network_cache.kept.values()
    traced.clear()
    job(seed=0, key=key)
    assert traced
    assert list(network_cache.kept) == [key]
    assert network_cache.kept[key] is not before


def test_a_bare_network_shares_its_weights_and_is_not_compiled() -> None:
    keras.utils.set_random_seed(0)
    network = network_cache.compile_once("key", build)
    bare = network_cache.without_optimizer(network)
    assert bare is network_cache.without_optimizer(network)
    assert not bare.compiled
    assert bare.jit_compile is False
    network.set_weights([weight + 1 for weight in network.get_weights()])
    for ours, theirs in zip(bare.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
