"""Losses against values worked by hand, their gradients where the naive forms break, and their way through Keras.

One image of four pixels with p = (3/4, 1/4, 1/2, 1/2), hence P = 2, is scored against three masks:

    mask   y               Y  I     TP    FP    FN
    empty  (0, 0, 0, 0)    0  0     0     2     0
    full   (1, 1, 1, 1)    4  2     2     0     2
    one    (1, 0, 0, 0)    1  3/4   3/4   5/4   1/4
    all three as a batch   5  11/4  11/4  13/4  9/4     with P = 6
"""

import inspect
import json
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from focal_loss import BinaryFocalLoss

from attnunet import losses

LN3 = log(3)  # sigmoid(ln 3) = 3/4
LOGITS = (LN3, -LN3, 0.0, 0.0)
P = np.array([3 / 4, 1 / 4, 1 / 2, 1 / 2])
MASKS = {"empty": (0, 0, 0, 0), "full": (1, 1, 1, 1), "one": (1, 0, 0, 0)}

# -log p and -log(1 - p) at p = 3/4, 1/4, 1/2.
A, B, C = log(4 / 3), log(4), log(2)

Function = Callable[..., Any]


def images(*pixels: Any, dtype: str = "float32") -> tf.Tensor:
    """Rows of four pixels as (B, 2, 2, 1)."""
    return tf.constant(np.array(pixels, dtype).reshape(-1, 2, 2, 1))


def batch() -> tuple[tf.Tensor, tf.Tensor]:
    return images(*MASKS.values()), images(*[LOGITS] * len(MASKS))


def gradient(loss: Function, y: tf.Tensor, z: tf.Tensor) -> np.ndarray:
    """d sum(loss) / dz, flat."""
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = tf.reduce_sum(loss(y, z))
    return tape.gradient(value, z).numpy().ravel()


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("empty", (B, A, C, C)),  # -log(1 - p)
        ("full", (A, B, C, C)),  # -log p
        ("one", (A, A, C, C)),
    ],
)
def test_binary_crossentropy_by_hand(mask: str, expected: tuple[float, ...]) -> None:
    value = losses.binary_crossentropy(images(MASKS[mask]), images(LOGITS))
    np.testing.assert_allclose(value, images(expected), rtol=1e-6)
    mean = losses.BinaryCrossentropy()(images(MASKS[mask]), images(LOGITS))
    np.testing.assert_allclose(mean, sum(expected) / 4, rtol=1e-6)


@pytest.mark.parametrize("pos_weight", [1.0, 2.5])
@pytest.mark.parametrize(
    ("gamma", "mask", "lesion", "background"),
    [
        # gamma = 2: (1 - p)^2 = 1/16, 9/16, 1/4 and p^2 = 9/16, 1/16, 1/4 at p = 3/4, 1/4, 1/2
        (2.0, "empty", (0, 0, 0, 0), (9 / 16 * B, 1 / 16 * A, C / 4, C / 4)),
        (2.0, "full", (1 / 16 * A, 9 / 16 * B, C / 4, C / 4), (0, 0, 0, 0)),
        (2.0, "one", (1 / 16 * A, 0, 0, 0), (0, 1 / 16 * A, C / 4, C / 4)),
        # gamma = 1/2: sqrt(1/4) = 1/2 for p_t = 3/4
        (0.5, "one", (A / 2, 0, 0, 0), (0, A / 2, C / 2**0.5, C / 2**0.5)),
    ],
)
def test_binary_focal_by_hand(
    gamma: float, mask: str, lesion: tuple[float, ...], background: tuple[float, ...], pos_weight: float
) -> None:
    expected = pos_weight * np.array(lesion) + np.array(background)
    y, z = images(MASKS[mask]), images(LOGITS)
    np.testing.assert_allclose(losses.binary_focal(y, z, gamma, pos_weight), images(expected), rtol=1e-5)
    np.testing.assert_allclose(losses.BinaryFocal(gamma, pos_weight)(y, z), expected.mean(), rtol=1e-5)


OVERLAPS = [
    # Dice: 1 - (2 I + s) / (P + Y + s)
    (losses.dice, {"smooth": 1.0}, {"empty": 1 - 1 / 3, "full": 1 - 5 / 7, "one": 1 - 2.5 / 4}, 1 - 6.5 / 12),
    (losses.dice, {"smooth": 2.0}, {"empty": 1 - 2 / 4, "full": 1 - 6 / 8, "one": 1 - 3.5 / 5}, 1 - 7.5 / 13),
    # Jaccard: 1 - (I + s) / (P + Y - I + s)
    (losses.jaccard, {"smooth": 1.0}, {"empty": 1 - 1 / 3, "full": 1 - 3 / 5, "one": 1 - 1.75 / 3.25}, 1 - 3.75 / 9.25),
    (
        losses.jaccard,
        {"smooth": 0.5},
        {"empty": 1 - 0.5 / 2.5, "full": 1 - 2.5 / 4.5, "one": 1 - 1.25 / 2.75},
        1 - 3.25 / 8.75,
    ),
    # Tversky: 1 - (TP + s) / (TP + 0.3 FP + 0.7 FN + s)
    (losses.tversky, {}, {"empty": 1 - 1 / 1.6, "full": 1 - 3 / 4.4, "one": 1 - 1.75 / 2.3}, 1 - 3.75 / 6.3),
    # ... and with 0.8 FP + 0.1 FN, s = 2
    (
        losses.tversky,
        {"alpha": 0.8, "beta": 0.1, "smooth": 2.0},
        {"empty": 1 - 2 / 3.6, "full": 1 - 4 / 4.2, "one": 1 - 2.75 / 3.775},
        1 - 4.75 / 7.575,
    ),
    # Focal Tversky: the powers of the Tversky loss above
    (
        losses.focal_tversky,
        {"gamma": 2.0},
        {"empty": 0.375**2, "full": (7 / 22) ** 2, "one": (11 / 46) ** 2},
        (2.55 / 6.3) ** 2,
    ),
    (
        losses.focal_tversky,
        {},
        {"empty": 0.375**0.75, "full": (7 / 22) ** 0.75, "one": (11 / 46) ** 0.75},
        (2.55 / 6.3) ** 0.75,
    ),
]
CLASSES = {
    losses.dice: losses.Dice,
    losses.jaccard: losses.Jaccard,
    losses.tversky: losses.Tversky,
    losses.focal_tversky: losses.FocalTversky,
}


@pytest.mark.parametrize(("function", "arguments", "by_mask", "of_batch"), OVERLAPS)
def test_overlap_losses_by_hand(
    function: Function, arguments: dict[str, float], by_mask: dict[str, float], of_batch: float
) -> None:
    for mask, expected in by_mask.items():
        np.testing.assert_allclose(function(images(MASKS[mask]), images(LOGITS), **arguments), expected, rtol=1e-5)
    np.testing.assert_allclose(function(*batch(), **arguments), of_batch, rtol=1e-5)
    np.testing.assert_allclose(CLASSES[function](**arguments)(*batch()), of_batch, rtol=1e-5)


@pytest.mark.parametrize(("function", "arguments", "by_mask", "of_batch"), OVERLAPS)
def test_overlap_losses_per_image(
    function: Function, arguments: dict[str, float], by_mask: dict[str, float], of_batch: float
) -> None:
    each = list(by_mask.values())
    np.testing.assert_allclose(function(*batch(), **arguments, per_image=True), each, rtol=1e-5)
    mean = CLASSES[function](**arguments, per_image=True)(*batch())
    np.testing.assert_allclose(mean, np.mean(each), rtol=1e-5)
    assert abs(np.mean(each) - of_batch) > 1e-3, "the two rules would not be told apart"


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("pos_weight", [1.0, 2.5])
def test_focal_package_equals_the_stable_form(gamma: float, pos_weight: float) -> None:
    """So that switching between them at gamma = 1 is no change of the loss."""
    z = np.linspace(-12, 12, 100, dtype="float32")  # without 0, see the next test
    z = tf.constant(np.concatenate([z, z])[:, None, None, None])
    y = tf.constant(np.repeat([0.0, 1.0], 100).astype("float32")[:, None, None, None])

    def stable(y: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return losses.binary_focal(y, z, gamma, pos_weight)

    # The package takes 1 - p, which float32 rounds to steps of 6e-8.
    for package in (BinaryFocalLoss(gamma, pos_weight=pos_weight, from_logits=True), losses.BinaryFocal(gamma, pos_weight)):
        np.testing.assert_allclose(package.call(y, z), stable(y, z), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(gradient(package.call, y, z), gradient(stable, y, z), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("pos_weight", [1.0, 2.5])
def test_focal_gradient_at_a_logit_of_zero(gamma: float, pos_weight: float) -> None:
    """d (p^gamma * -log(1 - p)) / dz = gamma p^gamma (1 - p) log 2 + p^(gamma + 1) at p = 1/2; mirrored for lesions.

    The package with a pos_weight of its own has 1 or 0 for the slope of the cross-entropy there, in place of 1/2.
    """
    slope = gamma * 0.5 ** (gamma + 1) * C + 0.5 ** (gamma + 1)
    y, z = images((0, 1, 0, 1)), images((0, 0, 0, 0))
    expected = np.array([1, -pos_weight, 1, -pos_weight]) * slope
    np.testing.assert_allclose(gradient(losses.BinaryFocal(gamma, pos_weight).call, y, z), expected, rtol=1e-5)


CONFIDENT = images((100, -100, 100, -100)), images((1, 1, 0, 0))
"""Right and wrong by the widest margin: z, y."""


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_is_finite_at_confident_pixels(gamma: float) -> None:
    z, y = CONFIDENT
    # Right: 0. Wrong: the loss is |z| itself, hence a slope of 1 towards the truth; the mean is over 4 pixels.
    np.testing.assert_allclose(gradient(losses.BinaryFocal(gamma), y, z), [0, -1 / 4, 1 / 4, 0], atol=1e-6)


def test_focal_package_gradient_is_nan_below_gamma_one() -> None:
    """The reason for the stable form. If this fails, the package was mended and the form can go."""
    z, y = CONFIDENT
    package = BinaryFocalLoss(0.5, from_logits=True).call
    assert np.isnan(gradient(package, y, z)).any()


@pytest.mark.parametrize("mask", MASKS)
def test_focal_gamma_zero_is_crossentropy(mask: str) -> None:
    y, z = images(MASKS[mask]), images(LOGITS)
    np.testing.assert_allclose(losses.binary_focal(y, z, 0.0), losses.binary_crossentropy(y, z), rtol=1e-6)
    np.testing.assert_allclose(losses.BinaryFocal(0.0)(y, z), losses.BinaryCrossentropy()(y, z), rtol=1e-6)


def test_focal_equals_keras() -> None:
    ours = losses.BinaryFocal(2.0)(*batch())
    theirs = keras.losses.BinaryFocalCrossentropy(gamma=2.0, from_logits=True)(*batch())
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize(("smooth", "expected"), [(1.0, 1 / 3**2), (0.1, 0.1 / 2.1**2), (10.0, 10 / 12**2)])
@pytest.mark.parametrize("function", [losses.dice, losses.jaccard])
def test_overlap_gradient_on_an_empty_mask(function: Function, smooth: float, expected: float) -> None:
    """s / (P + s)^2 * dP/dz, with P = 2 and dP/dz = p (1 - p)."""
    slope = gradient(lambda y, z: function(y, z, smooth), images(MASKS["empty"]), images(LOGITS))
    np.testing.assert_allclose(slope, expected * P * (1 - P), rtol=1e-5)


def test_tversky_gradient_on_an_empty_mask() -> None:
    """alpha s / (alpha P + s)^2 * dP/dz = 0.3 / 1.6^2 * p (1 - p)."""
    slope = gradient(losses.tversky, images(MASKS["empty"]), images(LOGITS))
    np.testing.assert_allclose(slope, 0.3 / 1.6**2 * P * (1 - P), rtol=1e-5)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("function", CLASSES)
def test_overlap_losses_are_finite_at_certain_predictions(function: Function, mask: str, right: bool, per_image: bool) -> None:
    """The perfect one is where focal_tversky's power below 1 would have an infinite slope."""
    y = images(MASKS[mask])
    z = (2 * y - 1) * (100 if right else -100)
    value = np.squeeze(function(y, z, per_image=per_image))
    assert np.isfinite(gradient(lambda y, z: function(y, z, per_image=per_image), y, z)).all()
    if right:
        assert 0 <= value < 1e-4
    else:
        assert 0.3 < value < 1


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("smooth", [0.2, 1.0])
def test_tversky_contains_dice_and_jaccard(smooth: float, per_image: bool) -> None:
    as_dice = losses.tversky(*batch(), 0.5, 0.5, smooth / 2, per_image)
    as_jaccard = losses.tversky(*batch(), 1.0, 1.0, smooth, per_image)
    np.testing.assert_allclose(as_dice, losses.dice(*batch(), smooth, per_image), rtol=1e-6)
    np.testing.assert_allclose(as_jaccard, losses.jaccard(*batch(), smooth, per_image), rtol=1e-6)


def test_weighted_sum_by_hand() -> None:
    loss = losses.WeightedSum({"bce": losses.BinaryCrossentropy(), "dice": losses.Dice()}, {"dice": 3.0, "bce": 0.5})
    y, z = images(MASKS["one"]), images(LOGITS)
    np.testing.assert_allclose(loss(y, z), 0.5 * (2 * A + 2 * C) / 4 + 3.0 * 0.375, rtol=1e-6)


def test_weighted_sum_with_a_weight_of_zero_is_the_other_term() -> None:
    loss = losses.WeightedSum({"bce": losses.BinaryCrossentropy(), "dice": losses.Dice()}, {"dice": 1.0, "bce": 0.0})
    np.testing.assert_allclose(loss(*batch()), losses.Dice()(*batch()), rtol=1e-6)


@pytest.mark.parametrize(
    ("terms", "weights", "named"),
    [
        ({"dice": losses.Dice()}, {"focal": 1.0}, "focal"),
        ({"dice": losses.Dice()}, {"dice": 1.0, "focal": 1.0}, "focal"),
        ({"dice": losses.Dice(), "bce": losses.BinaryCrossentropy()}, {"dice": 1.0}, "bce"),
        ({}, {}, "loss.terms"),
    ],
)
def test_weighted_sum_refuses_other_names(terms: dict[str, Any], weights: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        losses.WeightedSum(terms, weights)


def build(kind: type[losses.Loss], factor: float) -> losses.Loss:
    """Return a loss with arguments that are not its defaults, so that a lost argument changes the value."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    numbers = {name: value * factor for name, value in defaults.items() if type(value) is float}
    return kind(**numbers, **{name: not value for name, value in defaults.items() if type(value) is bool}, name="other")


COMPOSED = (losses.Loss, losses.WeightedSum, losses.DeepSupervision)
SIMPLE = [
    kind
    for kind in vars(losses).values()
    if isinstance(kind, type)
    and issubclass(kind, losses.Loss)
    and kind not in (losses.Loss, losses.WeightedSum, losses.DeepSupervision)
]
EVERY = [build(kind, factor) for kind in SIMPLE for factor in (0.3, 0.7)]  # a focal loss below and above gamma = 1
EVERY += [
    losses.WeightedSum({"focal": losses.BinaryFocal(gamma=1.5), "dice": losses.Dice(smooth=0.3)}, {"focal": 2.0, "dice": 0.5}),
    losses.DeepSupervision(losses.Dice(smooth=0.3)),
]


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: type(loss).__name__)
def test_every_class_takes_uint8_masks(loss: losses.Loss) -> None:
    y, z = batch()
    np.testing.assert_array_equal(loss(tf.cast(y, tf.uint8), z), loss(y, z))


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: type(loss).__name__)
def test_every_class_survives_its_config(loss: losses.Loss) -> None:
    config = json.loads(json.dumps(loss.get_config()))
    again = type(loss).from_config(config)
    assert again.name == loss.name
    assert again.get_config() == loss.get_config()
    np.testing.assert_array_equal(again(*batch()), loss(*batch()))


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: type(loss).__name__)
def test_every_class_is_deserialised_as_ours(loss: losses.Loss) -> None:
    """Keras has a Dice and a Tversky too: a plain name would load as Keras's, which takes no logits."""
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(loss))))
    assert type(again) is type(loss)
    assert keras.saving.get_registered_name(type(loss)) == f"attnunet>{type(loss).__name__}"  # what saved files hold
    np.testing.assert_array_equal(again(*batch()), loss(*batch()))


def tiny_network() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(1, 1, dtype="float32")(x))


def tiny_batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((2, 8, 8, 1), dtype=np.float32)
    return x, (x > 0.7).astype(np.uint8)


@pytest.mark.usefixtures("mixed_float16")
def test_a_compiled_model_trains_under_mixed_precision() -> None:
    network = tiny_network()
    terms = {"focal": losses.BinaryFocal(), "dice": losses.Dice(), "focal_tversky": losses.FocalTversky()}
    loss = losses.WeightedSum(terms, {"focal": 1.0, "dice": 0.5, "focal_tversky": 0.25})
    network.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
    x, y = tiny_batch()
    expected = float(loss(y, network(x)))
    weights = [weight.numpy() for weight in network.trainable_weights]

    first = float(network.train_on_batch(x, y))
    np.testing.assert_allclose(first, expected, rtol=1e-3)
    assert network.layers[1].compute_dtype == "float16"
    for before, after in zip(weights, network.trainable_weights, strict=True):
        assert np.isfinite(after.numpy()).all()
        assert (before != after.numpy()).any(), after.path
    assert float(loss(y, network(x))) < first, "a step downhill does not lower the loss"


# Keras reads a variable through an __array__ without NumPy 2's copy argument.
@pytest.mark.filterwarnings(r"ignore:__array__ implementation:DeprecationWarning:keras\.src\.backend\.tensorflow\.core")
def test_a_saved_model_loads_with_its_loss(tmp_path: Path) -> None:
    network = tiny_network()
    loss = losses.WeightedSum({"dice": losses.Dice(smooth=0.3)}, {"dice": 2.0})
    network.compile(optimizer="sgd", loss=loss)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert type(loaded.loss) is losses.WeightedSum
    assert type(loaded.loss.terms["dice"]) is losses.Dice
    assert loaded.loss.get_config() == loss.get_config()


def test_deep_supervision_is_the_weighted_mean_over_levels() -> None:
    """Weights 1, 1/2 and 1/4 over their sum 7/4: 4/7, 2/7 and 1/7."""
    y = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32).reshape(1, 2, 2, 1)
    z = np.random.default_rng(0).normal(size=(1, 2, 2, 3)).astype(np.float32)
    term = losses.Dice()
    each = [float(term(y, z[..., level : level + 1])) for level in range(3)]
    assert float(losses.DeepSupervision(term)(y, z)) == pytest.approx((4 * each[0] + 2 * each[1] + each[2]) / 7)
    assert float(losses.DeepSupervision(term)(y, z[..., :1])) == pytest.approx(each[0])
    copy = losses.DeepSupervision.from_config(losses.DeepSupervision(term).get_config())
    assert float(copy(y, z)) == float(losses.DeepSupervision(term)(y, z))
