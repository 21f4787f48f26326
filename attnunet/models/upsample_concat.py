"""A layer that convolves the concatenation of a skip connection and the up-sampled features of the level below.

Where possible, the layer does not build the concatenated tensor.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable(package="attnunet")
class Joined(layers.Wrapper):
    """Computes convolution(Concatenate([UpSampling2D(2)(below), skip])) with the same weights and the same results.

    The inputs are below (B, H, W, G) and skip (B, 2H, 2W, S). The output is (B, 2H, 2W, filters).

    The convolution of a concatenation is the sum of the convolutions of the two parts. The convolution of `below` depends on
    the kind of convolution:

        Conv2D 1x1          It runs at the lower resolution.
        Conv2D 3x3          It runs at the lower resolution. The nine taps of a pixel read at most four different values.
                            So a 4x4 transposed convolution of stride 2 gives the same result with 4/9 of the
                            multiplications.
        SeparableConv2D     It runs at the full resolution, but the concatenated tensor and its gradient are not built.
        any other           It runs at the full resolution, on the concatenated tensor of the formula.
    """

    def build(self, shapes: tuple[tuple, tuple]) -> None:
        below, skip = shapes
        super().build((*skip[:3], below[3] + skip[3]))

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        below, skip = inputs
        convolution, up = self.layer, repeat if training else resize
        if type(convolution) is layers.Conv2D and is_plain(convolution):
            if convolution.kernel_size == (1, 1):
                return pointwise_of_concat(below, skip, convolution.kernel, up)
            if convolution.kernel_size == (3, 3):
                return convolution_of_concat(below, skip, convolution.kernel)
        if type(convolution) is layers.SeparableConv2D and is_plain(convolution) and convolution.depth_multiplier == 1:
            return separable_of_concat(below, skip, convolution.depthwise_kernel, convolution.pointwise_kernel, up)
        return convolution(tf.concat([up(below), skip], axis=3))

    def compute_output_shape(self, shapes: tuple[tuple, tuple]) -> tuple:
        below, skip = shapes
        return self.layer.compute_output_shape((*skip[:3], below[3] + skip[3]))


def is_plain(convolution: Any) -> bool:
    """Return whether a convolution has stride 1, keeps the size, and has no bias, activation, dilation, groups or penalty."""
    return (
        convolution.strides == (1, 1)
        and convolution.dilation_rate == (1, 1)
        and getattr(convolution, "groups", 1) == 1
        and convolution.padding == "same"
        and not convolution.use_bias
        and convolution.activation is keras.activations.linear
        and convolution.activity_regularizer is None
        and convolution.data_format == "channels_last"
    )


def repeat(x: tf.Tensor) -> tf.Tensor:
    """Return (B, 2H, 2W, C) from (B, H, W, C). Each pixel becomes a square of four equal pixels."""
    return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)


def resize(x: tf.Tensor) -> tf.Tensor:
    """Return the same as `repeat`, in two thirds of the time. XLA has no gradient of this operation."""
    return tf.raw_ops.ResizeNearestNeighbor(images=x, size=2 * tf.shape(x)[1:3])


Up = Callable[[tf.Tensor], tf.Tensor]


def split_kernel(kernel: Any, below: tf.Tensor, skip: tf.Tensor) -> list[tf.Tensor]:
    """Return two parts of the kernel: the input channels for `below`, and the input channels for `skip`."""
    return tf.split(kernel, [below.shape[3], skip.shape[3]], axis=2)


def pointwise_of_concat(below: tf.Tensor, skip: tf.Tensor, kernel: Any, up: Up) -> tf.Tensor:
    of_below, of_skip = split_kernel(kernel, below, skip)
    return up(tf.nn.conv2d(below, of_below, 1, "SAME")) + tf.nn.conv2d(skip, of_skip, 1, "SAME")


def convolution_of_concat(below: tf.Tensor, skip: tf.Tensor, kernel: Any) -> tf.Tensor:
    of_below, of_skip = split_kernel(kernel, below, skip)
    shape = tf.concat([tf.shape(skip)[:3], [kernel.shape[3]]], axis=0)
    enlarged = tf.nn.conv2d_transpose(below, transposed_kernel(of_below), shape, 2, "SAME")
    return enlarged + tf.nn.conv2d(skip, of_skip, 1, "SAME")


def separable_of_concat(below: tf.Tensor, skip: tf.Tensor, depthwise: Any, pointwise: Any, up: Up) -> tf.Tensor:
    parts = zip((up(below), skip), split_kernel(depthwise, below, skip), split_kernel(pointwise, below, skip), strict=True)
    one, other = (tf.nn.conv2d(tf.nn.depthwise_conv2d(x, d, (1, 1, 1, 1), "SAME"), p, 1, "SAME") for x, d, p in parts)
    return one + other


# Row i says which of the three taps of a convolution add up to row i of the transposed kernel. These taps read the same pixel
# of the tensor before up-sampling.
TAPS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])


def transposed_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """Return the kernel (4, 4, F, C) of the transposed convolution of stride 2 that replaces up-sampling and convolution.

    `kernel` (3, 3, C, F) is the kernel of the convolution after up-sampling. Each element of the result is the sum of one,
    two or four elements of `kernel`. So one matrix product gives all elements.
    """
    taps = tf.reshape(tf.transpose(kernel, (0, 1, 3, 2)), (9, -1))
    sums = tf.constant(np.kron(TAPS, TAPS), kernel.dtype)
    return tf.reshape(sums @ taps, (4, 4, kernel.shape[3], kernel.shape[2]))
