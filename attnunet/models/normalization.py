"""Batch normalisation by TensorFlow's fused kernel."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable(package="attnunet")
class FusedBatchNormalization(layers.BatchNormalization):
    """keras.layers.BatchNormalization of (B, H, W, C) over its last axis, with the same weights and the same results.

        y = gamma (x - mean) / sqrt(variance + epsilon) + beta

    Ioffe and Szegedy 2015, arXiv 1502.03167. Keras composes this of a dozen operations, each a pass over the feature maps;
    the kernel makes two. It computes in float32 whatever the type of x.
    """

    def add_weight(self, *arguments: Any, trainable: bool = True, **keywords: Any) -> keras.Variable:
        """The moving statistics are means over all devices; Keras would keep those of the first one's share."""
        aggregation = "none" if trainable else "mean"
        return super().add_weight(*arguments, trainable=trainable, aggregation=aggregation, **keywords)

    def call(self, inputs: Any, training: bool | None = None, mask: None = None) -> Any:
        learning = bool(training and self.trainable)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            # The kernel answers the unbiased variance, Keras keeps the biased one.
            pixels = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), variance.dtype)
            for moving, seen in ((self.moving_mean, mean), (self.moving_variance, variance * (pixels - 1) / pixels)):
                moving.assign(moving * self.momentum + seen * (1 - self.momentum))
        return outputs
