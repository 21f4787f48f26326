"""The script that makes the tables of a study from its runs."""

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPO, SMOKE, command

FILES = {"results.csv", "costs.csv", "pairs.csv", "patients.csv", "intervals.svg", "pairs.svg", "curves.svg"}


SCRIPT = REPO / "experiments" / "report.py"


def test_curves_of_epochs_of_different_lengths_have_a_mean() -> None:
    """Two epochs of 20 images and three of 16: the mean begins at 20 images and ends at 40."""
    mean_curve = runpy.run_path(str(SCRIPT))["mean_curve"]
    images, scores = mean_curve([(np.array([20, 40]), [0.2, 0.6]), (np.array([16, 32, 48]), [0.0, 0.4, 0.8])])
    np.testing.assert_array_equal(images, [20, 32, 40])
    np.testing.assert_allclose(scores, [(0.2 + 0.1) / 2, (0.44 + 0.4) / 2, (0.6 + 0.6) / 2])


def test_the_gap_of_a_leak_is_paired_by_seed() -> None:
    """Differences of 0.1 and 0.3: mean 0.2, standard error 0.1, and t(0.975) with one degree of freedom 12.706."""
    leak = runpy.run_path(str(REPO / "experiments" / "leak" / "leak.py"))
    scores = {("patient", 0): 0.5, ("slice", 0): 0.6, ("patient", 1): 0.4, ("slice", 1): 0.7}
    table = [
        {"test": where, "split": split, "seed": seed, "train_slices": 600, **dict.fromkeys(leak["SCORES"], score)}
        for where in leak["SETS"]
        for (split, seed), score in scores.items()
    ]
    rows = leak["gaps"](table)
    assert len(rows) == 6
    for row in rows:
        assert (row["apart"], row["mixed"], row["gap"]) == pytest.approx((0.45, 0.65, 0.2))
        assert (row["low"], row["high"]) == pytest.approx((0.2 - 1.2706, 0.2 + 1.2706), abs=1e-4)
    with pytest.raises(SystemExit, match="two seeds at least"):
        leak["gaps"](table[:-1])


def report(folder: Path, output: str) -> dict[str, bytes]:
    """Return the files of the study, by name."""
    script = [sys.executable, str(SCRIPT), "tried", "mlruns", output]
    made = subprocess.run(script, cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return {file.name: file.read_bytes() for file in (folder / output / "tried").iterdir()}


def rows(table: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(table.decode().splitlines()))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_is_reported_from_its_runs(tmp_path: Path, lgg_root: Path) -> None:
    folds = ("split=kfold", "split.folds=2", "split.fold=0,1", "budget_images=100", "study=tried")
    sweep = (
        "-m",
        *SMOKE,
        f"data.root={lgg_root}",
        *folds,
        "experiment=original,best",
        "model.filters=[4,8]",
        "model.depths=null",
    )
    trained = command(*sweep, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    made = report(tmp_path, "first")
    assert set(made) == FILES
    assert report(tmp_path, "second") == made

    results, costs, patients = (rows(made[name]) for name in ("results.csv", "costs.csv", "patients.csv"))
    assert {row["experiment"] for row in results} == {"original", "best"}
    assert len(patients) == 12
    for row in results:
        (column,) = (name for name in patients[0] if name.partition(" ")[2] and f"model={row['model']}" in name)
        scores = [float(patient[column]) for patient in patients]
        assert float(row["mean"]) == pytest.approx(sum(scores) / 12)
        assert int(row["patients"]) == 12
        assert int(row["images"]) == 96  # the whole epochs that come closest to 100
        assert float(row["iou"]) <= float(row["mean"])
    assert {row["experiment"]: row["runs"] for row in costs} == {"original": "2", "best": "2"}
    assert all(float(row["images_per_second"]) > 0 for row in costs)
