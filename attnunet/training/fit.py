"""Keras's `fit`, fed by the pipeline, with what attnunet wants of it after each epoch."""

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
from attnunet.training.state import History, State, read_weights


@dataclass(frozen=True)
class Fitted:
    """What training left: the epochs' metrics, the best epoch (from 1) and a file of its weights; the network is as it
    ended."""

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
    """Train up to `epochs`, from where the state in `folder` has come to; each epoch's metrics go to `log`.

    The network is compiled and its optimizer built. Interrupted and called again with the same arguments, it ends with the
    same bits as if it had never been.
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
            # Keras sums gradients over devices by a custom gradient, which TensorFlow keeps for ever, and with it the step's
            # graph: 10 MB a job. One device has nothing to sum.
            optimizer = getattr(network.optimizer, "inner_optimizer", network.optimizer)
            optimizer._all_reduce_sum_gradients = list
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
    """What Keras iterates, with tf.data's autotuner off: at the end of each iterator one waits for its sleep.

    Keras would wrap a Grain data set in the same way, but leaves the autotuner on. A thread of its own, since the
    network's one inter-op thread is busy. Each of several `devices` gets its share of the slices with lesion.
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
    """Batches in the order in which cards are dealt: TensorFlow cuts one into stretches, and lesions stand first in it."""
    for images, masks in stream:
        order = np.concatenate([np.arange(len(images))[device::devices] for device in range(devices)])
        yield images[order], masks[order]
