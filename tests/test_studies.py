"""The script that makes the tables of a study from its runs."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO, SMOKE, command

FILES = {"results.csv", "costs.csv", "pairs.csv", "patients.csv", "intervals.svg", "pairs.svg", "curves.svg"}


def report(folder: Path, output: str) -> dict[str, bytes]:
    """Return the files of the study, by name."""
    script = [sys.executable, str(REPO / "experiments" / "report.py"), "tried", "mlruns", output]
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
