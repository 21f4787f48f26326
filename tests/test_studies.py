"""The script that makes the tables of a study from its runs."""

import csv
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import REPO, SMOKE, command

FILES = {"results.csv", "costs.csv", "pairs.csv", "patients.csv", "intervals.svg", "pairs.svg", "curves.svg"}


SCRIPT = REPO / "experiments" / "report.py"


STUDIES = {"batch_size", "conv_type", "image_size", "locked", "loss_mix", "parts", "recipe", "seeds"}
"""The studies whose tables report.py makes."""


@pytest.mark.parametrize("study", sorted(STUDIES))
def test_the_table_of_a_study_is_that_of_its_results(study: str) -> None:
    folder = REPO / "experiments" / study
    lines = (folder / "README.md").read_text().splitlines()
    results = rows((folder / "results.csv").read_bytes())
    assert results
    for row in results:
        mean, low, high, median, iou = (f"{float(row[key]):.3f}" for key in ("mean", "low", "high", "median", "iou"))
        (line,) = (line for line in lines if f"| {mean} | {low} to {high} | {median} | {iou} |" in line)
        names = [row["experiment"]] if "experiment" in row else [*row.values()][: list(row).index("images")]
        assert all(name in line for name in names)


def test_every_study_with_such_results_is_checked() -> None:
    made = {file.parent.name for file in REPO.glob("experiments/*/results.csv") if "iou" in file.read_text().split("\n")[0]}
    assert made == STUDIES


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
    with pytest.raises(SystemExit, match="a seed has two"):
        leak["gaps"]([*table, table[0]])


def test_the_floor_of_two_seeds_by_hand() -> None:
    """Means 0.5 and 0.7: s = 0.2 / sqrt(2), so t sqrt(2) s = 12.706 x 0.2. Each patient's variance over seeds is 0.02."""
    seeds = runpy.run_path(str(REPO / "experiments" / "seeds" / "seeds.py"))
    scores = np.linspace(0.3, 0.7, 12)
    found = seeds["find_floor"]({"0": scores, "1": scores + 0.2})
    assert (found.mean, found.sd, found.range) == pytest.approx((0.6, 0.2 / 2**0.5, 0.2))
    assert found.floor == pytest.approx(12.706 * 0.2, abs=1e-4)
    assert (found.patient_sd, found.independent_sd) == pytest.approx((0.02**0.5, (0.02 / 12) ** 0.5))
    assert (found.different, found.equivalent, found.undecided) == (1, 0, 0)
    same = seeds["find_floor"]({"0": scores, "1": scores, "2": scores + 0.001})
    assert (same.different, same.equivalent, same.undecided) == (0, 3, 0)
    with pytest.raises(SystemExit, match="two seeds at least; found seed 4 alone"):
        seeds["find_floor"]({"4": scores})


def test_each_seed_must_test_all_patients() -> None:
    dice_of_seeds = runpy.run_path(str(REPO / "experiments" / "seeds" / "seeds.py"))["dice_of_seeds"]

    def row(**seeds: dict[str, float]) -> SimpleNamespace:
        by_seed = {name.removeprefix("s"): scores for name, scores in seeds.items()}
        return SimpleNamespace(by_seed=lambda part: by_seed, scores=lambda part: dict.fromkeys("abc", 0.5))

    found = dice_of_seeds(row(s10={"a": 0.5, "b": 0.4, "c": 0.3}, s2={"a": 0.6, "b": 0.1, "c": 0.2}))
    assert [(seed, scores.tolist()) for seed, scores in found.items()] == [("2", [0.6, 0.1, 0.2]), ("10", [0.5, 0.4, 0.3])]
    with pytest.raises(SystemExit, match="seed 7 tests 2 of 3 patients"):
        dice_of_seeds(row(s7={"a": 0.5, "b": 0.5}))


def run_script(folder: Path, script: Path, *arguments: str) -> None:
    made = subprocess.run([sys.executable, str(script), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


def report(folder: Path, output: str, study: str = "tried") -> dict[str, bytes]:
    """Return the files of the study, by name."""
    run_script(folder, SCRIPT, study, "mlruns", output)
    return {file.name: file.read_bytes() for file in (folder / output / study).iterdir()}


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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_seeds_of_one_recipe_are_reported(tmp_path: Path, lgg_root: Path) -> None:
    folds = ("split.folds=2", "split.fold=0,1", "budget_images=32", "seed=0,1,2")
    small = ("experiment=seeds", "model.filters=[4,8]", "model.depths=null", "trainer.precision=float32")
    trained = command("-m", *SMOKE, f"data.root={lgg_root}", *small, *folds, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    made = report(tmp_path, "first", "seeds")
    assert set(made) == FILES - {"pairs.csv", "pairs.svg"}
    run_script(tmp_path, REPO / "experiments" / "seeds" / "seeds.py", "mlruns", "second")
    assert {file.name for file in (tmp_path / "second").iterdir()} == {"seeds.csv", "floor.csv", "seeds.svg"}
    (row,), seeds = rows(made["results.csv"]), rows((tmp_path / "second" / "seeds.csv").read_bytes())
    (floor,) = rows((tmp_path / "second" / "floor.csv").read_bytes())
    assert [seed["seed"] for seed in seeds] == ["0", "1", "2"]
    assert {seed["patients"] for seed in seeds} == {row["patients"], floor["patients"], "12"}
    assert float(row["mean"]) == pytest.approx(float(floor["mean"]))
    assert float(row["spread"]) == pytest.approx(float(floor["sd"]))
    assert sum(int(floor[verdict]) for verdict in ("different", "equivalent", "undecided")) == 3
