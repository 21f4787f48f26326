"""A compiled network that the jobs of one process share.

TensorFlow traces the steps of a new network, and that can take longer than the rest of a job.
"""

from collections.abc import Callable
from functools import lru_cache

import keras

from attnunet.models.blocks import prediction
from attnunet.training.state import variables

kept: dict[str, keras.Model] = {}


def compile_once(key: str, build: Callable[[], keras.Model]) -> keras.Model:
    """Return the compiled network that `build` makes, or the last job's network if that has the same `key`.

    The last job's network gets the values of the new network, equal to the last bit.

    Args:
        key: equal for two networks if their steps are the same computation on the same shapes. The empty string stands for
            a network that must not be shared.
    """
    fresh = build()
    # The optimizer makes its variables here. If the first step made them, TensorFlow would trace that step twice, and the
    # state of the training would lack these variables.
    with fresh.distribute_strategy.scope():
        fresh.optimizer.build(fresh.trainable_variables)
    if not key or key not in kept:
        kept.clear()
        kept[key] = fresh
    else:
        for ours, theirs in zip(variables(kept[key]), variables(fresh), strict=True):
            ours.assign(theirs)
    return kept[key]


@lru_cache(maxsize=1)
def without_optimizer(network: keras.Model) -> keras.Model:
    """Return a model of the same layers, but without loss, optimizer and the logits of coarser levels.

    It serves predictions and checkpoints.
    """
    with network.distribute_strategy.scope():
        model = keras.Model(network.input, prediction(network), name=network.name)
    model.jit_compile = network.jit_compile  # an uncompiled network would choose it by the device
    return model
