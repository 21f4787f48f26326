"""What happens after each epoch: validation by patient, metrics to the log, checkpoints, progress to the terminal."""

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
from attnunet.training.state import History, State


class Validation(keras.callbacks.Callback):
    """Adds to an epoch's logs the validation patients' mean volumetric scores at native size.

        val/dice, val/iou   at the best threshold of the grid, val/threshold, so that losses are not ranked by
                            how they calibrate
        val/dice_at_0.5     at 0.5
        val/loss            mean over the slices of the loss of the prediction's batches

    Post-processing and mirror images are left to the scoring of the kept checkpoint.
    First in the list of callbacks: Keras hands all of them the same dictionary.
    """

    def __init__(self, predictor: Predictor, prepared: Prepared, indices: Sequence[int], thresholds: Sequence[float]) -> None:
        super().__init__()
        self.predictor, self.prepared, self.indices = predictor, prepared, indices
        self.thresholds = thresholds

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        losses: list[float] = []

        def probabilities() -> Any:
            for batch, images in self.predictor.batches(self.prepared, self.indices):
                logits = self.predictor.logits(images)
                frames = [self.prepared.frame(index) for index in batch]
                masks = [frame.show_mask(self.prepared.mask(index)) for frame, index in zip(frames, batch, strict=True)]
                small = np.stack(masks)[..., None]
                losses.extend([float(self.model.loss(small, logits))] * len(batch))
                yield from (frame.restore(sigmoid(z)) for frame, z in zip(frames, logits, strict=True))

        volumes = [self.prepared.slices[index].volume for index in self.indices]
        masks = (self.prepared.mask(index) for index in self.indices)
        counts = count(volumes, probabilities(), masks, sorted({*self.thresholds, 0.5}))
        threshold = best_threshold(counts.at(*self.thresholds))
        best, half = counts.at(threshold).by_patient(), counts.at(0.5).by_patient()
        assert logs is not None
        logs |= {
            "val/loss": float(np.mean(losses)),
            "val/dice": nan_mean(dice(best)),
            "val/iou": nan_mean(iou(best)),
            "val/threshold": threshold,
            "val/dice_at_0.5": nan_mean(dice(half)),
        }


class Log(keras.callbacks.Callback):
    """Hands each epoch's metrics to `log` in one call, under train/ and val/, epochs counted from 1.

    Raises:
        FloatingPointError: the training loss is no number any more.
    """

    def __init__(
        self, log: Callable[[dict[str, float], int], None], images_per_epoch: int, history: History | None = None
    ) -> None:
        """
        Args:
            log: gets the metrics and the epoch.
            images_per_epoch: seen in training, for the rate.
            history: of the epochs before; those that follow are appended.
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
            **{name: float(value) for name, value in logs.items()},
            "train/epoch_seconds": time.perf_counter() - self.started,
        }
        self.history.append(metrics)
        self.log(metrics, epoch + 1)


class Keep(keras.callbacks.Callback):
    """After each epoch keeps the best weights so far, then the state from which training can go on.

    After `Log`, whose history it reads: what was best and when to stop follow from it alone, so that an interrupted
    training decides as one that was left alone. A loss counts downwards.
    """

    def __init__(self, state: State, history: History, monitor: str, early_stopping: int | None) -> None:
        super().__init__()
        self.state, self.history, self.monitor, self.early_stopping = state, history, monitor, early_stopping

    @property
    def best_epoch(self) -> int:
        """Counted from 1; the first of equals."""
        return self.best_of(self.history)

    def best_of(self, history: History) -> int:
        values = [epoch[self.monitor] for epoch in history]
        return values.index(min(values) if self.monitor.endswith("loss") else max(values)) + 1

    @property
    def best(self) -> Path:
        return self.file_of(self.best_epoch)

    def file_of(self, epoch: int) -> Path:
        """By epoch, so that a state never meets another one's."""
        return self.state.path.with_name(f"best-{epoch}.npz")

    @property
    def stopped(self) -> bool:
        """Whether `early_stopping` epochs have gone by without a better one."""
        return self.early_stopping is not None and len(self.history) - self.best_epoch >= self.early_stopping

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.best_epoch == epoch + 1:
            with replacing(self.best) as temporary:
                np.savez(temporary, *self.model.get_weights())  # Keras's format takes half a second
        self.state.save(self.history, self.best)
        needed = {self.file_of(self.best_of(states)) for states in (self.history, self.history[:-1]) if states}
        for older in set(self.best.parent.glob("best-*.npz")) - needed:
            older.unlink()
        self.model.stop_training = self.stopped


class ShowProgress(keras.callbacks.Callback):
    """A bar with the time left, and a line an epoch; without a terminal only the lines. Last in the list."""

    def __init__(self, console: Console, epochs: int, steps: int, monitor: str, done: int = 0) -> None:
        """`done` epochs were trained before."""
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
        shown = dict.fromkeys(["val/dice", self.monitor])
        scores = "  ".join(f"{name} {logs[name]:.3f}" for name in shown)
        width = len(str(self.epochs))
        self.console.print(
            f"epoch {epoch + 1:{width}}/{self.epochs}  loss {logs['loss']:.4f}  {scores}  {left:4.0f} s left",
            highlight=False,
        )

    def stop(self) -> None:
        self.progress.stop()
