"""Learning rate schedules, and the optimizers that use them."""

import math
from typing import Annotated, Any, Literal

import keras
from annotated_types import Ge, Gt, Le, Lt
from keras import ops


@keras.saving.register_keras_serializable(package="attnunet")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate at step t of `steps` steps: first a linear warm-up, then a decay.

    `warmup` is the share of the steps that belong to the warm-up. Let s = (t - warmup steps) / (steps - warmup steps), in
    [0, 1]. During the decay, the rate is learning_rate times

        constant    1
        cosine      (1 + cos(pi s)) / 2      Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts
        polynomial  (1 - s) ^ 0.9            as in nnU-Net (doi 10.1038/s41592-020-01008-z)

    During the warm-up the rate is learning_rate * (t + 1) / warmup steps, so that no step has a rate of 0.
    """

    def __init__(self, learning_rate: float, steps: int, decay: str, warmup: float) -> None:
        self.arguments: dict[str, Any] = {"learning_rate": learning_rate, "steps": steps, "decay": decay, "warmup": warmup}

    def __call__(self, step: Any) -> Any:
        rate, decay = self.arguments["learning_rate"], self.arguments["decay"]
        warmup_steps = round(self.arguments["warmup"] * self.arguments["steps"])
        step = ops.cast(step, "float32")
        done = ops.clip((step - warmup_steps) / max(self.arguments["steps"] - warmup_steps, 1), 0, 1)
        factor = {
            "constant": lambda s: ops.ones_like(s),
            "cosine": lambda s: (1 + ops.cos(math.pi * s)) / 2,
            "polynomial": lambda s: (1 - s) ** 0.9,
        }[decay](done)
        return rate * ops.where(step < warmup_steps, (step + 1) / max(warmup_steps, 1), factor)

    def get_config(self) -> dict[str, Any]:
        return self.arguments


Rate = Annotated[float, Gt(0), Le(1)]
Decay = Literal["constant", "cosine", "polynomial"]
Warmup = Annotated[float, Ge(0), Lt(1)]
Momentum = Annotated[float, Gt(0), Lt(1)] | None
"""The highest momentum of a moving average of the weights; see `RisingMomentum`."""


class RisingMomentum:
    """A moving average of the weights that soon forgets the first ones, for an optimizer of Keras.

    After t steps, the next step makes the average m average + (1 - m) weights, with m = min(highest, (1 + t) / (10 + t)). With
    a fixed m of 0.999, a run of 1,000 steps would keep 0.999 ** 1000 = 37 % of its first weights. The formula is the one of
    `num_updates` in tf.train.ExponentialMovingAverage.
    """

    iterations: Any
    highest: float

    @property
    def ema_momentum(self) -> Any:
        done = ops.cast(self.iterations, "float32")
        return ops.minimum(self.highest, (1 + done) / (10 + done))

    @ema_momentum.setter
    def ema_momentum(self, momentum: float) -> None:
        self.highest = momentum

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ema_momentum": self.highest}  # type: ignore[misc]


@keras.saving.register_keras_serializable(package="attnunet")
class Adam(RisingMomentum, keras.optimizers.Adam):
    """Keras's Adam. Earlier checkpoints use this name too."""


@keras.saving.register_keras_serializable(package="attnunet")
class AdamW(RisingMomentum, keras.optimizers.AdamW):
    """Keras's AdamW. Earlier checkpoints use this name too."""


def adam(
    steps: int, learning_rate: Rate, schedule: Decay = "cosine", warmup: Warmup = 0.0, ema: Momentum = None
) -> keras.optimizers.Adam:
    """Return Adam (Kingma and Ba 2015, arXiv 1412.6980) whose rate follows `schedule` over `steps` training steps.

    With `ema`, the moving average of the weights is scored and kept (Polyak and Juditsky 1992, doi 10.1137/0330046).
    """
    rate = Schedule(learning_rate, steps, schedule, warmup)
    return keras.optimizers.Adam(rate) if ema is None else Adam(rate, use_ema=True, ema_momentum=ema)


def adamw(
    steps: int,
    learning_rate: Rate,
    schedule: Decay = "cosine",
    warmup: Warmup = 0.0,
    weight_decay: Annotated[float, Ge(0), Le(1)] = 1e-4,
    ema: Momentum = None,
) -> keras.optimizers.AdamW:
    """Return Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101). Its rate is as in `adam`."""
    rate = Schedule(learning_rate, steps, schedule, warmup)
    if ema is None:
        return keras.optimizers.AdamW(rate, weight_decay=weight_decay)
    return AdamW(rate, weight_decay=weight_decay, use_ema=True, ema_momentum=ema)
