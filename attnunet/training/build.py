"""Builds the parts of a training: the batches, the compiled network, and the predictor that shares the network's weights."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import keras
import tensorflow as tf
from omegaconf import DictConfig, OmegaConf

from attnunet.config.fingerprints import computation
from attnunet.config.objects import make
from attnunet.config.targets import own_modules
from attnunet.data.batches import Draws
from attnunet.data.cache import Prepared
from attnunet.data.slices import DataError
from attnunet.data.split import Split
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.losses import DeepSupervision
from attnunet.training import network_cache
from attnunet.training.train_dice import TrainDice


def build_draws(cfg: DictConfig, prepared: Prepared, split: Split) -> tuple[Draws, int]:
    """Return the training slices as augmented batches, and the number of epochs.

    Raises:
        DataError: the budget ends before the images have grown to `image_size`.
    """
    augment = make(cfg.augment, "augment")()
    draws = Draws(prepared, split.train, cfg.batch_size, cfg.seed, make(cfg.sampler, "sampler"), augment)
    epochs = cfg.epochs or max(1, round(cfg.budget_images / (draws.steps_per_epoch * cfg.batch_size)))
    if cfg.first_sizes:
        sizes = [*cfg.first_sizes, cfg.image_size]
        if epochs < len(sizes):
            allowed = f"a larger budget, at least {len(sizes) * draws.steps_per_epoch * cfg.batch_size}"
            raise DataError(f"budget_images={cfg.budget_images}: {epochs} epoch(s) for {len(sizes)} sizes; allowed: {allowed}")
        draws = replace(draws, sizes=tuple(sizes[epoch * len(sizes) // epochs] for epoch in range(epochs)))
    return draws, epochs


def build_network(cfg: DictConfig, channels: int, steps: int) -> keras.Model:
    """Return the compiled network with fresh weights. If the last job's network computes the same, that network is reused.

    `channels` is the number of channels of an image. `steps` is the number of training steps of the run; the learning rate
    schedule depends on it.
    """

    def build() -> keras.Model:
        with strategy_scope(cfg.trainer.strategy):
            network = take_images(make(cfg.model, "model")(cfg.image_size, channels), cfg.image_type)
            if cfg.first_sizes:
                network = take_sizes(network, None)
            loss, optimizer = make(cfg.loss, "loss")(), make(cfg.optimizer, "optimizer")(steps)
            if network.output.shape[-1] > 1:
                loss = DeepSupervision(loss)
            network.compile(optimizer, loss, metrics=[TrainDice()], jit_compile=cfg.trainer.jit_compile)
        return network

    return network_cache.compile_once(computation(cfg, channels, steps), build)


def take_images(network: keras.Model, image_type: str) -> keras.Model:
    """Return a network with the same layers and weights that takes images of the type `image_type`.

    Networks are built for uint8 images. An input of integers would cut off the fractions of float16 images, so it is replaced.
    """
    if image_type == "uint8" or keras.backend.is_float_dtype(network.inputs[0].dtype):
        return network

    def change(node: dict) -> dict:
        return {**node, "config": {**node["config"], "dtype": image_type}} if node.get("class_name") == "InputLayer" else node

    changed = keras.models.model_from_json(json.dumps(json.loads(network.to_json(), object_hook=change)))
    changed.set_weights(network.get_weights())
    return changed


@keras.saving.register_keras_serializable(package="attnunet")
class UpSamplingAnySize(keras.layers.UpSampling2D):
    """Keras's layer, for images whose size is known only when a step runs. Keras's own call fails there."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.image.resize(inputs, tf.shape(inputs)[1:3] * tf.constant(self.size), self.interpolation)


def take_sizes(network: keras.Model, size: int | None) -> keras.Model:
    """Return a network with the same variables for images of this side; of any side if it is None."""
    up = UpSamplingAnySize if size is None else keras.layers.UpSampling2D

    def reuse(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.variables:
            return layer
        # A layer without variables is made anew: `layer.output` of a shared one would belong to the first network.
        return (up if isinstance(layer, keras.layers.UpSampling2D) else type(layer)).from_config(layer.get_config())

    (images,) = network.inputs
    other = keras.Input((size, size, images.shape[3]), dtype=images.dtype, name=images.name)
    return keras.models.clone_model(network, input_tensors=other, clone_function=reuse)


def build_predictor(cfg: DictConfig, network: keras.Model, prepared: Prepared) -> Predictor:
    """Return a predictor that shares the network's weights, so it always has their current values during training."""
    seen = ("file_channels", "channels", "intensity", "plane", "pixel_size", "dtype", "neighbors")
    preparation = Preparation(cfg.image_size, **{name: getattr(prepared, name) for name in seen}, image_type=cfg.image_type)
    inference = network_cache.without_optimizer(network)
    if cfg.first_sizes:
        inference = take_sizes(inference, cfg.image_size)  # exports and checkpoints name the size
    predictor = Predictor(
        inference,
        preparation,
        flip=cfg.evaluation.flip,
        batch_size=cfg.evaluation.batch_size,
        modules=own_modules(OmegaConf.to_container(cfg.model, resolve=True)),
    )
    predictor.check_loadable()
    return predictor


def strategy_scope(name: Literal["mirrored"] | None) -> AbstractContextManager:
    """Return the scope in which a network is built and compiled.

    "mirrored" trains a copy of the network on each GPU. Without a GPU, it trains a copy on each logical CPU. Each copy gets
    an equal share of a batch.
    """
    return nullcontext() if name is None else mirrored_strategy().scope()


@cache
def mirrored_strategy() -> Any:
    """Return the only strategy of a process.

    Two strategies would give the same numbers to their reductions, and TensorFlow would confuse these reductions.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])
