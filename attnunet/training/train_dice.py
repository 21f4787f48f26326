"""The Dice score of the training batches."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="attnunet")
class TrainDice(keras.metrics.Metric):
    """The Dice score 2 tp / (2 tp + fp + fn) of all pixels of an epoch's batches together, at the threshold 0.5; NaN if empty.

    Each batch is predicted during its training step: with augmentation and dropout, and by the weights before the step. The
    logits are (B, H, W, levels). Only level 0, the finest, counts.
    """

    def __init__(self, name: str = "dice", **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.overlap, self.total = (
            self.add_variable((), initializer="zeros", dtype="int64", name=name) for name in ("overlap", "total")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        truth, prediction = y_true > 0, y_pred[..., :1] >= 0
        overlap, *sizes = (ops.count_nonzero(mask) for mask in (ops.logical_and(truth, prediction), truth, prediction))
        self.overlap.assign_add(ops.cast(overlap, "int64"))
        self.total.assign_add(ops.cast(sizes[0] + sizes[1], "int64"))

    def result(self) -> Any:
        return 2 * ops.cast(self.overlap, "float32") / ops.cast(self.total, "float32")
