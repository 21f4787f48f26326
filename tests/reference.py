"""The reference run: 20 training steps on a phantom with everything seeded; prints each step's loss as JSON.

python -m tests.reference MODEL FOLDER     writes the phantom and its cache below FOLDER

A change of speed must leave these losses as they are; the committed ones are in test_reference.py.
"""

import json
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from attnunet import config
from attnunet.config import objects
from attnunet.training import runtime

STEPS = 20
NETWORK = ("image_size=64", "batch_size=8", "model.filters=[8,16,32]", "loss=focal_dice", "optimizer.learning_rate=0.003")
PHANTOM = (
    "data.intensity=zscore",
    "augment=mri",
    "data.patients=8",
    "data.slices=10",
    "data.size=64",
    "split.val=0.2",
    "split.test=0.2",
)


def losses(model: str, folder: Path) -> list[float]:
    overrides = [*NETWORK, *PHANTOM, f"model={model}", f"tracking.root={folder}"]
    with initialize_config_dir(config.CONF, version_base="1.3"):
        cfg = compose("train", overrides)
    prepared, split = objects.prepare_data(cfg)
    runtime.configure(cfg.seed, runtime.available_threads(cfg.trainer.threads), cfg.trainer.precision)
    from attnunet.data.batches import Draws, batches
    from attnunet.training.fit import as_tf_data

    draws = Draws(
        prepared,
        split.train,
        cfg.batch_size,
        cfg.seed,
        objects.make(cfg.sampler, "sampler"),
        objects.make(cfg.augment, "augment")(),
    )
    network = objects.make(cfg.model, "model")(cfg.image_size, len(prepared.channels))
    network.compile(objects.make(cfg.optimizer, "optimizer")(STEPS), objects.make(cfg.loss, "loss")(), jit_compile=False)
    dataset = as_tf_data(batches(draws, workers=0), draws)
    # An epoch a step: Keras reports the mean since the epoch began.
    return network.fit(dataset, epochs=STEPS, steps_per_epoch=1, shuffle=False, verbose=0).history["loss"]


if __name__ == "__main__":
    print(json.dumps(losses(sys.argv[1], Path(sys.argv[2]))))
