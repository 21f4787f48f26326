"""The callbacks after each epoch: against a loop of the test's own, and through Keras's `fit`."""

import io
import re
from types import SimpleNamespace
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from rich.console import Console

from attnunet.data.cache import Prepared, prepare
from attnunet.data.lgg import lgg
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.losses import Dice
from attnunet.training.callbacks import Log, ShowProgress, Validation
from tests.conftest import write_patient, write_slice

SIZE, NATIVE = 16, 24
GRID = (0.2, 0.4, 0.6, 0.8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Two patients with lesions and one without, whose slices stay dark."""
    root = tmp_path_factory.mktemp("validation") / "kaggle_3m"
    for index in range(2):
        write_patient(root, f"TCGA_CS_400{index}_20000101", slices=5, size=NATIVE, seed=index)
    for number in (1, 2):
        dark = np.zeros((NATIVE, NATIVE, 3), np.uint8)
        write_slice(root / "TCGA_DU_4009_20000101", number, dark, dark[..., 0])
    return prepare(lgg(str(root)), SIZE, root.parent / "cache")


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Logits that rise with the image's brightness: right about the bright squares, unsure of the noise."""
    inputs = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    logits = keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(4.0))(x)
    network = keras.Model(inputs, logits)
    network.layers[-1].bias.assign([-4.0])
    network.compile(keras.optimizers.SGD(0.25), loss=Dice())
    return network


def validated(
    network: keras.Model, prepared: Prepared, indices: list[int], batch_size: int = 4, grid: tuple[float, ...] = GRID
) -> dict[str, Any]:
    """What the callback adds to an epoch's logs."""
    preparation = Preparation(SIZE, prepared.file_channels, prepared.channels, prepared.intensity)
    callback = Validation(Predictor(network, preparation, batch_size=batch_size), prepared, indices, grid)
    callback.set_model(network)
    logs: dict[str, Any] = {"loss": 1.0}
    callback.on_epoch_end(0, logs)
    return logs


def brute_force(network: keras.Model, prepared: Prepared, indices: list[int], threshold: float) -> tuple[float, float]:
    """Mean Dice and IoU over the patients' volumes, with nothing of attnunet's but the arrays."""
    volumes: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for index in indices:
        logits = keras.ops.convert_to_numpy(network(prepared.images[index][None]))[0, ..., 0]
        found = cv2.resize(1 / (1 + np.exp(-logits)), (NATIVE, NATIVE), interpolation=cv2.INTER_LINEAR) >= threshold
        truths, predictions = volumes.setdefault(prepared.slices[index].patient, ([], []))
        truths.append(prepared.mask(index) > 0)
        predictions.append(found)
    dices, ious = [], []
    for truths, predictions in volumes.values():
        truth, found = np.stack(truths), np.stack(predictions)
        if truth.any() or found.any():
            dices.append(2 * (truth & found).sum() / (truth.sum() + found.sum()))
            ious.append((truth & found).sum() / (truth | found).sum())
    return float(np.mean(dices)), float(np.mean(ious))


@pytest.mark.parametrize("indices", [list(range(12)), [11, 3, 2, 7], [1, 2, 3]], ids=["all", "shuffled", "one patient"])
def test_scores_equal_brute_force(network: keras.Model, prepared: Prepared, indices: list[int]) -> None:
    logs = validated(network, prepared, indices)
    expected = {t: brute_force(network, prepared, indices, t) for t in (*GRID, 0.5)}
    dice, iou = expected[logs["val/threshold"]]
    assert len({round(d, 3) for d, _ in expected.values()}) > 2  # the thresholds matter
    assert dice == max(d for d, _ in expected.values())
    assert (logs["val/dice"], logs["val/iou"]) == pytest.approx((dice, iou))
    assert logs["val/dice_at_0.5"] == pytest.approx(expected[0.5][0])
    assert logs["val/dice_at_0.5"] < logs["val/dice"]
    assert logs["loss"] == 1.0  # what Keras had put there stays


@pytest.mark.parametrize("grid", [(0.5,), (0.9, 0.5, 0.1), (0.1, 0.9), ()])
def test_the_grid_holds_one_half_and_ascends(network: keras.Model, prepared: Prepared, grid: tuple[float, ...]) -> None:
    logs = validated(network, prepared, [1, 2, 3], grid=grid)
    assert logs["val/threshold"] in {*grid, 0.5}
    expected, _ = brute_force(network, prepared, [1, 2, 3], 0.5)
    assert logs["val/dice_at_0.5"] == pytest.approx(expected)


def small_masks(prepared: Prepared, indices: list[int]) -> np.ndarray:
    """The masks at the network's size: lesion where at least half of a pixel is."""
    shares = [cv2.resize(prepared.mask(i).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA) for i in indices]
    return (np.stack(shares) > 0.499).astype(np.float32)[..., None]


@pytest.mark.parametrize("batch_size", [4, 8, 16])
def test_the_loss_is_that_of_the_batches_weighted_by_their_slices(
    network: keras.Model, prepared: Prepared, batch_size: int
) -> None:
    indices = [2, 9, 3, 1, 8, 7]
    total = 0.0
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        total += float(Dice()(small_masks(prepared, batch), network(prepared.images[batch]))) * len(batch)
    logs = validated(network, prepared, indices, batch_size)
    assert logs["val/loss"] == pytest.approx(total / len(indices), rel=1e-5)


def test_patients_without_lesion_and_prediction_are_left_out(network: keras.Model, prepared: Prepared) -> None:
    dark = prepared.patients["TCGA_DU_4009_20000101"]
    with_dark, without = validated(network, prepared, [1, 2, 3, *dark]), validated(network, prepared, [1, 2, 3])
    assert with_dark["val/dice"] == without["val/dice"]
    alone = validated(network, prepared, dark)
    assert np.isnan([alone["val/dice"], alone["val/iou"], alone["val/dice_at_0.5"]]).all()
    assert alone["val/threshold"] == 0.5


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, float], int]] = []

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        self.calls.append((metrics, step))


def trained(network: keras.Model, callbacks: list[keras.callbacks.Callback], epochs: int, value: float = 0.5) -> None:
    """Keras's own `fit` on two batches of two, whose images are black and whose masks hold `value`."""
    images = np.zeros((4, SIZE, SIZE, 3), np.uint8)
    masks = np.full((4, SIZE, SIZE, 1), value, np.float32)
    network.fit(images, masks, batch_size=2, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)


def copy_of(network: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    copy.compile(keras.optimizers.SGD(0.25), loss=keras.losses.MeanSquaredError())
    return copy


def test_log_hands_over_one_call_an_epoch_with_the_documented_names(network: keras.Model, prepared: Prepared) -> None:
    network = copy_of(network)
    preparation = Preparation(SIZE, prepared.file_channels, prepared.channels, prepared.intensity)
    validation = Validation(Predictor(network, preparation, batch_size=4), prepared, [1, 2], GRID)
    recorder = Recorder()
    log = Log(recorder, images_per_epoch=4)
    trained(network, [validation, log], epochs=3)
    assert [step for _, step in recorder.calls] == [1, 2, 3]
    assert log.history == [metrics for metrics, _ in recorder.calls]
    names = {"train/loss", "train/learning_rate", "train/images_per_second", "train/epoch_seconds"}
    names |= {"val/loss", "val/dice", "val/iou", "val/threshold", "val/dice_at_0.5"}
    for metrics in log.history:
        assert set(metrics) == names
        assert all(type(value) is float for value in metrics.values())
        assert metrics["train/learning_rate"] == 0.25
        # The images are trained on within the epoch's time, which validation lengthens.
        assert metrics["train/images_per_second"] > 4 / metrics["train/epoch_seconds"]
    losses = [metrics["train/loss"] for metrics in log.history]
    assert losses == sorted(losses, reverse=True)


def test_watched_slices_are_kept_at_the_best_threshold(network: keras.Model, prepared: Prepared) -> None:
    preparation = Preparation(SIZE, prepared.file_channels, prepared.channels, prepared.intensity)
    predictor = Predictor(network, preparation, batch_size=4)
    validation = Validation(predictor, prepared, [1, 2, 3], GRID, watched=[3, 1])
    validation.set_model(network)
    logs: dict[str, Any] = {"loss": 1.0}
    validation.on_epoch_end(0, logs)
    assert list(validation.masks) == [3, 1]
    for index, mask in validation.masks.items():
        (expected,) = predictor.probabilities(prepared, [index])
        np.testing.assert_array_equal(mask, expected >= np.float32(logs["val/threshold"]))
    assert validated(network, prepared, [1, 2, 3]) == logs


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_log_stops_at_a_loss_that_is_no_number(network: keras.Model, value: float) -> None:
    recorder = Recorder()
    with pytest.raises(FloatingPointError, match=r"training loss is (nan|inf) in epoch 1: lower optimizer.learning_rate"):
        trained(copy_of(network), [Log(recorder, 4)], epochs=2, value=value)
    assert recorder.calls == []


def test_log_follows_a_schedule(network: keras.Model) -> None:
    network = copy_of(network)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])  # after two steps
    network.compile(keras.optimizers.SGD(schedule), loss=keras.losses.MeanSquaredError())
    log = Log(Recorder(), 4)
    trained(network, [log], epochs=2)
    assert [m["train/learning_rate"] for m in log.history] == pytest.approx([0.1, 0.01])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("attnunet.training.callbacks.time", SimpleNamespace(perf_counter=clock))
    return clock


@pytest.mark.parametrize(
    ("monitor", "scores"), [("val/dice", "val/dice 0.512"), ("val/loss", "val/dice 0.512  val/loss 0.333")]
)
def test_progress_prints_a_line_an_epoch_with_the_time_left(clock: Clock, monitor: str, scores: str) -> None:
    stream = io.StringIO()
    progress = ShowProgress(Console(file=stream, width=200), epochs=10, steps=2, monitor=monitor)
    progress.on_train_begin()
    for epoch in (0, 1, 9):
        clock.now = 100 + 6 * (epoch + 1)
        progress.on_train_batch_end(0)
        progress.on_epoch_end(epoch, {"loss": 0.25, "val/dice": 0.5123, "val/loss": 1 / 3, "val/iou": 0.4})
    progress.stop()
    assert stream.getvalue().splitlines() == [
        f"epoch  1/10  loss 0.2500  {scores}    54 s left",
        f"epoch  2/10  loss 0.2500  {scores}    48 s left",
        f"epoch 10/10  loss 0.2500  {scores}     0 s left",
    ]


def test_images_per_second_leaves_validation_out(clock: Clock) -> None:
    recorder = Recorder()
    log = Log(recorder, images_per_epoch=40)
    log.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1)))
    log.on_epoch_begin(0)
    clock.now += 4
    log.on_train_batch_end(0)
    clock.now += 6  # validation
    log.on_epoch_end(0, {"loss": 1.0})
    ((metrics, step),) = recorder.calls
    assert (metrics["train/images_per_second"], metrics["train/epoch_seconds"], step) == (10, 10, 1)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_through_fit(network: keras.Model, terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, highlight=False)
    network = copy_of(network)
    progress = ShowProgress(console, epochs=2, steps=2, monitor="val/dice")
    scores = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({"val/dice": 0.1}))
    trained(network, [scores, progress], epochs=2)
    progress.stop()
    text = stream.getvalue()
    lines = re.findall(r"epoch (\d)/2  loss \d+\.\d{4}  val/dice 0\.100 +\d+ s left", text)
    assert lines == ["1", "2"]
    assert ("training" in text) == terminal  # the bar needs a terminal
    assert progress.progress.finished
    assert not progress.progress.live.is_started
