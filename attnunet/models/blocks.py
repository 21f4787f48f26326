"""The parts of an Attention Residual U-Net, as functions on Keras tensors of shape (B, H, W, C)."""

from collections.abc import Callable
from typing import TypeAlias

import keras
from keras import KerasTensor, layers

from attnunet.models.normalization import Normalization
from attnunet.models.upsample_concat import Joined

Convolution = Callable[..., layers.Layer]
"""Conv2D or SeparableConv2D. It is called as `convolution(filters, kernel_size, padding=..., use_bias=..., name=...)`."""


Features: TypeAlias = KerasTensor | tuple[KerasTensor, KerasTensor]
"""A tensor (B, H, W, C), or a pair of tensors (B, H/2, W/2, G) and (B, H, W, S).

The first tensor of a pair is up-sampled and then concatenated with the second tensor.
"""


def convolve(x: Features, convolution: layers.Layer) -> KerasTensor:
    return Joined(convolution, name=convolution.name)(x) if isinstance(x, tuple) else convolution(x)


def conv_block(
    x: Features, filters: int, convolution: Convolution, dropout: float, normalize: Normalization, name: str
) -> KerasTensor:
    """Return (B, H, W, filters): convolution, normalisation, ReLU, [dropout,] convolution, normalisation.

    The caller applies the second ReLU, so that it can add a shortcut before it (He et al. 2016, arXiv 1512.03385). The
    convolutions have no bias, because the normalisation after them subtracts most of it.
    """
    x = convolve(x, convolution(filters, 3, padding="same", use_bias=False, name=f"{name}_conv1"))
    x = normalize(filters, f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    if dropout > 0:
        x = layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(x)
    x = convolution(filters, 3, padding="same", use_bias=False, name=f"{name}_conv2")(x)
    return normalize(filters, f"{name}_bn2")(x)


def res_conv_block(
    x: Features,
    filters: int,
    convolution: Convolution,
    residual: bool,
    dropout: float,
    normalize: Normalization,
    name: str,
) -> KerasTensor:
    """Return ReLU(conv_block(x) + normalize(Conv1x1(x))) if `residual` is set, and ReLU(conv_block(x)) if not."""
    y = conv_block(x, filters, convolution, dropout, normalize, name)
    if residual:
        projection = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}_shortcut")
        shortcut = convolve(x, projection)
        shortcut = normalize(filters, f"{name}_shortcut_bn")(shortcut)
        y = layers.Add(name=f"{name}_add")([y, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(y)


def attention_gate(skip: KerasTensor, gating: KerasTensor, filters: int, join: layers.Layer, name: str) -> KerasTensor:
    """Return the skip connection, multiplied at each pixel by a weight in (0, 1).

    `skip` (B, 2H, 2W, S) comes from the encoder. `gating` (B, H, W, G) comes from the decoder's next lower level. The result
    has the shape of `skip`.

        weight = up(sigmoid(psi(ReLU(join(W_x * skip, W_g * gating)))))

    W_x is a 2x2 convolution of stride 2, which brings `skip` to the grid of `gating`. W_g and psi are 1x1 convolutions.
    `up` is bilinear up-sampling. If `join` adds, the gate is the additive gate of Oktay et al. 2018 (arXiv 1804.03999,
    eq. 1 and 2). The weights are the output of the layer `{name}_map`.
    """
    theta = layers.Conv2D(filters, 2, strides=2, use_bias=False, name=f"{name}_theta")(skip)
    phi = layers.Conv2D(filters, 1, name=f"{name}_phi")(gating)
    joined = layers.ReLU(name=f"{name}_relu")(join([theta, phi]))
    psi = layers.Conv2D(1, 1, name=f"{name}_psi")(joined)
    psi = layers.Activation("sigmoid", name=f"{name}_sigmoid")(psi)
    # The layer is float32 even in mixed precision. The gradient of TensorFlow's bilinear resizing is float32, and XLA refuses
    # to mix float32 with another type.
    weight = layers.UpSampling2D(2, interpolation="bilinear", dtype="float32", name=f"{name}_map")(psi)
    return layers.Multiply(name=name)([skip, weight])


def gate_maps(network: keras.Model) -> keras.Model | None:
    """Return a network that maps images to the gates' weights, or None if the network has no gates.

    The weights are {"gate_0_map": (B, H, W, 1), ...}. The finest level comes first.
    """
    maps = {layer.name: layer.output for layer in network.layers if layer.name.endswith("_map")}
    return keras.Model(network.input, dict(sorted(maps.items())), name=f"{network.name}_gates") if maps else None


SUPERVISED = "supervised"
"""The name of the layer that joins the logits of all levels."""


def upsampled_logits(x: KerasTensor, factor: int, name: str) -> KerasTensor:
    """Return the logits (B, factor * H, factor * W, 1) of a level (B, H, W, C): a 1x1 convolution, bilinearly up-sampled."""
    logits = layers.Conv2D(1, 1, dtype="float32", name=name)(x)
    return layers.UpSampling2D(factor, interpolation="bilinear", dtype="float32", name=f"{name}_up")(logits)


def supervise(logits: KerasTensor, coarse: list[KerasTensor]) -> KerasTensor:
    """Return the logits of all levels, (B, S, S, levels). The finest level comes first."""
    return layers.Concatenate(dtype="float32", name=SUPERVISED)([logits, *coarse])


def prediction(network: keras.Model) -> KerasTensor:
    """Return the output of a network without the logits of coarser levels, (B, S, S, 1)."""
    last = network.layers[-1]
    return last.input[0] if last.name == SUPERVISED else network.output
