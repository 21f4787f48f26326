"""The state of a training: what it brings back, and what an interruption leaves of it."""

import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pytest

from attnunet.data.files import replacing
from attnunet.training.averages import Averages
from attnunet.training.callbacks import Keep
from attnunet.training.state import History, State, read_mean_weights, variables

HISTORY = [{"train/loss": 0.1 + 0.2, "val/dice": 1 / 3, "val/loss": 0.5}]


def network(seed: int = 0) -> keras.Model:
    """With all that has a state: batch normalisation, dropout's random numbers, Adam."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs))
    built = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5)(x)))
    built.compile(keras.optimizers.Adam(0.1), keras.losses.MeanSquaredError())
    built.optimizer.build(built.trainable_variables)
    return built


def steps(trained: keras.Model, number: int) -> list[float]:
    x, y = np.linspace(0, 1, 64).reshape(8, 8).astype("float32"), np.ones((8, 1), "float32")
    return [float(trained.train_on_batch(x, y)) for _ in range(number)]


def save(folder: Path, trained: keras.Model, history: History) -> None:
    """As after an epoch that was the best."""
    best = folder / f"best-{len(history)}.npz"
    np.savez(best, *trained.get_weights())
    State(folder / "state.npz", trained).save(history, [best])


def test_a_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    alone = network()
    steps(alone, 3)
    save(tmp_path, alone, HISTORY)
    expected = steps(alone, 3)

    other = network(seed=1)
    assert State(tmp_path / "state.npz", other).load() == HISTORY
    assert steps(other, 3) == expected
    for ours, theirs in zip(alone.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_random_state_of_dropout_belongs_to_it(tmp_path: Path) -> None:
    """Else the test above would pass without it."""
    trained = network()
    seeds = [v for v in variables(trained) if "seed" in v.path]
    before = [np.asarray(v.value) for v in seeds]
    steps(trained, 1)
    assert seeds
    assert any((np.asarray(v.value) != b).any() for v, b in zip(seeds, before, strict=True))


def test_without_a_file_nothing_changes(tmp_path: Path) -> None:
    fresh = network()
    before = fresh.get_weights()
    assert State(tmp_path / "state.npz", fresh).load() == []
    for ours, theirs in zip(before, fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_write_that_is_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.keras"
    with replacing(path) as temporary:
        temporary.write_text("whole")
    with suppress(RuntimeError), replacing(path) as temporary:
        temporary.write_text("ha")
        raise RuntimeError
    assert path.read_text() == "whole"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(3000))


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_shapes(path: Path) -> None:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(path, **{**arrays, "0": np.zeros((3, 3), np.float32)})


def fewer(path: Path) -> None:
    with np.load(path) as stored:
        np.savez(path, **{name: stored[name] for name in stored.files if name != "1"})


def objects(path: Path) -> None:
    np.savez(path, history=np.array([print], dtype=object))


def one_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


DAMAGES = (cut, empty, garbage, one_bit, other_shapes, fewer, objects, one_array)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """What two epochs of three steps leave, and the losses of the second epoch and a third."""
    folder = tmp_path_factory.mktemp("trained")
    alone = network()
    steps(alone, 3)
    save(folder, alone, HISTORY)
    second = steps(alone, 3)
    save(folder, alone, HISTORY * 2)
    return folder, [*second, *steps(alone, 3)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_state_that_is_damaged_is_set_aside_for_the_one_before(
    damage: Callable[[Path], None],
    trained: tuple[Path, list[float]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "state.npz")
    damaged = (tmp_path / "state.npz").read_bytes()
    other = network(seed=1)
    assert State(tmp_path / "state.npz", other).load() == HISTORY  # of one epoch
    assert steps(other, 6) == trained[1]
    assert (tmp_path / "damaged-state.npz").read_bytes() == damaged
    (warning,) = caplog.messages
    assert warning.startswith(f"{tmp_path}/state.npz cannot be read (")
    assert "\n" not in warning


def test_where_no_state_can_be_read_the_network_stays_as_it_is(trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    """Where it was left half loaded, the run that begins anew would end with other bits."""
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    one_bit(tmp_path / "state.npz")
    cut(tmp_path / "state-before.npz")
    fresh, untouched = network(seed=2), network(seed=2)
    assert State(tmp_path / "state.npz", fresh).load() == []
    for ours, theirs in zip(untouched.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_state_whose_best_weights_are_damaged_is_of_no_use(trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    one_bit(tmp_path / "best-2.npz")
    assert len(State(tmp_path / "state.npz", network()).load()) == 1
    (tmp_path / "best-1.npz").unlink()
    assert State(tmp_path / "state.npz", network()).load() == []


def test_a_kill_between_the_two_files_leaves_the_one_before(trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "state.npz").unlink()
    assert len(State(tmp_path / "state.npz", network()).load()) == 1


def keep(
    tmp_path: Path, monitor: str, values: list[float], early_stopping: int | None = None, mean_of_last: int | None = None
) -> Keep:
    history = [{monitor: value} for value in values]
    return Keep(State(tmp_path / "state.npz", network()), history, monitor, early_stopping, Averages(), mean_of_last)


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("val/dice", [0.1, 0.3, 0.2], 2),
        ("val/dice", [0.3, 0.3, 0.1], 1),
        ("val/loss", [0.3, 0.1, 0.2], 2),
        ("val/loss", [0.1], 1),
        ("val/loss", [math.nan, 0.3, 0.2], 3),
        ("val/dice", [math.nan, 0.1, 0.2], 3),
        ("val/loss", [math.nan, math.inf], 2),
        ("val/loss", [math.nan, math.nan], 1),
    ],
)
def test_the_best_epoch_is_the_first_of_the_best(tmp_path: Path, monitor: str, values: list[float], best: int) -> None:
    assert keep(tmp_path, monitor, values).best_epoch == best


@pytest.mark.parametrize(
    ("values", "early_stopping", "stopped"),
    [
        ([0.1, 0.3, 0.2], 1, True),
        ([0.1, 0.3, 0.2], 2, False),
        ([0.3, 0.2, 0.1], 2, True),
        ([0.3, 0.2, 0.1], None, False),
        ([math.nan, 0.1], 1, False),
    ],
)
def test_early_stopping_counts_the_epochs_since_the_best(
    tmp_path: Path, values: list[float], early_stopping: int | None, stopped: bool
) -> None:
    assert keep(tmp_path, "val/dice", values, early_stopping).stopped == stopped


def test_after_each_epoch_one_best_checkpoint_and_the_state_are_there(tmp_path: Path) -> None:
    callback = keep(tmp_path, "val/dice", [])
    callback.set_model(callback.state.network)
    for epoch, dice in enumerate([0.1, 0.3, 0.2]):
        callback.history.append({"val/dice": dice})
        callback.on_epoch_end(epoch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-2.npz", "state-before.npz", "state.npz"]
    assert callback.kept == [tmp_path / "best-2.npz"]
    assert len(State(tmp_path / "state.npz", network()).load()) == 3


def test_the_best_weights_of_the_epoch_before_stay_with_its_state(tmp_path: Path) -> None:
    callback = keep(tmp_path, "val/dice", [])
    callback.set_model(callback.state.network)
    for epoch, dice in enumerate([0.3, 0.1, 0.4]):
        callback.history.append({"val/dice": dice})
        callback.on_epoch_end(epoch)
    (tmp_path / "state.npz").write_bytes(b"")
    assert len(State(tmp_path / "state.npz", network()).load()) == 2
    assert all(path.exists() for path in keep(tmp_path, "val/dice", [0.3, 0.1]).kept)


@pytest.mark.parametrize(("mean_of_last", "epochs", "kept"), [(1, 3, [3]), (2, 3, [2, 3]), (5, 3, [1, 2, 3])])
def test_the_last_epochs_are_kept_and_the_mean_of_their_weights(
    tmp_path: Path, mean_of_last: int, epochs: int, kept: list[int]
) -> None:
    """Each epoch e has weights of the value e, whichever epoch is the best."""
    callback = keep(tmp_path, "val/dice", [], mean_of_last=mean_of_last)
    callback.set_model(callback.state.network)
    for epoch in range(epochs):
        callback.history.append({"val/dice": 1.0 - epoch})
        callback.model.set_weights([np.full_like(weight, epoch + 1) for weight in callback.model.get_weights()])
        callback.on_epoch_end(epoch)
    assert callback.kept == [tmp_path / f"best-{epoch}.npz" for epoch in kept]
    for weight in read_mean_weights(callback.kept):
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, np.full_like(weight, sum(kept) / len(kept)))
    # The state before the last one needs the weights of its own last epochs.
    (tmp_path / "state.npz").write_bytes(b"")
    assert len(State(tmp_path / "state.npz", network()).load()) == epochs - 1


def test_the_mean_of_one_file_has_its_bits(tmp_path: Path) -> None:
    weights = network(seed=3).get_weights()
    np.savez(tmp_path / "one.npz", *weights)
    for ours, theirs in zip(read_mean_weights([tmp_path / "one.npz"]), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
