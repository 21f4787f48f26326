"""Learning rates against values worked by hand, and optimizers that follow them."""

import json
from collections.abc import Callable
from math import sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf

from attnunet.training.schedules import Schedule, adam, adamw

DECAYS = ("constant", "cosine", "polynomial")


@pytest.mark.parametrize("as_step", [int, np.int64, tf.constant], ids=["int", "numpy", "tensor"])
@pytest.mark.parametrize(
    ("decay", "step", "factor"),
    [
        ("constant", 0, 1),
        ("constant", 50, 1),
        ("constant", 100, 1),
        ("constant", 1000, 1),
        ("cosine", 0, 1),
        ("cosine", 25, (1 + sqrt(0.5)) / 2),  # cos(pi / 4)
        ("cosine", 50, 1 / 2),
        ("cosine", 75, (1 - sqrt(0.5)) / 2),
        ("cosine", 100, 0),
        ("cosine", 1000, 0),
        ("polynomial", 0, 1),
        ("polynomial", 50, 0.5358867),  # 0.5 ^ 0.9
        ("polynomial", 90, 0.1258925),  # 0.1 ^ 0.9
        ("polynomial", 100, 0),
        ("polynomial", 1000, 0),
    ],
)
def test_decay_by_hand(decay: str, step: int, factor: float, as_step: Callable) -> None:
    rate = Schedule(0.02, 100, decay, warmup=0.0)(as_step(step))
    np.testing.assert_allclose(rate, 0.02 * factor, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 1 / 4),  # warm-up of 4 of 20 steps: (t + 1) / 4
        (1, 2 / 4),
        (2, 3 / 4),
        (3, 1),  # the last step of the warm-up
        (4, 1),  # the first of the decay: s = 0
        (8, (1 + sqrt(0.5)) / 2),  # s = 4 / 16
        (12, 1 / 2),  # s = 8 / 16
        (20, 0),
        (30, 0),
    ],
)
def test_warmup_by_hand(step: int, factor: float) -> None:
    np.testing.assert_allclose(Schedule(0.5, 20, "cosine", warmup=0.2)(step), 0.5 * factor, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("decay", DECAYS)
def test_every_decay_starts_at_the_full_rate_after_the_warmup(decay: str) -> None:
    rates = [float(Schedule(0.5, 20, decay, warmup=0.2)(step)) for step in (2, 3, 4)]
    np.testing.assert_allclose(rates, [0.375, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
def test_short_runs_keep_a_rate_above_zero(decay: str, steps: int, warmup: float) -> None:
    """A smoke run has a handful of steps; the warm-up may then fill all of them."""
    schedule = Schedule(0.1, steps, decay, warmup)
    rates = np.array([float(schedule(step)) for step in range(steps)])
    assert (rates > 0).all()
    assert (rates <= np.float32(0.1)).all()


@pytest.mark.parametrize("decay", DECAYS)
def test_config_round_trip(decay: str) -> None:
    schedule = Schedule(0.3, 10, decay, warmup=0.3)
    serialised = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    for again in (Schedule.from_config(schedule.get_config()), keras.saving.deserialize_keras_object(serialised)):
        assert type(again) is Schedule
        for step in range(12):
            np.testing.assert_array_equal(again(step), schedule(step))


def steps_taken(optimizer: keras.optimizers.Optimizer, count: int) -> np.ndarray:
    """A weight of 1 after each of `count` steps with the gradient 1."""
    weight = keras.Variable(1.0)
    optimizer.build([weight])
    path = []
    for _ in range(count):
        optimizer.apply_gradients([(tf.constant(1.0), weight)])
        path.append(float(weight.numpy()))
    return np.array(path)


RATES = np.array([0.05, 0.1, 0.1, 0.1 * 0.8535534, 0.05])
"""0.1 with a warm-up of 2 of 6 steps: halves, then (1 + cos(pi s)) / 2 at s = 0, 1/4, 1/2."""


def test_adam_follows_the_schedule() -> None:
    optimizer = adam(6, 0.1, "cosine", warmup=1 / 3)
    assert isinstance(optimizer, keras.optimizers.Adam)
    # Under a constant gradient Adam's step is the learning rate itself: m / sqrt(v) = 1 after bias correction.
    np.testing.assert_allclose(steps_taken(optimizer, 5), 1 - np.cumsum(RATES), rtol=1e-4)


def test_adamw_follows_the_schedule() -> None:
    optimizer = adamw(6, 0.1, "cosine", warmup=1 / 3, weight_decay=0.5)
    assert isinstance(optimizer, keras.optimizers.AdamW)
    expected, weight = [], 1.0
    for rate in RATES:  # decay and step both scale with the rate
        weight = weight * (1 - 0.5 * rate) - rate
        expected.append(weight)
    np.testing.assert_allclose(steps_taken(optimizer, 5), expected, rtol=1e-4)


def test_an_optimizer_defaults_to_cosine_without_warmup() -> None:
    optimizer = adam(4, 0.1)
    np.testing.assert_allclose(steps_taken(optimizer, 2), 1 - np.cumsum([0.1, 0.1 * 0.8535534]), rtol=1e-4)


def test_the_optimizer_survives_its_config() -> None:
    optimizer = adamw(6, 0.1, "polynomial", warmup=1 / 3, weight_decay=0.5)
    serialised = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))
    again = keras.saving.deserialize_keras_object(serialised)
    np.testing.assert_array_equal(steps_taken(again, 5), steps_taken(optimizer, 5))


@pytest.mark.parametrize(("name", "kind"), [("Adam", keras.optimizers.Adam), ("AdamW", keras.optimizers.AdamW)])
def test_an_optimizer_of_an_earlier_checkpoint_is_loaded(name: str, kind: type) -> None:
    """It was a class of attnunet's own, in a module that is gone."""
    config = kind(Schedule(0.1, 6, "cosine", warmup=1 / 3)).get_config()
    stored = {"module": "attnunet.training.fused", "class_name": name, "registered_name": f"attnunet>{name}"}
    again = keras.saving.deserialize_keras_object({**stored, "config": config})
    assert isinstance(again, kind)
    np.testing.assert_array_equal(steps_taken(again, 2), steps_taken(kind(Schedule(0.1, 6, "cosine", warmup=1 / 3)), 2))
