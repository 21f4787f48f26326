"""A split in which nobody validates, the mean of the last epochs, and images that grow during a run."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from attnunet.data.files import read_csv
from attnunet.inference.predictor import load_network
from attnunet.models.attention_resunet import attention_resunet
from attnunet.models.blocks import gate_maps, prediction
from attnunet.training.build import take_sizes
from attnunet.training.state import read_mean_weights
from tests.conftest import command
from tests.test_train import start, weights

UNVALIDATED = (
    "split.val=0",
    "monitor=train/loss",
    "trainer.mean_of_last=2",
    "evaluation.thresholds=[0.4]",
    "evaluation.smallest_lesions=[10]",
    "evaluation.fill_holes=[true]",
)


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_a_network_for_any_size_shares_the_variables_and_the_results(deep_supervision: bool) -> None:
    network = attention_resunet(32, 3, [2, 4], keras.layers.Conv2D, dropout=0.1, deep_supervision=deep_supervision)
    free = take_sizes(network, None)
    fixed = take_sizes(keras.Model(free.input, prediction(free), name=network.name), 32)
    assert [id(variable) for variable in free.variables] == [id(variable) for variable in network.variables]
    assert (free.input.shape, fixed.input.shape) == ((None, None, None, 3), (None, 32, 32, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    logits = np.asarray(network(images))
    np.testing.assert_array_equal(np.asarray(free(images)), logits)
    np.testing.assert_array_equal(np.asarray(fixed(images)), logits[..., :1])
    assert gate_maps(fixed).predict_on_batch(images)["gate_0_map"].shape == (2, 32, 32, 1)

    free.compile(keras.optimizers.SGD(0.1), keras.losses.MeanSquaredError())
    for size in (16, 32):  # one traced step takes both sizes
        free.train_on_batch(images[:, :size, :size], np.zeros((2, size, size, logits.shape[3])))
    assert np.abs(np.asarray(fixed(images)) - logits[..., :1]).max() > 0


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("monitor", "split: nobody validates, but monitor=val/dice, allowed: monitor=train/loss"),
        ("trainer.mean_of_last", "split: nobody validates, but trainer.mean_of_last=null, allowed: a number of epochs"),
        ("evaluation.thresholds", "split: nobody validates, but evaluation.thresholds with several values, allowed: one"),
    ],
)
def test_settings_that_need_validation_patients_are_refused(
    left_out: str, message: str, lgg_root: Path, tmp_path: Path
) -> None:
    given = [override for override in UNVALIDATED if not override.startswith(left_out)]
    found = command("data=lgg", f"data.root={lgg_root}", "trainer=smoke", *given, cwd=tmp_path)
    assert found.returncode == 1
    assert message in found.stderr
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


@pytest.mark.slow
def test_a_run_on_all_patients_keeps_the_mean_of_the_last_epochs(lgg_root: Path, tmp_path: Path) -> None:
    """Three epochs at 16, 32 and 32 pixels. The scores of the test are those of the decision that the command gave."""
    run = start(tmp_path, lgg_root, *UNVALIDATED, "epochs=3", "first_sizes=[16]", "trainer.keep=all")
    assert run.result.returncode == 0, run.result.stderr
    split = json.loads(run.artifact("split.json").read_text())
    assert split["val"] == []
    rows = read_csv(run.artifact("patients.csv").read_text())
    assert {row["patient"] for row in rows} == set(split["test"])
    assert {(row["threshold"], row["smallest_lesion"], row["fill_holes"]) for row in rows} == {("0.4", "10", "1")}
    metrics = run.run.data.metrics
    assert metrics["final/monitor"] == metrics["train/loss"]
    assert not [name for name in metrics if name.startswith(("val/", "final/val/"))]

    kept = load_network(run.artifact("checkpoints/best.keras"))
    assert kept.input.shape == (None, 32, 32, 3)
    last = weights(run.artifact("checkpoints/last.keras"))
    assert any(not np.array_equal(a, b) for a, b in zip(kept.get_weights(), last, strict=True))

    refused = command("study=default", name="compare", cwd=tmp_path)
    assert refused.returncode == 1
    assert "has no validation patients; test=true compares the test patients" in " ".join(refused.stderr.split())
    compared = command("study=default", "test=true", name="compare", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    assert "Nobody validated row 1" in " ".join(compared.stdout.split())


def test_the_mean_is_taken_in_float64_and_keeps_the_type(tmp_path: Path) -> None:
    """In float32, 1 + 2 ** -24 is 1; the mean of 1, 1 and 1 + 2 ** -22 would lose its last bit."""
    values = (1, 1, 1 + 3 * 2**-23)
    files = [tmp_path / f"{place}.npz" for place in range(3)]
    for file, value in zip(files, values, strict=True):
        np.savez(file, np.array([value], np.float32))
    ((mean,),) = read_mean_weights(files)
    assert mean == np.float32(1 + 2**-23)
