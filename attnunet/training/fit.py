"""Keras's `fit`, fed by the pipeline, with what attnunet wants of it after each epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grain
import keras
import tensorflow as tf
from rich.console import Console

from attnunet.data.batches import Draws, batches, iterate
from attnunet.training.callbacks import Log, ShowProgress, Validation


@dataclass(frozen=True)
class Fitted:
    """What training left: the checkpoints' files, the epochs' metrics, the epoch (from 1) of the best checkpoint."""

    best: Path
    last: Path
    history: list[dict[str, float]]
    best_epoch: int


def fit(
    network: keras.Model,
    draws: Draws,
    epochs: int,
    validation: Validation,
    *,
    monitor: str,
    early_stopping: int | None,
    workers: int,
    folder: Path,
    log: Callable[[dict[str, float], int], None],
    console: Console,
) -> Fitted:
    """Train for `epochs`, keeping `best.keras` (by `monitor`; a loss counts downwards) and `last.keras` in `folder`."""
    mode = "min" if monitor.endswith("loss") else "max"
    best, last = folder / "best.keras", folder / "last.keras"
    steps = draws.steps_per_epoch
    logger = Log(log, steps * draws.batch_size)
    callbacks: Sequence[keras.callbacks.Callback] = [
        validation,  # first: the others read its scores
        logger,
        keras.callbacks.ModelCheckpoint(best, monitor=monitor, mode=mode, save_best_only=True),
        keras.callbacks.ModelCheckpoint(last),
        *([keras.callbacks.EarlyStopping(monitor=monitor, mode=mode, patience=early_stopping)] if early_stopping else []),
        progress := ShowProgress(console, epochs, steps, monitor),
    ]
    dataset = as_tf_data(batches(draws, workers), draws)
    # Variables that the first step has to make would have it traced twice, 5 seconds each.
    network.optimizer.build(network.trainable_variables)
    try:
        network.fit(dataset, epochs=epochs, steps_per_epoch=steps, callbacks=callbacks, shuffle=False, verbose=0)
    finally:
        progress.stop()  # Keras tells no callback of an error, and the bar hides the cursor

    values = [epoch[monitor] for epoch in logger.history]
    chosen = min(values) if mode == "min" else max(values)
    return Fitted(best, last, logger.history, values.index(chosen) + 1)


def as_tf_data(source: grain.IterDataset, draws: Draws) -> tf.data.Dataset:
    """What Keras iterates, with tf.data's autotuner off: at the end of each iterator one waits for its sleep.

    Keras would wrap a Grain data set in the same way, but leaves the autotuner on. A thread of its own, since the
    network's one inter-op thread is busy.
    """
    size, channels = draws.prepared.images.shape[1], draws.prepared.images.shape[3]
    shape = (draws.batch_size, size, size)
    signature = (tf.TensorSpec((*shape, channels), tf.uint8), tf.TensorSpec((*shape, 1), tf.uint8))
    dataset = tf.data.Dataset.from_generator(lambda: iterate(source), output_signature=signature).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)
