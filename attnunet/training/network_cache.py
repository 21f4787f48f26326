"""The network that jobs of one process share: its steps are traced once, which takes longer than many a job."""

from collections.abc import Callable
from functools import lru_cache

import keras

from attnunet.training.state import variables

kept: dict[str, keras.Model] = {}


def compile_once(key: str, build: Callable[[], keras.Model]) -> keras.Model:
    """The compiled network that `build` makes, or the last job's in its place, made equal to it to the last bit.

    Args:
        key: equal for networks whose steps are the same computation on the same shapes; "" for one that must not be shared.
    """
    fresh = build()
    # Variables that the first step has to make would have it traced twice, and have no place in a training's state.
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
    """The same layers without loss and optimizer: what predicts, and what is kept in a checkpoint."""
    with network.distribute_strategy.scope():
        model = keras.Model(network.input, network.output, name=network.name)
    model.jit_compile = network.jit_compile  # one that is not compiled chooses by the device
    return model
