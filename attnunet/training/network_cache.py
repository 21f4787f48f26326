"""A compiled network that the jobs of one process share, since tracing its steps takes longer than many a job."""

from collections.abc import Callable
from functools import lru_cache

import keras

from attnunet.training.state import variables

kept: dict[str, keras.Model] = {}


def compile_once(key: str, build: Callable[[], keras.Model]) -> keras.Model:
    """Return the compiled network that `build` makes, or the last job's network with the same values, to the last bit.

    Args:
        key: equal for networks whose steps are the same computation on the same shapes; "" for one that must not be shared.
    """
    fresh = build()
    # A first step that makes variables would be traced twice, and a training's state would lack these variables.
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
    """Return the same layers without loss and optimizer, for predictions and checkpoints."""
    with network.distribute_strategy.scope():
        model = keras.Model(network.input, network.output, name=network.name)
    model.jit_compile = network.jit_compile  # a network that is not compiled would choose by the device
    return model
