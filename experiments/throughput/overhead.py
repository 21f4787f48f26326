"""Epochs of `attnunet.train` against the bare train step, both measured within one training, epoch by epoch.

A run on a phantom of which 1,080 slices train, 1,072 an epoch, with everything that a default run does. Before each
validation the bare step is measured on the same network's like; validation counts apart. The end of `fit` counts to the
last epoch.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from measure import REPEATS, Row, composed, hand_over, ratios, row, seconds

from attnunet.config import objects
from attnunet.train import train

PHANTOM = ("data.patients=76", "data.slices=20", "data.size=128", "split.val=0.15", "split.test=0.15", "augment=mri")
STEPS = 10


def measured(name: str, scratch: Path) -> dict[str, list[float]]:
    """Images a second of epochs, of the bare step, seconds of validations and of only predicting the same images."""
    cfg = composed(
        f"model={name}",
        f"study={name}",
        f"tracking.root={scratch}",
        f"epochs={1 + REPEATS}",
        "trainer.figures=false",
        *PHANTOM,
    )
    prepared, split = objects.prepare_data(cfg)
    size = cfg.batch_size
    images = len(split.train) // size * size
    assert images >= 1000, images
    from attnunet.training import callbacks, fit, runtime

    runtime.configure(cfg.seed, runtime.available_threads(cfg.trainer.threads), cfg.trainer.precision)
    bare = objects.make(cfg.model, "model")(cfg.image_size, len(prepared.channels))
    bare.compile(objects.make(cfg.optimizer, "optimizer")(1000), objects.make(cfg.loss, "loss")(), jit_compile=False)
    bare.optimizer.build(bare.trainable_variables)
    batch = prepared.images[:size], np.stack([prepared.mask(i)[..., None] for i in range(size)])
    bare.train_on_batch(*batch)
    predicted = prepared.images[list(split.val)]

    def steps() -> None:
        for _ in range(STEPS):
            bare.train_on_batch(*batch)

    def predict(network: Any) -> None:
        whole = len(predicted) // cfg.evaluation.batch_size * cfg.evaluation.batch_size
        for start in range(0, whole, cfg.evaluation.batch_size):
            network.predict_on_batch(predicted[start : start + cfg.evaluation.batch_size])

    seen: dict[str, list[float]] = {"epoch": [], "bare": [], "validation": [], "prediction": []}
    resumed = [0.0]
    validate, trained = callbacks.Validation.on_epoch_end, fit.fit

    def validation(self: Any, epoch: int, logs: Any = None) -> None:
        seen["epoch"].append(time.perf_counter() - resumed[0])
        seen["bare"].append(STEPS * size / seconds(steps))
        seen["validation"].append(seconds(lambda: validate(self, epoch, logs)))
        seen["prediction"].append(seconds(lambda: predict(self.predictor.network)))
        resumed[0] = time.perf_counter()

    def fitted(*arguments: Any, **named: Any) -> Any:
        result = trained(*arguments, **named)
        seen["epoch"].append(time.perf_counter() - resumed[0])
        return result

    with mock.patch.object(callbacks.Validation, "on_epoch_end", validation), mock.patch.object(fit, "fit", fitted):
        train(cfg, {"model": name, "loss": "focal_dice", "split": "patient"}, [], score_test=True)
    # The first epoch traces; what came after the last validation ends the last epoch.
    _, *epochs, end = seen["epoch"]
    epochs[-1] += end
    return {
        "epoch": [images / s for s in epochs],
        "bare": seen["bare"][1:],
        "validation": seen["validation"][1:],
        "prediction": seen["prediction"][1:],
    }


def main() -> list[Row]:
    rows = []
    for name in ("conv", "separable"):
        with tempfile.TemporaryDirectory() as scratch:
            seen = measured(name, Path(scratch))
        rows += [
            row("overhead", f"epochs of {name}", "images/s", seen["epoch"]),
            row("overhead", f"bare step, {name}", "images/s", seen["bare"]),
            row("overhead", f"epochs / bare step, {name}", "x", ratios(seen["epoch"], seen["bare"]), ">= 0.97"),
            row("overhead", f"validation / prediction alone, {name}", "x", ratios(seen["validation"], seen["prediction"])),
        ]
    return rows


if __name__ == "__main__":
    sys.argv[1] = str(Path(sys.argv[1]).resolve())
    hand_over(main())
