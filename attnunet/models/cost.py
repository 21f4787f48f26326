"""The cost of a network: its parameters, and the multiplications of a prediction."""

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from attnunet.models.upsample_concat import Joined

COUNTED = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2DTranspose, layers.Dense)

Shapes = list[tuple]


def measure_cost(network: keras.Model) -> dict[str, int]:
    """Return the numbers of parameters and of multiplications (MACs). A number of multiplications may be missing."""
    macs = count_multiplications(network)
    return {"parameters": network.count_params()} | ({} if macs is None else {"macs": macs})


def count_multiplications(network: keras.Model) -> int | None:
    """Return the multiply-accumulate operations of all kernels for one image; None if a layer's number is not known.

    A convolution multiplies each number of its kernels once at each pixel of its output. A transposed convolution does so at
    each pixel of its input. For a Conv2D of k x k pixels, this is k k C_in C_out H W. A layer `Joined` counts as the
    convolution that it stands for, on the concatenated tensor.

    Biases, normalisation, activation, resizing and the products of the gates are not counted, as is usual. A layer of another
    class has a number only if it has no kernel, which is a weight with two or more axes.
    """
    total = 0
    for entry in network.get_config()["layers"]:
        layer = network.get_layer(entry["name"])
        for shapes in input_shapes(entry["inbound_nodes"]):
            found = count_layer(layer, shapes)
            if found is None:
                return None
            total += found
    return total


def input_shapes(calls: list[dict[str, Any]]) -> Iterator[Shapes]:
    """Yield the shapes of the tensors that a layer gets in each of its calls, from the configuration of a network."""

    def tensors(value: Any) -> Iterator[tuple]:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            yield tuple(value["config"]["shape"])
        elif isinstance(value, dict | list | tuple):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from tensors(inner)

    for call in calls:
        yield list(tensors(call["args"]))


def count_layer(layer: layers.Layer, shapes: Shapes) -> int | None:
    """Return the number for a call of a layer with tensors of these shapes (B, ...); None if it is not known."""
    if isinstance(layer, Joined):
        below, skip = shapes
        return count_layer(layer.layer, [(*skip[:3], below[3] + skip[3])])
    kernels = [weight for weight in layer.weights if len(weight.shape) > 1]
    if not kernels:
        return 0
    if not isinstance(layer, COUNTED):
        return None
    grid = shapes[0] if isinstance(layer, layers.Conv2DTranspose) else layer.compute_output_shape(shapes[0])
    return math.prod(grid[1:-1]) * sum(math.prod(kernel.shape) for kernel in kernels)
