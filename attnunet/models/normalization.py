"""Normalisations of feature maps, and batch normalisation with TensorFlow's fused kernel."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable(package="attnunet")
class FusedBatchNormalization(layers.BatchNormalization):
    """Normalises each channel of (B, H, W, C), with the weights and results of keras.layers.BatchNormalization.

        y = gamma (x - mean) / sqrt(variance + epsilon) + beta

    Keras uses a dozen operations for this formula, and each operation passes over the feature maps. The fused kernel passes
    over them only twice. The kernel computes in float32 for every type of x.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167.
    """

    def add_weight(self, *arguments: Any, trainable: bool = True, **keywords: Any) -> keras.Variable:
        """Add a weight. Moving statistics become the mean over all devices; Keras would keep those of the first device."""
        aggregation = "none" if trainable else "mean"
        return super().add_weight(*arguments, trainable=trainable, aggregation=aggregation, **keywords)

    def call(self, inputs: Any, training: bool | None = None, mask: None = None) -> Any:
        if not (training and self.trainable):
            return self.normalize(inputs, self.moving_mean, self.moving_variance, is_training=False)[0]
        # The kernel updates the moving variance with the unbiased variance, but Keras updates it with the biased variance.
        pixels = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), self.moving_variance.dtype)
        bias = tf.maximum(pixels - 1, 1) / pixels
        outputs, mean, variance = self.normalize(
            inputs, self.moving_mean, self.moving_variance / bias, is_training=True, exponential_avg_factor=1 - self.momentum
        )
        self.moving_mean.assign(mean)
        self.moving_variance.assign(variance * bias)
        return outputs

    def normalize(self, inputs: Any, mean: Any, variance: Any, **settings: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=mean, variance=variance, epsilon=self.epsilon, **settings
        )[:3]


Normalization = Callable[[int, str], layers.Layer]
"""Makes a normalisation layer from the number of channels and the layer's name."""


def batch(momentum: float, filters: int, name: str) -> layers.Layer:
    """Return a layer that normalises each channel over the pixels of all images in a batch."""
    return FusedBatchNormalization(momentum=momentum, name=name)


def group(momentum: float, filters: int, name: str) -> layers.Layer:
    """Return a layer that normalises groups of channels over the pixels of an image (Wu and He 2018, arXiv 1803.08494).

    There are 8 groups, or the largest divisor of 8 that divides the number of channels. The layer has no moving statistics,
    so it computes the same in training and in prediction, and `momentum` has no effect.
    """
    return layers.GroupNormalization(math.gcd(8, filters), name=name)


def instance(momentum: float, filters: int, name: str) -> layers.Layer:
    """Return a layer that normalises each channel over the pixels of an image (Ulyanov et al. 2016, arXiv 1607.08022)."""
    return layers.GroupNormalization(-1, name=name)


NORMALIZATIONS = {"batch": batch, "group": group, "instance": instance}
