"""Keras callbacks: validation by patient, the log of metrics, the state on disk, and progress in the terminal."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from attnunet.data.cache import Prepared
from attnunet.data.files import replacing
from attnunet.inference.predictor import Predictor, sigmoid
from attnunet.metrics.counts import count
from attnunet.metrics.scores import best_threshold, dice, iou, nan_mean
from attnunet.training.averages import Averages
from attnunet.training.state import History, State


class Validation(keras.callbacks.Callback):
    """Adds the mean scores of the validation patients to an epoch's logs. Each patient's volume is scored at native size.

        val/dice, val/iou   the scores at the best threshold of the grid, so that a comparison of loss functions does not
                            depend on how well each calibrates its probabilities
        val/threshold       the best threshold
        val/dice_at_0.5     the Dice score at the threshold 0.5
        val/loss            the mean over slices, where each slice counts with the loss of its batch

    The scores do not use post-processing or mirror images. The kept checkpoint is scored with them after the training. This
    callback must come before those that read its scores, because Keras passes the same dictionary to all callbacks in turn.

    `masks` holds the predictions of the slices `watched` at the best threshold of the last epoch.
    """

    def __init__(
        self,
        predictor: Predictor,
        prepared: Prepared,
        indices: Sequence[int],
        thresholds: Sequence[float],
        watched: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.predictor, self.prepared, self.indices = predictor, prepared, indices
        self.thresholds, self.watched = thresholds, watched
        self.masks: dict[int, np.ndarray] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        logs |= self.score()

    def score(self) -> dict[str, float]:
        """Return the scores of the network's present weights. Without validation patients, there are none."""
        if not self.indices:
            return {}
        losses: list[float] = []
        seen: dict[int, np.ndarray] = {}

        def probabilities() -> Any:
            for batch, images in self.predictor.batches(self.prepared, self.indices):
                logits = self.predictor.logits(images)
                frames = [self.prepared.frame(index) for index in batch]
                masks = [frame.show_mask(self.prepared.mask(index)) for frame, index in zip(frames, batch, strict=True)]
                small = np.stack(masks)[..., None]
                losses.extend([float(self.model.loss(small, logits))] * len(batch))
                for index, frame, z in zip(batch, frames, logits, strict=True):
                    probability = frame.restore(sigmoid(z))
                    if index in self.watched:
                        seen[index] = probability
                    yield probability

        volumes = [self.prepared.slices[index].volume for index in self.indices]
        masks = (self.prepared.mask(index) for index in self.indices)
        counts = count(volumes, probabilities(), masks, sorted({*self.thresholds, 0.5}))
        threshold = best_threshold(counts.at(*self.thresholds))
        self.masks.update({index: seen[index] >= np.float32(threshold) for index in self.watched})
        best, half = counts.at(threshold).by_patient(), counts.at(0.5).by_patient()
        return {
            "val/loss": float(np.mean(losses)),
            "val/dice": nan_mean(dice(best)),
            "val/iou": nan_mean(iou(best)),
            "val/threshold": threshold,
            "val/dice_at_0.5": nan_mean(dice(half)),
        }


class Log(keras.callbacks.Callback):
    """Passes the metrics of each epoch to `log` in one call.

    The names of the metrics start with train/ or val/. The metrics of the compiled network get train/. Epochs count from 1.

    Raises:
        FloatingPointError: the training loss is infinite or not a number.
    """

    def __init__(
        self, log: Callable[[dict[str, float], int], None], images_per_epoch: int, history: History | None = None
    ) -> None:
        """
        Args:
            log: a function that takes the metrics and the epoch's number.
            images_per_epoch: the number of training images in an epoch, for train/images_per_second.
            history: a list with the metrics of earlier epochs. The callback appends the metrics of later epochs to it.
        """
        super().__init__()
        self.log, self.images_per_epoch = log, images_per_epoch
        self.history: History = [] if history is None else history

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = self.trained = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = dict(logs or {})
        loss = logs.pop("loss")
        if not math.isfinite(loss):
            raise FloatingPointError(f"the training loss is {loss} in epoch {epoch + 1}: lower optimizer.learning_rate")
        metrics = {
            "train/loss": float(loss),
            "train/learning_rate": float(self.model.optimizer.learning_rate),
            "train/images_per_second": self.images_per_epoch / max(self.trained - self.started, 1e-9),
            **{name if "/" in name else f"train/{name}": float(value) for name, value in logs.items()},
            "train/epoch_seconds": time.perf_counter() - self.started,
        }
        self.history.append(metrics)
        self.log(metrics, epoch + 1)


class Keep(keras.callbacks.Callback):
    """Saves the weights that are kept so far after each epoch, and then the state from which the training can continue.

    If the optimizer averages the weights, the best weights are averages. The training continues from the weights themselves.
    With `mean_of_last`, the weights of that many last epochs are saved too.

    This callback comes after `Log`, because it reads the history that `Log` extends. The best epoch and the last epoch depend
    only on that history, so an interrupted training makes the same decisions as an uninterrupted one. If the name of
    `monitor` ends with "loss", lower values are better.
    """

    def __init__(
        self,
        state: State,
        history: History,
        monitor: str,
        early_stopping: int | None,
        averages: Averages,
        mean_of_last: int | None = None,
    ) -> None:
        super().__init__()
        self.state, self.history, self.monitor, self.early_stopping = state, history, monitor, early_stopping
        self.averages, self.mean_of_last = averages, mean_of_last

    @property
    def best_epoch(self) -> int:
        """The best epoch, counted from 1: the first of those that are equally good. A value of NaN is the worst."""
        return self.best_of(self.history)

    def best_of(self, history: History) -> int:
        sign = 1 if self.monitor.endswith("loss") else -1
        values = [sign * epoch[self.monitor] for epoch in history]
        return min(range(len(values)), key=lambda epoch: (math.isnan(values[epoch]), values[epoch])) + 1

    def kept_epochs(self, history: History) -> list[int]:
        """Return the epochs whose weights are kept: the last ones if `mean_of_last` is set, else the best one."""
        if self.mean_of_last is None:
            return [self.best_of(history)]
        return list(range(max(1, len(history) - self.mean_of_last + 1), len(history) + 1))

    @property
    def kept(self) -> list[Path]:
        """The files of the weights that are kept."""
        return [self.file_of(epoch) for epoch in self.kept_epochs(self.history)]

    def file_of(self, epoch: int) -> Path:
        """Return the file of an epoch's weights. Each epoch has its own file, so no state reads another epoch's weights."""
        return self.state.path.with_name(f"best-{epoch}.npz")

    @property
    def stopped(self) -> bool:
        """Whether none of the last `early_stopping` epochs is the best epoch."""
        return self.early_stopping is not None and len(self.history) - self.best_epoch >= self.early_stopping

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch + 1 in self.kept_epochs(self.history):
            with replacing(self.file_of(epoch + 1)) as temporary:
                np.savez(temporary, *self.model.get_weights())  # Keras's own format takes half a second
        self.averages.leave()
        self.state.save(self.history, self.kept)
        needed = {self.file_of(e) for states in (self.history, self.history[:-1]) if states for e in self.kept_epochs(states)}
        for older in set(self.state.path.parent.glob("best-*.npz")) - needed:
            older.unlink()
        self.model.stop_training = self.stopped


class ShowProgress(keras.callbacks.Callback):
    """Shows a bar with the remaining time, and prints a line after each epoch. Without a terminal, it only prints the lines.

    This callback must be the last in the list.
    """

    def __init__(self, console: Console, epochs: int, steps: int, monitor: str, done: int = 0) -> None:
        """Start the bar at `done`, the number of epochs that were trained earlier."""
        super().__init__()
        self.console, self.epochs, self.monitor, self.done = console, epochs, monitor, done
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.progress.add_task("training", total=epochs * steps, completed=done * steps)

    def on_train_begin(self, logs: Any = None) -> None:
        self.started = time.perf_counter()
        self.progress.start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.progress.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        left = (time.perf_counter() - self.started) / (epoch + 1 - self.done) * (self.epochs - epoch - 1)
        shown = dict.fromkeys(name for name in ("val/dice", self.monitor) if name in logs)  # nobody may validate
        scores = "  ".join(f"{name} {logs[name]:.3f}" for name in shown)
        width = len(str(self.epochs))
        self.console.print(f"epoch {epoch + 1:{width}}/{self.epochs}  loss {logs['loss']:.4f}  {scores}  {left:4.0f} s left")

    def stop(self) -> None:
        self.progress.stop()
