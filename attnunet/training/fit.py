"""Training with Keras's `fit`, from the batches of the data pipeline and from where an interrupted training stood."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grain
import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig
from rich.console import Console

from attnunet.data.batches import Draws, batches, iterate
from attnunet.training.callbacks import Keep, Log, ShowProgress, Validation
from attnunet.training.keras_internals import skip_gradient_sum
from attnunet.training.state import History, State, read_weights


@dataclass(frozen=True)
class Fitted:
    """The result of a training: the epochs' metrics, the best epoch (counted from 1) and the file of its weights."""

    history: History
    best_epoch: int
    weights: Path

    def restore_best(self, network: keras.Model) -> None:
        network.set_weights(read_weights(self.weights))


def fit(
    cfg: DictConfig,
    network: keras.Model,
    draws: Draws,
    epochs: int,
    validation: Validation,
    folder: Path,
    log: Callable[[dict[str, float], int], None],
    console: Console,
) -> Fitted:
    """Train up to `epochs` epochs, starting from the state in `folder`; each epoch's metrics go to `log`.

    The network must be compiled and its optimizer built; it ends with the weights of the last epoch. A training that was
    interrupted and called again with the same arguments ends with the same bits as one that was not.
    """
    steps = draws.steps_per_epoch
    state = State(folder / "state.npz", network)
    history = state.load()
    for epoch, metrics in enumerate(history, start=1):
        log(metrics, epoch)  # the interruption may have come before the log

    done = len(history)
    keep = Keep(state, history, cfg.monitor, cfg.trainer.early_stopping)
    if done < epochs and not (done and keep.stopped):
        callbacks: Sequence[keras.callbacks.Callback] = [
            validation,  # first: the others read its scores
            Log(log, steps * draws.batch_size, history),
            keep,
            progress := ShowProgress(console, epochs, steps, cfg.monitor, done),
        ]
        devices = network.distribute_strategy.num_replicas_in_sync
        if devices == 1:
            skip_gradient_sum(network.optimizer)
        dataset = as_tf_data(batches(draws, cfg.trainer.workers, start_step=done * steps), draws, devices)
        try:
            network.fit(
                dataset,
                initial_epoch=done,
                epochs=epochs,
                steps_per_epoch=steps,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
        finally:
            progress.stop()  # Keras tells no callback of an error, and the bar hides the cursor
    return Fitted(history, keep.best_epoch, keep.best)


def as_tf_data(source: grain.IterDataset, draws: Draws, devices: int = 1) -> tf.data.Dataset:
    """Return the batches as the tf.data data set that Keras iterates, with its autotuner off.

    With the autotuner, the end of each iterator waits until the autotuner's thread has slept. Keras would wrap a Grain data
    set in the same way, but leave the autotuner on. The data set has a thread of its own, since the network's one inter-op
    thread is busy. Each of several `devices` gets its share of the slices with a lesion.
    """
    size, channels = draws.prepared.images.shape[1], draws.prepared.images.shape[3]
    shape = (draws.batch_size, size, size)
    signature = (tf.TensorSpec((*shape, channels), tf.uint8), tf.TensorSpec((*shape, 1), tf.uint8))
    stream = (lambda: iterate(source)) if devices == 1 else (lambda: deal(iterate(source), devices))
    dataset = tf.data.Dataset.from_generator(stream, output_signature=signature).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def deal(stream: Iterator[tuple[np.ndarray, np.ndarray]], devices: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches reordered so that each device gets its share of the lesion slices, which stand first in a batch.

    TensorFlow cuts a batch into as many stretches as there are devices.
    """
    for images, masks in stream:
        order = np.concatenate([np.arange(len(images))[device::devices] for device in range(devices)])
        yield images[order], masks[order]
