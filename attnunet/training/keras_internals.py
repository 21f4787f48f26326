"""The private part of Keras that attnunet uses, as Keras 3.15 has it; any other version goes without."""

from typing import Any

import keras

WRITTEN_FOR = "3.15."


def skip_gradient_sum(optimizer: Any) -> None:
    """Let an optimizer of one device skip the sum of gradients over devices, which changes no result.

    Keras sums by a custom gradient. TensorFlow keeps that for ever, and with it the step's graph: 10 MB for each job of a
    sweep.
    """
    if keras.__version__.startswith(WRITTEN_FOR):
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # of the loss scaling under mixed_float16
        inner._all_reduce_sum_gradients = list
