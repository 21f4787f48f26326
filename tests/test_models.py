"""One suite for every network of conf/model and all variants of the first, then what each switch does and leaves alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from omegaconf import DictConfig, OmegaConf

from attnunet.config import CONF, objects
from attnunet.models.attention_resunet import attention_resunet
from attnunet.models.blocks import gate_maps, prediction
from attnunet.models.normalization import FusedBatchNormalization
from attnunet.models.upsample_concat import Joined, transposed_kernel

CHOICES = sorted(path.stem for path in Path(CONF, "model").glob("*.yaml"))
# With model=conv, every pair of choices of convolution, gate, residual and dropout occurs.
VARIANTS: dict[str, dict[str, Any]] = {
    "separable-additive-plain-dropout": {
        "convolution": layers.SeparableConv2D,
        "gate": "additive",
        "residual": False,
        "dropout": 0.2,
    },
    "conv-concat-plain-dropout": {"convolution": layers.Conv2D, "gate": "concat", "residual": False, "dropout": 0.2},
    "separable-concat": {"convolution": layers.SeparableConv2D, "gate": "concat", "residual": True, "dropout": 0.0},
    "conv-ungated-dropout": {"convolution": layers.Conv2D, "gate": "none", "residual": True, "dropout": 0.2},
    "separable-ungated-plain": {
        "convolution": layers.SeparableConv2D,
        "gate": "none",
        "residual": False,
        "dropout": 0.0,
    },
    "conv-group-deep": {"convolution": layers.Conv2D, "norm": "group", "depths": [2, 1]},
    "conv-supervised": {"convolution": layers.Conv2D, "deep_supervision": True},
    "separable-instance-deep": {"convolution": layers.SeparableConv2D, "norm": "instance", "depths": [1, 2]},
}


def build(
    image_size: int = 16,
    channels: int = 3,
    filters: tuple[int, ...] = (4, 8),
    convolution: Callable[..., layers.Layer] = layers.Conv2D,
    **arguments: Any,
) -> keras.Model:
    keras.utils.set_random_seed(0)
    return attention_resunet(image_size, channels, list(filters), convolution, **arguments)


def pictures(image_size: int = 16, channels: int = 3, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, image_size, image_size, channels), dtype=np.uint8)


def outputs_of(network: keras.Model, *names: str) -> keras.Model:
    """The network that answers with the outputs of the named layers."""
    return keras.Model(network.input, {name: network.get_layer(name).output for name in names})


def names_and_classes(network: keras.Model) -> dict[str, type]:
    return {layer.name: type(layer.layer if isinstance(layer, Joined) else layer) for layer in network.layers}


def joined(network: keras.Model, level: int) -> keras.Model:
    """The network that answers with what a decoder's block gets: the level below, and the skip."""
    return keras.Model(network.input, list(network.get_layer(f"decoder_{level}_conv1").input))


def choose(model: str) -> keras.Model:
    """Return the network that a choice of the group model names, with few filters if it has that key."""
    cfg = OmegaConf.load(Path(CONF, "model", f"{model}.yaml"))
    assert isinstance(cfg, DictConfig)
    if "filters" in cfg:
        cfg.filters = [4, 8]
    keras.utils.set_random_seed(0)
    return objects.make(cfg, "model")(16, 3)


NETWORKS = {name: partial(build, **arguments) for name, arguments in VARIANTS.items()}
NETWORKS |= {f"model={model}": partial(choose, model) for model in CHOICES}


@pytest.fixture(scope="module", params=NETWORKS)
def variant(request: pytest.FixtureRequest) -> keras.Model:
    return NETWORKS[request.param]()


def test_forward(variant: keras.Model) -> None:
    logits = variant(pictures())
    assert logits.shape == (2, 16, 16, 1)
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()
    assert np.std(logits[0]) > 0


def test_the_head_is_linear(variant: keras.Model) -> None:
    """Logits, to which losses and the predictor apply the one sigmoid."""
    head = variant.layers[-1]
    features = keras.Model(variant.input, head.input)(pictures())
    expected = features @ head.kernel.numpy()[0, 0] + head.bias.numpy()
    np.testing.assert_allclose(variant(pictures()), expected, atol=1e-5)


def test_every_weight_learns(variant: keras.Model) -> None:
    x = pictures()
    y = (x[..., :1] > 127).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(y, variant(x, training=True)))
    gradients = tape.gradient(loss, variant.trainable_variables)
    before = [weight.numpy() for weight in variant.trainable_variables]
    keras.optimizers.SGD(1.0).apply(gradients, variant.trainable_variables)

    for weight, old, slope in zip(variant.trainable_variables, before, gradients, strict=True):
        assert slope is not None, weight.path
        assert np.isfinite(slope).all(), weight.path
        assert (weight.numpy() != old).any(), weight.path


# Keras reads a variable through an __array__ without NumPy 2's copy argument.
@pytest.mark.filterwarnings(r"ignore:__array__ implementation:DeprecationWarning:keras\.src\.backend\.tensorflow\.core")
def test_save_and_load_gives_the_same_bits(variant: keras.Model, tmp_path: Path) -> None:
    variant(pictures(), training=True)  # running means that are not the initial ones
    variant.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras", compile=False)
    np.testing.assert_array_equal(loaded(pictures()), variant(pictures()))
    assert names_and_classes(loaded) == names_and_classes(variant)


@pytest.mark.parametrize(
    ("image_size", "filters", "channels", "bottom"),
    [(32, (2, 4, 8), 1, 8), (64, (2, 2, 2, 2, 4), 3, 4), (24, (2, 4, 8, 8), 1, 3), (8, (2, 4), 3, 4)],
)
def test_sizes(image_size: int, filters: tuple[int, ...], channels: int, bottom: int) -> None:
    network = build(image_size, channels, filters)
    assert network.input_shape == (None, image_size, image_size, channels)
    assert network.input.dtype == "uint8"
    assert network.get_layer("bottleneck_relu2").output.shape == (None, bottom, bottom, filters[-1])
    assert network(pictures(image_size, channels)).shape == (2, image_size, image_size, 1)


@pytest.mark.parametrize(
    ("image_size", "filters", "divisor"), [(24, (2, 2, 2, 2, 2), 16), (15, (2, 4), 2), (30, (2, 4, 8), 4)]
)
def test_image_size_must_divide(image_size: int, filters: tuple[int, ...], divisor: int) -> None:
    with pytest.raises(ValueError, match=f"image_size={image_size} .* {divisor}$"):
        build(image_size, filters=filters)


def test_images_are_scaled_to_one() -> None:
    rescaled = outputs_of(build(), "rescaling")(np.full((1, 16, 16, 3), 255, np.uint8))["rescaling"]
    np.testing.assert_allclose(rescaled, 1, rtol=1e-6)


def test_separable_swaps_the_convolutions_of_the_blocks_only() -> None:
    plain, separable = names_and_classes(build()), names_and_classes(build(convolution=layers.SeparableConv2D))
    assert list(plain) == list(separable)
    swapped = {name for name in plain if plain[name] is not separable[name]}
    blocks = ("encoder_0", "bottleneck", "decoder_0")
    assert swapped == {f"{block}_conv{number}" for block in blocks for number in (1, 2)}
    assert {plain[name] for name in swapped} == {layers.Conv2D}
    assert {separable[name] for name in swapped} == {layers.SeparableConv2D}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # 3 to 4 channels. A batch normalisation holds 4 numbers a channel: 16.
        # conv1 3*3*3*4 = 108, conv2 3*3*4*4 = 144, shortcut 3*4 = 12, three normalisations 48
        ({}, 108 + 144 + 12 + 48),
        # conv1 3*3*3 + 3*4 = 39, conv2 3*3*4 + 4*4 = 52
        ({"convolution": layers.SeparableConv2D}, 39 + 52 + 12 + 48),
        ({"residual": False}, 108 + 144 + 32),
        ({"dropout": 0.2}, 108 + 144 + 12 + 48),
    ],
)
def test_parameters_of_a_block_by_hand(arguments: dict[str, Any], expected: int) -> None:
    block = [layer for layer in build(**arguments).layers if layer.name.startswith("encoder_0_")]
    assert sum(layer.count_params() for layer in block) == expected


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        # theta 2*2*4*4 = 64, phi 8*4 + 4 = 36, psi of 4 or of 4 + 4 channels and its bias
        ("additive", 64 + 36 + 5),
        ("concat", 64 + 36 + 9),
        ("none", 0),
    ],
)
def test_parameters_of_a_gate_by_hand(gate: str, expected: int) -> None:
    assert sum(layer.count_params() for layer in build(gate=gate).layers if layer.name.startswith("gate_0")) == expected


def test_without_residual_nothing_is_added() -> None:
    with_shortcut, without = names_and_classes(build(gate="none")), names_and_classes(build(gate="none", residual=False))
    lost = {
        f"{block}_{part}" for block in ("encoder_0", "bottleneck", "decoder_0") for part in ("shortcut", "shortcut_bn", "add")
    }
    assert set(with_shortcut) - set(without) == lost
    assert set(without) < set(with_shortcut)
    assert layers.Add not in without.values()


def test_residual_adds_the_shortcut() -> None:
    parts = outputs_of(build(), "encoder_0_bn2", "encoder_0_shortcut_bn", "encoder_0_relu2")(pictures())
    expected = np.maximum(parts["encoder_0_bn2"] + parts["encoder_0_shortcut_bn"], 0)
    np.testing.assert_allclose(parts["encoder_0_relu2"], expected, rtol=1e-6)


def test_without_gates_the_skips_pass_unchanged() -> None:
    network = build(gate="none")
    assert not [name for name in names_and_classes(network) if name.startswith("gate")]
    assert gate_maps(network) is None
    parts = outputs_of(network, "bottleneck_relu2", "encoder_0_relu2")(pictures())
    for found, expected in zip(joined(network, 0)(pictures()), parts.values(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("gate", ["additive", "concat"])
def test_gate_maps_weigh_the_skips(gate: str) -> None:
    network = build(32, filters=(2, 4, 8), gate=gate)
    x = pictures(32)
    maps = gate_maps(network)(x)
    assert list(maps) == ["gate_0_map", "gate_1_map"]
    for level, size in enumerate((32, 16)):
        weight = maps[f"gate_{level}_map"].numpy()
        assert weight.shape == (2, size, size, 1)
        assert ((weight > 0) & (weight < 1)).all()
        assert weight.std() > 0
        parts = outputs_of(network, f"encoder_{level}_relu2", f"gate_{level}")(x)
        np.testing.assert_allclose(parts[f"gate_{level}"], parts[f"encoder_{level}_relu2"] * weight, rtol=1e-5)
        # ... and what the gate lets through is what the decoder gets.
        np.testing.assert_array_equal(joined(network, level)(x)[1], parts[f"gate_{level}"])


def test_a_gate_joins_skip_and_signal_from_below() -> None:
    names = ("gate_0_theta", "gate_0_phi", "gate_0_join")
    added = outputs_of(build(gate="additive"), *names)(pictures())
    np.testing.assert_allclose(added["gate_0_join"], added["gate_0_theta"] + added["gate_0_phi"], rtol=1e-6)
    stacked = outputs_of(build(gate="concat"), *names)(pictures())
    np.testing.assert_array_equal(
        stacked["gate_0_join"], np.concatenate([stacked["gate_0_theta"], stacked["gate_0_phi"]], axis=-1)
    )


def test_a_gate_of_one_half_everywhere_halves_the_skip() -> None:
    """psi = 0 gives sigmoid(0) = 1/2, also after upsampling."""
    network = build()
    psi = network.get_layer("gate_0_psi")
    psi.set_weights([np.zeros_like(psi.kernel.numpy()), np.zeros(1)])
    parts = outputs_of(network, "encoder_0_relu2", "gate_0")(pictures())
    np.testing.assert_allclose(parts["gate_0"], parts["encoder_0_relu2"] / 2, rtol=1e-6)


def test_dropout_acts_in_training_only() -> None:
    dropped, plain, x = build(dropout=0.5), build(), pictures()
    dropped.set_weights(plain.get_weights())
    np.testing.assert_array_equal(dropped(x, training=False), plain(x, training=False))
    assert (dropped(x, training=True).numpy() != plain(x, training=True).numpy()).any()


def test_dropout_drops_whole_maps() -> None:
    network = build(filters=(16, 4), dropout=0.25)
    parts = outputs_of(network, "encoder_0_relu1", "encoder_0_dropout")(pictures(), training=True)
    before, after = parts["encoder_0_relu1"].numpy(), parts["encoder_0_dropout"].numpy()
    kept = after.any(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(after, np.where(kept, before / 0.75, 0), rtol=1e-6)
    assert 0 < kept.mean() < 1


@pytest.mark.parametrize("momentum", [0.5, 0.99])
def test_bn_momentum_reaches_every_normalisation(momentum: float) -> None:
    network = build(bn_momentum=momentum)
    normalisations = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(normalisations) == 9  # three blocks of two and a shortcut's
    network(pictures(), training=True)
    for layer in normalisations:
        assert layer.momentum == momentum, layer.name
    # The running mean starts at 0 and moves by 1 - momentum of the way to the batch's.
    mean = outputs_of(network, "encoder_0_conv1")(pictures())["encoder_0_conv1"].numpy().mean(axis=(0, 1, 2))
    running = network.get_layer("encoder_0_bn1").moving_mean.numpy()
    np.testing.assert_allclose(running, (1 - momentum) * mean, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("mixed_float16")
@pytest.mark.parametrize("model", CHOICES)
def test_logits_stay_float32_under_mixed_precision(model: str) -> None:
    network = choose(model)
    assert keras.backend.standardize_dtype(network.layers[-1].input.dtype) == "float16"
    logits = network(pictures())
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in network.trainable_weights} == {"float32"}


@pytest.mark.parametrize("model", CHOICES)
def test_xla_gives_the_same_logits(model: str) -> None:
    network = choose(model)
    compiled = tf.function(network, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(pictures())), network(pictures()), atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 6, 6, 3), (1, 1, 1, 2)])
def test_the_fused_normalisation_is_keras_s(shape: tuple[int, ...]) -> None:
    """Outputs in training and prediction, gradients, and the running mean and variance (of one pixel: 0)."""
    rng = np.random.default_rng(0)
    x, slope = (tf.constant(rng.normal(3, 2, shape), tf.float32) for _ in range(2))
    weights = [np.linspace(start, 2, shape[-1]) for start in (0.5, -1, 0, 1)]  # gamma, beta, mean, variance
    seen = []
    for kind in (layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(momentum=0.9)
        layer.build(shape)
        layer.set_weights(weights)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        gradients = tape.gradient(y, [x, layer.gamma, layer.beta], output_gradients=slope)
        seen.append([y, *gradients, *layer.get_weights(), layer(x, training=False)])
    for place, (expected, found) in enumerate(zip(*seen, strict=True)):
        # The gradients of gamma and beta are float32 sums of 144 products, whose order depends on the processor.
        largest = np.max(np.abs(expected)) if place in (2, 3) else 0
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 + 2e-5 * largest)


def test_a_fused_normalisation_that_is_frozen_learns_nothing() -> None:
    layer = FusedBatchNormalization(momentum=0.9)
    layer.build((None, 4, 4, 2))
    layer.trainable = False
    x = tf.constant(np.random.default_rng(0).normal(3, 2, (2, 4, 4, 2)), tf.float32)
    np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1.001), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, [0, 0])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (layers.Conv2D, {"kernel_size": 3}),
        (layers.Conv2D, {"kernel_size": 1}),
        (layers.SeparableConv2D, {"kernel_size": 3}),
        # What has no shorter way.
        (layers.Conv2D, {"kernel_size": 5}),
        (layers.Conv2D, {"kernel_size": 3, "dilation_rate": 2}),
        (layers.Conv2D, {"kernel_size": 3, "use_bias": True}),
        (layers.Conv2D, {"kernel_size": 3, "activation": "relu"}),
        (layers.SeparableConv2D, {"kernel_size": 3, "depth_multiplier": 2}),
    ],
)
def test_a_joined_convolution_is_that_of_the_concatenation(kind: type[layers.Layer], settings: dict[str, Any]) -> None:
    """Results and gradients, at the border too, of images that are no squares."""
    rng = np.random.default_rng(0)
    below, skip = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((2, 3, 5, 4), (2, 6, 10, 2)))
    convolution = kind(3, padding="same", **{"use_bias": False, **settings})

    def in_full() -> tf.Tensor:
        return convolution(layers.Concatenate()([layers.UpSampling2D(2)(below), skip]))

    joined = Joined(convolution)
    slope = tf.constant(rng.normal(size=in_full().shape), tf.float32)
    seen = []
    for way in (in_full, lambda: joined([below, skip], training=True)):
        with tf.GradientTape() as tape:
            tape.watch([below, skip])
            y = way()
        seen.append([y, *tape.gradient(y, [below, skip, *convolution.trainable_variables], output_gradients=slope)])
    for expected, found in zip(*seen, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(joined([below, skip], training=False), in_full(), rtol=1e-4, atol=1e-5)
    assert joined.compute_output_shape(((None, 3, 5, 4), (None, 6, 10, 2))) == (None, 6, 10, 3)


def test_taps_that_meet_are_added() -> None:
    """One input and one output channel: a row of taps 1, 10, 100 on pixels drawn twice as large."""
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, :, 0, 0] = 1, 10, 100
    taps = transposed_kernel(tf.constant(kernel))[:, :, 0, 0].numpy()
    # From a pixel's left neighbour to its right one: its right edge, both, both, its left edge.
    np.testing.assert_array_equal(taps, [[0] * 4, [100, 110, 11, 1], [100, 110, 11, 1], [0] * 4])


def test_each_level_of_the_encoder_has_its_number_of_blocks() -> None:
    plain, deep = names_and_classes(build()), names_and_classes(build(depths=[2, 3]))
    assert set(plain) <= set(deep)
    blocks = {name.removesuffix("_conv1") for name in deep if name.endswith("_conv1")}
    assert blocks == {"encoder_0", "encoder_0_1", "bottleneck", "bottleneck_1", "bottleneck_2", "decoder_0"}


def test_a_depth_is_needed_for_each_level() -> None:
    with pytest.raises(ValueError, match=r"^depths=\[1\]: 1 levels; allowed: a number for each of the 2 filters$"):
        build(depths=[1])


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_an_image_is_normalised_by_itself(norm: str) -> None:
    """4 channels make 4 groups of one channel each, as for instance normalisation: mean 0 and variance 1 a channel."""
    network = build(norm=norm)
    normalised = outputs_of(network, "encoder_0_bn1").predict_on_batch(pictures())["encoder_0_bn1"]
    np.testing.assert_allclose(normalised.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.var(axis=(1, 2)), 1, atol=0.2)  # epsilon is 0.001
    together, alone = (network.predict_on_batch(images) for images in (pictures(), pictures()[:1]))
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_a_group_has_several_channels() -> None:
    layer = build(filters=(24, 8), norm="group").get_layer("encoder_0_bn1")
    assert (type(layer), layer.groups) == (layers.GroupNormalization, 8)


def test_the_logits_of_coarser_levels_are_for_the_training_alone() -> None:
    plain, deep = build(filters=(4, 8, 16)), build(filters=(4, 8, 16), deep_supervision=True)
    assert deep.output.shape == (None, 16, 16, 2)
    alone = keras.Model(deep.input, prediction(deep))
    assert prediction(plain) is plain.output
    assert names_and_classes(alone).keys() == names_and_classes(plain).keys()
    both = deep.predict_on_batch(pictures())
    np.testing.assert_allclose(alone.predict_on_batch(pictures()), both[..., :1], rtol=1e-5, atol=1e-6)
    coarse = outputs_of(deep, "logits_1").predict_on_batch(pictures())["logits_1"]
    assert coarse.shape == (2, 8, 8, 1)
    expected = np.asarray(tf.image.resize(coarse, (16, 16), "bilinear"))
    np.testing.assert_allclose(both[..., 1:], expected, rtol=1e-5, atol=1e-6)
