"""Keras's Adam and AdamW by TensorFlow's kernel for Adam."""

from typing import Any

import keras
import tensorflow as tf


class FusedStep:
    """One operation a variable, where Keras composes the step of two dozen: with the same state and the same results.

        m += (1 - beta_1) (g - m)
        v += (1 - beta_2) (g^2 - v)
        w -= rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    Kingma and Ba 2015, arXiv 1412.6980, at the end of section 2. Half of a training step's operations were the
    optimizer's, and half of the time until the first step its tracing.
    """

    iterations: Any
    beta_1: float
    beta_2: float
    epsilon: float
    amsgrad: bool
    _momentums: list[keras.Variable]
    _velocities: list[keras.Variable]
    _get_variable_index: Any

    def _distributed_tf_update_step(self, distribution: Any, grads_and_vars: Any, learning_rate: Any) -> None:
        step = tf.cast(self.iterations + 1, tf.float32)
        self.beta_powers = [tf.pow(beta, step) for beta in (self.beta_1, self.beta_2)]
        super()._distributed_tf_update_step(distribution, grads_and_vars, learning_rate)  # type: ignore[misc]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]
            return
        place = self._get_variable_index(variable)
        first, second = self.beta_powers
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=first,
            beta2_power=second,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


@keras.saving.register_keras_serializable(package="attnunet")
class Adam(FusedStep, keras.optimizers.Adam):
    pass


@keras.saving.register_keras_serializable(package="attnunet")
class AdamW(FusedStep, keras.optimizers.AdamW):
    pass
