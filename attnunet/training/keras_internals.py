"""Uses a private part of Keras 3.15. With any other version of Keras, attnunet does without it."""

from typing import Any

import keras

WRITTEN_FOR = "3.15."


def skip_gradient_sum(optimizer: Any) -> None:
    """Make an optimizer skip the sum of gradients over devices. With a single device, the sum changes no result.

    Keras computes the sum with a custom gradient. TensorFlow never frees a custom gradient, nor the graph of the training
    step that belongs to it. Each job of a sweep would lose 10 MB in this way.
    """
    if keras.__version__.startswith(WRITTEN_FOR):
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # mixed_float16 wraps the optimizer to scale the loss
        inner._all_reduce_sum_gradients = list
