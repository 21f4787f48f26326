"""Batch normalisation by TensorFlow's fused kernel."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable(package="attnunet")
class FusedBatchNormalization(layers.BatchNormalization):
    """keras.layers.BatchNormalization of (B, H, W, C) over its last axis, with the same weights and the same results.

        y = gamma (x - mean) / sqrt(variance + epsilon) + beta

    Ioffe and Szegedy 2015, arXiv 1502.03167. Keras composes this of a dozen operations, and each passes over the feature
    maps; the kernel passes over them twice. It computes in float32, whatever the type of x.
    """

    def add_weight(self, *arguments: Any, trainable: bool = True, **keywords: Any) -> keras.Variable:
        """Add a weight; the moving statistics become means over all devices, where Keras keeps those of the first device."""
        aggregation = "none" if trainable else "mean"
        return super().add_weight(*arguments, trainable=trainable, aggregation=aggregation, **keywords)

    def call(self, inputs: Any, training: bool | None = None, mask: None = None) -> Any:
        if not (training and self.trainable):
            return self.normalize(inputs, self.moving_mean, self.moving_variance, is_training=False)[0]
        # The kernel moves the statistics towards the unbiased variance; Keras moves them towards the biased one.
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
