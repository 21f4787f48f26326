"""Training on two devices at once: two logical CPUs, in a process of their own since TensorFlow makes them once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPO


def losses(folder: Path) -> dict[str, list[float]]:
    """Of three steps: on one device, on two, and on two with an interruption after the second step."""
    import keras
    import tensorflow as tf

    from attnunet.losses import BinaryFocal, Dice, WeightedSum
    from attnunet.models.attention_resunet import attention_resunet
    from attnunet.training import build, runtime
    from attnunet.training.schedules import adam
    from attnunet.training.state import State

    runtime.configure(0, 2, "float32")
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    half = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    images = np.concatenate([half, half])  # so that both devices normalise by what one would have
    masks = (images[..., :1] > 200).astype(np.uint8)

    def trained(strategy: str | None, *steps: int) -> list[float]:
        seen: list[float] = []
        for count in steps:
            keras.utils.set_random_seed(0)
            with build.strategy_scope(strategy):
                network = attention_resunet(16, 3, [4, 8], keras.layers.Conv2D)
                loss = WeightedSum({"focal": BinaryFocal(), "dice": Dice(smooth=1e-3)}, {"focal": 1.0, "dice": 1.0})
                network.compile(adam(10, 0.01), loss, jit_compile=False)
                network.optimizer.build(network.trainable_variables)
            state = State(folder / f"{strategy}{steps}.npz", network)
            state.load()
            data = tf.data.Dataset.from_tensors((images, masks)).repeat()
            seen += network.fit(data, epochs=count, steps_per_epoch=1, shuffle=False, verbose=0).history["loss"]
            np.savez(folder / "best.npz", *network.get_weights())
            state.save([], [folder / "best.npz"])
        return seen

    return {
        "one": trained(None, 3),
        "two": trained("mirrored", 3),
        "interrupted": trained("mirrored", 2, 1),
        "moving mean": moving_mean(np.repeat(np.float32([10, 0]), 4)),
    }


def moving_mean(samples: np.ndarray) -> list[float]:
    """Of batch normalisation, from 0 with momentum 1/2, after a step on these samples on two devices."""
    import keras
    import tensorflow as tf

    from attnunet.models.normalization import FusedBatchNormalization
    from attnunet.training import build

    with build.strategy_scope("mirrored"):
        network = keras.Sequential([keras.Input((2, 2, 1)), FusedBatchNormalization(momentum=0.5)])
        network.compile("sgd", "mse", jit_compile=False)
        network.optimizer.build(network.trainable_variables)
    images = np.tile(samples[:, None, None, None], (1, 2, 2, 1))
    data = tf.data.Dataset.from_tensors((images, images)).repeat()
    network.fit(data, epochs=1, steps_per_epoch=1, shuffle=False, verbose=0)
    return network.layers[0].moving_mean.numpy().tolist()


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.test_strategy", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(seen["two"], seen["one"], rtol=1e-4)
    assert seen["interrupted"] == seen["two"]
    assert seen["one"][2] < seen["one"][0]
    assert seen["moving mean"] == [2.5]  # of all samples, not of one device's


def test_every_device_gets_its_share_of_the_lesions() -> None:
    from attnunet.training.fit import deal

    batch = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    ((images, masks),) = deal(iter([(batch, batch)]), devices=2)
    assert images.tolist() == masks.tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    ((images, _),) = deal(iter([(np.arange(5), np.arange(5))]), devices=2)
    assert images.tolist() == [0, 2, 4, 1, 3]


if __name__ == "__main__":
    print(json.dumps(losses(Path(sys.argv[1]))))
