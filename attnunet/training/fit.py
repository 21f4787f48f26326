"""Trains a network with Keras's `fit` on the batches of the data pipeline, and continues an interrupted training."""

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
from attnunet.training.averages import Averages
from attnunet.training.callbacks import Keep, Log, ShowProgress, Validation
from attnunet.training.keras_internals import skip_gradient_sum
from attnunet.training.state import History, State, read_mean_weights
from attnunet.training.watch import Masks, Watch, read_masks


@dataclass(frozen=True)
class Fitted:
    """The result of a training.

    Attributes:
        history: the metrics of each epoch.
        epoch: the epoch whose weights are kept, counted from 1; the last of several epochs.
        weights: the files of the weights that are kept: of the best epoch, or of the last epochs, whose mean is kept.
        watched: the predictions of the watched slices, by epoch; see `attnunet.training.watch`.
    """

    history: History
    epoch: int
    weights: Sequence[Path]
    watched: dict[int, Masks]

    def restore(self, network: keras.Model, validation: Validation) -> dict[str, float]:
        """Put the kept weights into the network, and return the metrics that they reach."""
        validation.set_model(network)  # a training that had ended before this start never set it
        network.set_weights(read_mean_weights(self.weights))
        metrics = self.history[self.epoch - 1]
        return metrics if len(self.weights) == 1 else {**metrics, **validation.score()}


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
    """Train for at most `epochs` epochs in total, from the state in `folder` if there is one. Return the result.

    Each epoch's metrics go to `log`. The network must be compiled, and its optimizer must be built. After the call, the
    network has the weights of the last epoch, or their averages if the optimizer averages them. If an interrupted training
    is called again with the same arguments, it ends with the same bits as an uninterrupted training.
    """
    steps = draws.steps_per_epoch
    state = State(folder / "state.npz", network)
    history = state.load()
    for epoch, metrics in enumerate(history, start=1):
        log(metrics, epoch)  # the interruption may have come before the epoch was logged

    done = len(history)
    averages = Averages()
    keep = Keep(state, history, cfg.monitor, cfg.trainer.early_stopping, averages, cfg.trainer.mean_of_last)
    if done < epochs and not (done and keep.stopped):
        callbacks: Sequence[keras.callbacks.Callback] = [
            averages,
            validation,  # before the others, because they read its scores
            Watch(validation.masks, folder),
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
            progress.stop()  # Keras calls no callback after an error, and the bar hides the cursor
    # Keras ends `fit` with the averages of the weights. A run that was interrupted after its last epoch calls no `fit`.
    network.optimizer.finalize_variable_values(network.trainable_variables)
    return Fitted(history, keep.kept_epochs(history)[-1], keep.kept, read_masks(folder, len(history)))


def as_tf_data(source: grain.IterDataset, draws: Draws, devices: int = 1) -> tf.data.Dataset:
    """Return the batches as a tf.data data set, which Keras iterates.

    The data set's autotuner is off. If it were on, the end of each iterator would wait for a sleep of the autotuner's
    thread. Keras itself would wrap a Grain data set in the same way, but with the autotuner on. The data set has its own
    thread, because the network keeps the only inter-op thread busy. If there are several `devices`, each device gets an
    equal share of the slices with a lesion.
    """
    images, channels = draws.prepared.images, draws.prepared.input_channels
    shape = (draws.batch_size, *((None, None) if draws.sizes else images.shape[1:3]))
    signature = (tf.TensorSpec((*shape, channels), images.dtype), tf.TensorSpec((*shape, 1), tf.uint8))
    stream = (lambda: iterate(source)) if devices == 1 else (lambda: deal(iterate(source), devices))
    dataset = tf.data.Dataset.from_generator(stream, output_signature=signature).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def deal(stream: Iterator[tuple[np.ndarray, np.ndarray]], devices: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each batch in a new order, in which each device gets an equal share of the slices with a lesion.

    In the old order, these slices come first. TensorFlow cuts a batch into one contiguous part for each device.
    """
    for images, masks in stream:
        order = np.concatenate([np.arange(len(images))[device::devices] for device in range(devices)])
        yield images[order], masks[order]
