"""The moving average of the weights: its values, where it is scored and kept, and that training goes on without it."""

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from omegaconf import OmegaConf

from attnunet.training import fit
from attnunet.training.averages import Averages
from attnunet.training.callbacks import Keep
from attnunet.training.schedules import adam, adamw
from attnunet.training.state import State, read_weights, variables

X, Y = np.ones((4, 1), "float32"), np.zeros((4, 1), "float32")


def compiled(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    inputs = keras.Input((1,))
    network = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs))
    network.compile(optimizer, keras.losses.MeanSquaredError())
    network.optimizer.build(network.trainable_variables)
    return network


def weight(network: keras.Model) -> float:
    return np.asarray(network.trainable_variables[0].value).item()


def train(network: keras.Model, steps: int) -> list[float]:
    """The weight after each step."""
    weights = []
    for _ in range(steps):
        network.train_on_batch(X, Y)
        weights.append(weight(network))
    return weights


@pytest.mark.parametrize("optimizer", [adam, adamw])
def test_the_average_is_the_formulas_and_training_goes_on_from_the_weight(optimizer) -> None:  # noqa: ANN001
    """a_1 = w_1, then a_t = m a_(t-1) + (1 - m) w_t with m = 2/11, and m = 0.2 where 3/12 is above the highest momentum."""
    network = compiled(optimizer(10, 0.1, "constant", ema=0.2))
    w = train(network, 3)
    assert len(set(w)) == 3
    averages = Averages()
    averages.set_model(network)
    averages.on_epoch_end(0)
    assert weight(network) == pytest.approx(0.2 * (2 / 11 * w[0] + 9 / 11 * w[1]) + 0.8 * w[2])
    averages.leave()
    assert weight(network) == w[2]


def test_a_short_run_forgets_its_first_weights() -> None:
    network = compiled(adam(100, 0.1, "constant", ema=0.999))
    w = train(network, 100)
    averages = Averages()
    averages.set_model(network)
    averages.on_epoch_end(0)
    expected = w[0]
    for step in range(1, 100):
        expected += (1 - (1 + step) / (10 + step)) * (w[step] - expected)
    assert weight(network) == pytest.approx(expected, rel=1e-4)
    assert abs(weight(network) - w[-1]) < 0.1 * abs(w[0] - w[-1])


@pytest.mark.parametrize("optimizer", [adam, adamw])
def test_an_optimizer_is_restored_with_its_highest_momentum(optimizer) -> None:  # noqa: ANN001
    made = optimizer(10, 0.1, ema=0.999)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert again.get_config() == made.get_config()
    assert (again.use_ema, again.highest) == (True, 0.999)


def test_without_averages_the_weights_stay() -> None:
    network = compiled(adam(10, 0.1))
    (w,) = train(network, 1)
    averages = Averages()
    averages.set_model(network)
    averages.on_epoch_end(0)
    assert weight(network) == w


def test_the_average_is_kept_and_the_weight_is_the_state(tmp_path: Path) -> None:
    network = compiled(adam(10, 0.1, "constant", ema=0.5))
    averages, state = Averages(), State(tmp_path / "state.npz", network)
    keep = Keep(state, [{"val/dice": 0.5}], "val/dice", None, averages)
    for callback in (averages, keep):
        callback.set_model(network)
    w = train(network, 2)
    for callback in (averages, keep):
        callback.on_epoch_end(0)
    assert read_weights(keep.kept[0])[0].item() == pytest.approx((2 * w[0] + 9 * w[1]) / 11)
    assert weight(network) == w[1]

    finished = compiled(adam(10, 0.1, "constant", ema=0.5))
    cfg = OmegaConf.create({"monitor": "val/dice", "trainer": {"early_stopping": None, "mean_of_last": None}})
    draws, unused = SimpleNamespace(steps_per_epoch=2), SimpleNamespace()
    fit.fit(cfg, finished, draws, 1, unused, tmp_path, lambda metrics, epoch: None, unused)  # type: ignore[arg-type]
    assert weight(finished) == pytest.approx((2 * w[0] + 9 * w[1]) / 11)  # interrupted after the only epoch

    expected, averaged = train(network, 2), [np.asarray(variable.value) for variable in variables(network)]
    other = compiled(adam(10, 0.1, "constant", ema=0.5))
    State(tmp_path / "state.npz", other).load()
    assert train(other, 2) == expected
    for variable, value in zip(variables(other), averaged, strict=True):
        np.testing.assert_array_equal(variable.value, value)
