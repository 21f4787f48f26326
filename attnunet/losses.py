"""Segmentation losses on logits: pure functions of (y, z), thin Keras classes around them, and a weighted sum of losses.

Shapes: the reference y holds 0 or 1. The logits z are any real numbers. Both have the shape (B, H, W, 1). p = sigmoid(z).

The overlap losses sum over a whole batch, unless `per_image` is set. nnU-Net calls this "batch Dice" (Isensee et al. 2021,
doi 10.1038/s41592-020-01008-z). Most slices of a brain hold no lesion. The Dice loss of a single slice without lesion
depends on the prediction only through the smoothing s.

Empty masks: let I = sum(p y), P = sum(p), Y = sum(y) and the smoothing s > 0. If the reference is empty (Y = 0), the Dice
loss is 1 - s / (P + s): 0 for an empty prediction, and close to 1 for a full prediction. Its derivative
s / (P + s)^2 with respect to P is finite everywhere, so training reduces false positives. The same is true for the Jaccard
loss and the Tversky loss.
"""

from typing import Annotated, Any

import keras
import tensorflow as tf
from annotated_types import Ge, Gt, Le
from focal_loss import BinaryFocalLoss
from keras import ops

Tensor = Any
Weight = Annotated[float, Gt(0), Le(1e6)]

register = keras.saving.register_keras_serializable(package="attnunet")
"""Registers a class under a package name. Without it, Keras would silently load a saved `Dice` as its own class `Dice`."""


def binary_crossentropy(y: Tensor, z: Tensor) -> Tensor:
    """Return -(y log p + (1 - y) log(1 - p)) for each pixel, (B, H, W, 1), in [0, inf)."""
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=z)


def binary_focal(y: Tensor, z: Tensor, gamma: float, pos_weight: float = 1.0) -> Tensor:
    """Return -(w y (1 - p)^gamma log p + (1 - y) p^gamma log(1 - p)) for each pixel, (B, H, W, 1), in [0, inf).

    Let z_t = z for lesions, z_t = -z elsewhere, and p_t = sigmoid(z_t). The function computes (1 - p_t)^gamma as
    exp(gamma * log_sigmoid(-z_t)), whose gradient is finite for every gamma >= 0. The derivative of a plain power is
    gamma (1 - p_t)^(gamma - 1), which is infinite for gamma < 1 at pixels where p_t = 1.

    Source: Lin et al. 2017, arXiv 1708.02002, eq. 4.
    """
    signed = z * (2 * y - 1)
    weight = 1 + (pos_weight - 1) * y
    return weight * ops.exp(gamma * ops.log_sigmoid(-signed)) * -ops.log_sigmoid(signed)


def sums(y: Tensor, z: Tensor, per_image: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of true positives, false positives and false negatives: scalars, or (B,) if `per_image`."""
    axis = (1, 2, 3) if per_image else None
    p = ops.sigmoid(z)
    true_positive = ops.sum(y * p, axis=axis)
    return true_positive, ops.sum(p, axis=axis) - true_positive, ops.sum(y, axis=axis) - true_positive


def dice(y: Tensor, z: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Return 1 - (2 I + s) / (P + Y + s), in [0, 1): Milletari et al. 2016, arXiv 1606.04797, but without the squares."""
    return tversky(y, z, 0.5, 0.5, smooth / 2, per_image)


def jaccard(y: Tensor, z: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Return 1 - (I + s) / (P + Y - I + s), in [0, 1): the IoU loss of Rahman and Wang 2016 (ISVC), smoothed."""
    return tversky(y, z, 1.0, 1.0, smooth, per_image)


def tversky(
    y: Tensor, z: Tensor, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0, per_image: bool = False
) -> Tensor:
    """Return 1 - (I + s) / (I + alpha (P - I) + beta (Y - I) + s), in [0, 1).

    With beta > alpha, a missed lesion pixel costs more than a false positive. alpha = beta = 1/2 gives the Dice loss with
    the smoothing 2 s. alpha = beta = 1 gives the Jaccard loss.

    Source: Salehi et al. 2017, arXiv 1706.05721.
    """
    tp, fp, fn = sums(y, z, per_image)
    return 1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)


def focal_tversky(
    y: Tensor,
    z: Tensor,
    gamma: float = 0.75,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    per_image: bool = False,
) -> Tensor:
    """Return tversky ^ gamma, in [0, 1). With gamma < 1 the gradient stays large near the optimum.

    A Tversky loss below 1e-7 is raised to 1e-7, because for gamma < 1 the gradient at 0 is infinite.

    Source: Abraham and Khan 2019, arXiv 1810.07842. They found the exponent 3/4 best. They write it as
    1/gamma, with gamma = 4/3.
    """
    return ops.maximum(tversky(y, z, alpha, beta, smooth, per_image), 1e-7) ** gamma


def as_vector(loss: Tensor) -> Tensor:
    """Return a loss (B,) unchanged, and a scalar loss as (1,).

    Keras divides a loss by the number of devices only if the loss has an axis.
    """
    return ops.reshape(loss, (-1,))


class Loss(keras.losses.Loss):
    """A Keras loss whose get_config returns the arguments of its constructor."""

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name=name)
        self.arguments = arguments

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self.arguments}


@register
class BinaryCrossentropy(Loss):
    """The mean of `binary_crossentropy` over pixels."""

    def __init__(self, name: str = "bce") -> None:
        super().__init__(name)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return binary_crossentropy(y_true, y_pred)


@register
class BinaryFocal(Loss):
    """The mean of the binary focal loss over pixels.

    The package focal-loss computes it for gamma >= 1, and `binary_focal` computes it for gamma < 1. For gamma >= 1 the two
    agree. For gamma < 1 the package gives NaN gradients at confident pixels, because it takes a plain power of 1 - p_t.

    The weight is applied here, because the package's pos_weight gives a wrong gradient at a logit of exactly 0: magnitude 1
    for background and 0 for lesions, instead of 1/2 for both. An untrained network gives that logit at pixels without
    features.
    """

    def __init__(self, gamma: Annotated[float, Ge(0), Le(20)] = 2.0, pos_weight: Weight = 1.0, name: str = "focal") -> None:
        super().__init__(name, gamma=gamma, pos_weight=pos_weight)
        self.package = BinaryFocalLoss(gamma, from_logits=True) if gamma >= 1 else None

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if self.package is not None:
            weight = 1 + (self.arguments["pos_weight"] - 1) * y_true
            return weight * self.package.call(y_true, y_pred)
        return binary_focal(y_true, y_pred, **self.arguments)


@register
class Dice(Loss):
    """The loss `dice`."""

    def __init__(self, smooth: Weight = 1.0, per_image: bool = False, name: str = "dice") -> None:
        super().__init__(name, smooth=smooth, per_image=per_image)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return as_vector(dice(y_true, y_pred, **self.arguments))


@register
class Jaccard(Loss):
    """The loss `jaccard`."""

    def __init__(self, smooth: Weight = 1.0, per_image: bool = False, name: str = "jaccard") -> None:
        super().__init__(name, smooth=smooth, per_image=per_image)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return as_vector(jaccard(y_true, y_pred, **self.arguments))


@register
class Tversky(Loss):
    """The loss `tversky`."""

    def __init__(
        self,
        alpha: Weight = 0.3,
        beta: Weight = 0.7,
        smooth: Weight = 1.0,
        per_image: bool = False,
        name: str = "tversky",
    ) -> None:
        super().__init__(name, alpha=alpha, beta=beta, smooth=smooth, per_image=per_image)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return as_vector(tversky(y_true, y_pred, **self.arguments))


@register
class FocalTversky(Loss):
    """The loss `focal_tversky`."""

    def __init__(
        self,
        gamma: Annotated[float, Gt(0), Le(20)] = 0.75,
        alpha: Weight = 0.3,
        beta: Weight = 0.7,
        smooth: Weight = 1.0,
        per_image: bool = False,
        name: str = "focal_tversky",
    ) -> None:
        super().__init__(name, gamma=gamma, alpha=alpha, beta=beta, smooth=smooth, per_image=per_image)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return as_vector(focal_tversky(y_true, y_pred, **self.arguments))


@register
class WeightedSum(Loss):
    """The sum of `weights[name] * terms[name](y, z)` over all names. Every combination of losses uses this class.

    Raises:
        ValueError: `terms` and `weights` have different names, or `terms` is empty.
    """

    def __init__(
        self,
        terms: dict[str, keras.losses.Loss],
        weights: dict[str, Annotated[float, Ge(0), Le(1e6)]],
        name: str = "weighted_sum",
    ) -> None:
        if set(terms) != set(weights) or not terms:
            raise ValueError(f"loss.weights names {sorted(weights)}, loss.terms {sorted(terms)}: they must be the same")
        super().__init__(name)
        self.terms = dict(terms)
        self.weights = dict(weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return sum(self.weights[name] * term(y_true, y_pred) for name, term in self.terms.items())

    def get_config(self) -> dict[str, Any]:
        terms = {name: keras.saving.serialize_keras_object(term) for name, term in self.terms.items()}
        return {"name": self.name, "terms": terms, "weights": self.weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightedSum":
        terms = {name: keras.saving.deserialize_keras_object(term) for name, term in config["terms"].items()}
        return cls(terms, config["weights"], config["name"])


@register
class DeepSupervision(Loss):
    """The mean of a loss over the levels of a decoder, for logits (B, H, W, levels) and a reference (B, H, W, 1).

    Level k counts 2^-k times as much as level 0, the finest (as in nnU-Net, doi 10.1038/s41592-020-01008-z). For logits of the
    finest level alone, this is the loss itself.
    """

    def __init__(self, loss: keras.losses.Loss, name: str = "deep_supervision") -> None:
        super().__init__(name)
        self.loss = loss

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        levels = range(y_pred.shape[-1])
        total = sum(2**-level for level in levels)
        return sum(2**-level / total * self.loss(y_true, y_pred[..., level : level + 1]) for level in levels)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DeepSupervision":
        return cls(keras.saving.deserialize_keras_object(config["loss"]), config["name"])
