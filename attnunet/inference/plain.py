"""Rewrites a trained network for prediction alone: float32, only layers of Keras itself, no batch normalisation."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers

from attnunet.models.upsample_concat import Joined, is_plain, transposed_kernel

Folded = Callable[[str, np.ndarray, np.ndarray], KerasTensor]
"""Returns scale * y + shift for the output y (B, H, W, C) of a convolution.

The arguments are the name of the new layer, `scale` (C,) and `shift` (C,).
"""
NOTHING = np.zeros(1, np.float32)


def simplify(network: keras.Model) -> keras.Model:
    """Return a network that gives the same logits, except for rounding. The given network stays as it is.

    The network computes in float32. The layers of attnunet become layers of Keras (see `join`). A batch normalisation after a
    convolution becomes a part of its last kernel and its bias, because both are linear (Jacob et al. 2018, arXiv 1712.05877,
    section 3.2):

        gamma (kernel * x + bias - mean) / sqrt(variance + epsilon) + beta = (scale kernel) * x + scale bias + shift

    A user's own layers, and networks that are no graph of layers, only become float32.
    """
    exact = to_float32(network)
    convolved: dict[int, tuple[KerasTensor, Folded]] = {}  # by the id of the output, which the tuple keeps in memory

    def call(layer: layers.Layer, inputs: Any, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(layer, layers.BatchNormalization) and id(inputs) in convolved:
            return convolved[id(inputs)][1](layer.name, *scale_and_shift(layer))
        if isinstance(layer, layers.BatchNormalization):
            config = layer.get_config()
            return place(layers.BatchNormalization, config, layer.get_weights(), inputs)
        if isinstance(layer, Joined):
            folded: Folded = partial(join, layer.layer, *inputs)
        elif type(layer) in (layers.Conv2D, layers.SeparableConv2D) and layer.activation is keras.activations.linear:
            folded = partial(convolve, layer, inputs)
        else:
            return layer(inputs, *arguments, **keywords)
        outputs = folded(layer.name, np.ones(1, np.float32), NOTHING)
        convolved[id(outputs)] = (outputs, folded)
        return outputs

    if not getattr(exact, "inputs", None):
        return exact
    graph = keras.Model(exact.inputs[0], exact.outputs[0])  # Keras does not rewrite a Sequential
    return keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)


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


def scale_and_shift(normalization: layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor and the summand (C,) of a batch normalisation that does not train."""
    scale = 1 / np.sqrt(normalization.moving_variance.numpy() + normalization.epsilon)
    if normalization.scale:
        scale = scale * normalization.gamma.numpy()
    shift = -normalization.moving_mean.numpy() * scale
    return scale, shift + normalization.beta.numpy() if normalization.center else shift


def place(kind: type[layers.Layer], config: dict, weights: list[np.ndarray], inputs: Any) -> KerasTensor:
    """Call a new layer with these weights."""
    layer = kind.from_config(config)
    outputs = layer(inputs)
    layer.set_weights(weights)
    return outputs


def convolve(
    convolution: Any, inputs: KerasTensor, name: str, scale: np.ndarray, shift: np.ndarray, kernels: Sequence = ()
) -> KerasTensor:
    """Return scale * convolution(inputs) + shift, by a convolution with a bias. `kernels` can replace the kernels."""
    own = convolution.get_weights()
    bias = own.pop() if convolution.use_bias else NOTHING
    *first, last = kernels or own
    config = {**convolution.get_config(), "use_bias": True, "name": name}
    biases = np.broadcast_to(bias * scale + shift, last.shape[3:])
    return place(type(convolution), config, [*first, last * scale, biases], inputs)


def join(
    convolution: Any, below: KerasTensor, skip: KerasTensor, name: str, scale: np.ndarray, shift: np.ndarray
) -> KerasTensor:
    """Return scale * convolution(Concatenate([UpSampling2D(2)(below), skip])) + shift, as the layer `Joined` computes it.

    A 3x3 or 1x1 convolution of `below` runs at its lower resolution. The sum of both convolutions gets the shift once. The
    new layers compute in float32, also in a process that trains in mixed precision.
    """
    kind, up = type(convolution), layers.UpSampling2D(2, dtype="float32", name=f"{name}_up")
    parts = kind in (layers.Conv2D, layers.SeparableConv2D) and is_plain(convolution)
    if not parts or getattr(convolution, "depth_multiplier", 1) != 1:
        joined = layers.Concatenate(dtype="float32", name=f"{name}_concat")([up(below), skip])
        return convolve(convolution, joined, name, scale, shift)

    of_below, of_skip = zip(*(np.split(k, [below.shape[3]], axis=2) for k in convolution.get_weights()), strict=True)
    if kind is layers.Conv2D and convolution.kernel_size == (3, 3):
        kernel = transposed_kernel(of_below[0] * scale).numpy()
        settings = {"strides": 2, "padding": "same", "use_bias": False, "dtype": "float32", "name": f"{name}_below"}
        enlarged = place(layers.Conv2DTranspose, {"filters": kernel.shape[2], "kernel_size": 4, **settings}, [kernel], below)
    elif convolution.kernel_size == (1, 1):
        enlarged = up(convolve(convolution, below, f"{name}_below", scale, NOTHING, of_below))
    else:
        enlarged = convolve(convolution, up(below), f"{name}_below", scale, NOTHING, of_below)
    beside = convolve(convolution, skip, f"{name}_skip", scale, shift, of_skip)
    return layers.Add(dtype="float32", name=name)([enlarged, beside])


def foreign_layers(network: keras.Model) -> list[str]:
    """Return the classes of a network that Keras does not define itself, as Package>Name or module.Name."""
    found: dict[str, None] = {}

    def note(node: dict) -> dict:
        if "class_name" in node and "registered_name" in node and not str(node.get("module")).startswith("keras"):
            found[node["registered_name"] or f"{node['module']}.{node['class_name']}"] = None
        return node

    json.loads(network.to_json(), object_hook=note)
    return list(found)
