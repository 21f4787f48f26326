"""The multiplications of networks, against numbers worked by hand."""

import keras
import pytest
from keras import layers

from attnunet.models.attention_resunet import attention_resunet
from attnunet.models.cost import count_multiplications

CASES = [
    (layers.Conv2D(5, 3, padding="same"), 8 * 8 * 9 * 4 * 5),
    (layers.Conv2D(5, 3), 6 * 6 * 9 * 4 * 5),
    (layers.Conv2D(6, 2, strides=2, groups=2), 4 * 4 * 4 * 2 * 6),
    (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 8 * 8 * 9 * 4 * 2),
    (layers.SeparableConv2D(5, 3, strides=2, padding="same"), 4 * 4 * (9 * 4 + 4 * 5)),
    (layers.Conv2DTranspose(5, 3, strides=2, padding="same"), 8 * 8 * 9 * 4 * 5),
    (layers.Dense(5), 8 * 8 * 4 * 5),
    (layers.BatchNormalization(), 0),
    (layers.UpSampling2D(2, interpolation="bilinear"), 0),
    (layers.Attention(), 0),
    (layers.MultiHeadAttention(2, 4), None),
]


@pytest.mark.parametrize(("layer", "expected"), CASES, ids=[f"{place} {layer.name}" for place, (layer, _) in enumerate(CASES)])
def test_a_layer(layer: layers.Layer, expected: int | None) -> None:
    image = keras.Input((8, 8, 4))
    inputs = {layers.Attention: [[image, image]], layers.MultiHeadAttention: [image, image]}.get(type(layer), [image])
    assert count_multiplications(keras.Model(image, layer(*inputs))) == expected


def test_a_layer_counts_in_each_of_its_calls() -> None:
    image = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 3, padding="same")
    network = keras.Model(image, shared(layers.MaxPooling2D(2)(shared(image))))
    assert count_multiplications(network) == (64 + 16) * 9 * 4 * 4


def test_the_network() -> None:
    """Two levels of 16 and 8 pixels with 2 and 4 feature maps, without gates and shortcuts."""
    conv = attention_resunet(16, 3, [2, 4], layers.Conv2D, gate="none", residual=False)
    encoder, bottleneck = 256 * 9 * (3 * 2 + 2 * 2), 64 * 9 * (2 * 4 + 4 * 4)
    decoder, logits = 256 * 9 * ((4 + 2) * 2 + 2 * 2), 256 * 2
    assert count_multiplications(conv) == encoder + bottleneck + decoder + logits
    gated = attention_resunet(16, 3, [2, 4], layers.SeparableConv2D)
    encoder, bottleneck = 256 * (9 * 3 + 3 * 2 + 9 * 2 + 2 * 2 + 3 * 2), 64 * (9 * 2 + 2 * 4 + 9 * 4 + 4 * 4 + 2 * 4)
    gate = 64 * (4 * 2 * 2 + 4 * 2 + 2)
    decoder = 256 * (9 * 6 + 6 * 2 + 9 * 2 + 2 * 2 + 6 * 2)
    assert count_multiplications(gated) == encoder + bottleneck + gate + decoder + logits
