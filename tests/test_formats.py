"""Networks rewritten for other runtimes: float32, of Keras's own layers, without batch normalisation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from attnunet.errors import UserError
from attnunet.inference import formats
from attnunet.inference.plain import foreign_layers, simplify, to_float32
from attnunet.models.attention_resunet import attention_resunet
from attnunet.models.normalization import FusedBatchNormalization
from attnunet.models.upsample_concat import Joined

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
SETTINGS: dict[str, dict[str, Any]] = {
    "conv": {"convolution": layers.Conv2D, "dropout": 0.2},
    "separable": {"convolution": layers.SeparableConv2D, "gate": "concat"},
}


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """Keras's layers compute so until the test ends."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def build(setting: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    network = attention_resunet(16, 3, [4, 8], **SETTINGS[setting])
    rng = np.random.default_rng(1)
    network.set_weights([weight + rng.uniform(0, 0.1, weight.shape) for weight in network.get_weights()])  # statistics too
    return network


def parts(network: keras.Model) -> list[layers.Layer]:
    return [part for layer in network.layers for part in ([layer, layer.layer] if isinstance(layer, Joined) else [layer])]


@pytest.mark.parametrize(
    ("setting", "precision"),
    [("conv", "float32"), ("separable", "mixed_float16"), ("conv", "mixed_bfloat16")],
    indirect=["precision"],
)
def test_the_network_in_float32_is_the_one_that_float32_would_have_built(setting: str, precision: str) -> None:
    network = build(setting)
    exact = to_float32(network)
    assert {part.compute_dtype for part in parts(exact) if part.weights} == {"float32"}
    assert len(parts(exact)) == len(parts(network))
    assert {layer.compute_dtype for layer in simplify(network).layers[1:]} == {"float32"}

    keras.config.set_dtype_policy("float32")
    expected = build(setting)
    expected.set_weights(network.get_weights())
    logits = exact(IMAGES).numpy()
    np.testing.assert_array_equal(logits, expected(IMAGES))
    away = np.abs(network(IMAGES) - logits).max() / np.abs(logits).max()
    assert away < 0.05
    assert (away > 0) == (precision != "float32")


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_simple_network_has_layers_of_keras_alone_and_no_normalisation(setting: str) -> None:
    network = build(setting)
    expected = network(IMAGES)
    simple = simplify(network)
    assert foreign_layers(network) == ["attnunet>FusedBatchNormalization", "attnunet>Joined"]
    assert foreign_layers(simple) == []
    assert not [layer for layer in simple.layers if isinstance(layer, layers.BatchNormalization)]
    np.testing.assert_allclose(simple(IMAGES), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(network(IMAGES), expected)  # the network itself stays


def odd(image: Any) -> Any:
    """Return features that end in a normalisation which is no part of a convolution, or of only one of its two uses."""
    normal = FusedBatchNormalization(name="alone")(layers.Rescaling(1 / 255)(image))
    curved = layers.Conv2D(2, 3, padding="same", activation="relu")(normal)
    shared = layers.Conv2D(2, 5, padding="same", name="shared")(layers.BatchNormalization(center=False)(curved))
    once = layers.BatchNormalization(scale=False)(shared)
    small = layers.MaxPooling2D(2)(layers.Add()([once, shared]))
    grown = Joined(layers.Conv2D(2, 5, padding="same", use_bias=True, name="grown"))((small, once))
    deep = Joined(layers.SeparableConv2D(2, 3, padding="same", depth_multiplier=2, use_bias=False, name="deep"))((small, once))
    return layers.Conv2D(1, 1)(FusedBatchNormalization()(layers.Add()([FusedBatchNormalization()(grown), deep])))


def test_what_cannot_be_folded_stays() -> None:
    image = keras.Input((16, 16, 3), dtype="uint8")
    keras.utils.set_random_seed(0)
    network = keras.Model(image, odd(image))
    rng = np.random.default_rng(1)
    network.set_weights([weight + rng.uniform(0, 0.5, weight.shape) for weight in network.get_weights()])
    simple = simplify(network)
    assert foreign_layers(simple) == []
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in simple.layers) == 3
    expected = network(IMAGES)
    np.testing.assert_allclose(simple(IMAGES), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@keras.saving.register_keras_serializable(package="mine")
class Registered(layers.Layer):
    def call(self, image: Any) -> Any:
        return keras.ops.cast(image, "float32")


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_a_normalisation_of_single_images_stays(norm: str) -> None:
    network = attention_resunet(16, 3, [4, 8], layers.Conv2D, norm=norm, depths=[2, 1])
    simple = simplify(network)
    assert foreign_layers(simple) == []
    np.testing.assert_allclose(simple(IMAGES), network(IMAGES), rtol=1e-4, atol=1e-5)


def test_keras_alone_cannot_load_a_layer_of_ones_own(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((16, 16, 3), dtype="uint8"), Registered(), layers.Conv2D(1, 1)])
    assert foreign_layers(simplify(network)) == ["mine>Registered"]
    with pytest.raises(UserError, match=r"^format=keras: Keras alone cannot load your own layers \(mine>Registered\)"):
        formats.write_keras(network, tmp_path / "network.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:(?s).*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize(
    ("setting", "precision"), [("conv", "mixed_bfloat16"), ("separable", "mixed_float16")], indirect=["precision"]
)
@pytest.mark.parametrize("form", list(formats.FORMATS))
def test_every_format_holds_a_mixed_network_in_float32(form: str, setting: str, tmp_path: Path) -> None:
    network = build(setting)
    expected = to_float32(network).predict_on_batch(IMAGES)
    simple = simplify(network)
    simple.predict_on_batch(IMAGES)
    file = tmp_path / formats.FORMATS[form].name
    formats.FORMATS[form].write(simple, file)
    found = formats.FORMATS[form].load(file)(IMAGES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
