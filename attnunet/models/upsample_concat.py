"""What a decoder's block does first: convolve the level below, up-sampled, beside the skip."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable(package="attnunet")
class Joined(layers.Wrapper):
    """convolution(Concatenate([UpSampling2D(2)(below), skip])), with the same weights and results, without that tensor.

    below: (B, H, W, G); skip: (B, 2H, 2W, S) -> (B, 2H, 2W, filters). A convolution of a concatenation is the sum of one of
    each part, and of what is up-sampled much can be done at the lower resolution:

        Conv2D 1x1          all of it
        Conv2D 3x3          the nine taps of a pixel meet at most four different values: a transposed convolution of
                            4x4 and stride 2, of 4/9 of the multiplications (`transposed_kernel`)
        SeparableConv2D     nothing, but no tensor is joined, nor its gradient cut
        any other           as it is written above
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
    """Whether it is a convolution of stride 1 that keeps the size, and nothing besides."""
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
    """(B, H, W, C) -> (B, 2H, 2W, C), each pixel four times."""
    return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)


def resize(x: tf.Tensor) -> tf.Tensor:
    """The same in two thirds of the time; XLA has no gradient of it."""
    return tf.raw_ops.ResizeNearestNeighbor(images=x, size=2 * tf.shape(x)[1:3])


Up = Callable[[tf.Tensor], tf.Tensor]


def split_kernel(kernel: Any, below: tf.Tensor, skip: tf.Tensor) -> list[tf.Tensor]:
    """The kernel's input channels that belong to each of the two."""
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


# Row by row of the transposed kernel: which of a convolution's three taps meet on one pixel that is drawn twice as large.
TAPS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])


def transposed_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """A convolution's kernel (3, 3, C, F) -> that of the transposed convolution of stride 2 (4, 4, F, C) which answers
    for x what the convolution answers for up(x). One matrix product, since each element is a sum of one, two or four."""
    taps = tf.reshape(tf.transpose(kernel, (0, 1, 3, 2)), (9, -1))
    sums = tf.constant(np.kron(TAPS, TAPS), kernel.dtype)
    return tf.reshape(sums @ taps, (4, 4, kernel.shape[3], kernel.shape[2]))
