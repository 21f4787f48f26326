"""Networks of mixed precision in other runtimes: computed in float32, with the same weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from attnunet.inference import formats
from attnunet.inference.export import to_float32
from attnunet.models.attention_resunet import attention_resunet
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

    keras.config.set_dtype_policy("float32")
    expected = build(setting)
    expected.set_weights(network.get_weights())
    logits = exact(IMAGES).numpy()
    np.testing.assert_array_equal(logits, expected(IMAGES))
    away = np.abs(network(IMAGES) - logits).max() / np.abs(logits).max()
    assert away < 0.05
    assert (away > 0) == (precision != "float32")


@pytest.mark.slow
@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize(
    ("setting", "precision"), [("conv", "mixed_bfloat16"), ("separable", "mixed_float16")], indirect=["precision"]
)
@pytest.mark.parametrize("form", list(formats.FORMATS))
def test_every_format_holds_a_mixed_network_in_float32(form: str, setting: str, tmp_path: Path) -> None:
    exact = to_float32(build(setting))
    expected = exact.predict_on_batch(IMAGES)
    write, name = formats.FORMATS[form]
    found = write(exact, tmp_path / name)(IMAGES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
