"""Folds joined: each patient once, each recipe apart, and nothing joined that is not whole."""

import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from attnunet.data.files import read_csv, write_csv
from attnunet.evaluation import joining
from attnunet.evaluation.summary import print_stored
from attnunet.metrics.statistics import mean_interval
from attnunet.tracking import records
from attnunet.tracking.records import Record
from attnunet.tracking.store import Store, local_path
from tests.conftest import SMOKE, command

COLUMNS = "part,site,missing,patient,slices,lesion_slices,dice,iou,sensitivity,precision,tp,fp,fn,tn,hd95,assd,hd95_worst,"
COLUMNS += "assd_worst,surface_dice,unmatched_slices,lesions,lesions_found,lesions_false,lesion_recall,lesion_precision,"
COLUMNS += "lesion_f1"
SLICES = {"a": "2,1", "b": "4,3", "c": "1,0", "d": "2,2"}  # of them, with lesion
PATIENTS = {"a": (1, 1, 0), "b": (3, 0, 2), "c": (0, 0, 0), "d": (4, 0, 0)}  # tp, fp, fn
DICE = {"a": 2 / 3, "b": 0.75, "d": 1.0}  # c has nothing, and nothing was found
RATES = {"a": "0.5,1.0,0.5", "b": "0.6,0.6,1.0", "d": "1.0,1.0,1.0"}  # IoU, sensitivity, precision


def fold(store: Store, number: int, tested: str, everyone: str = "abcd", content: str = "data", **params: Any) -> str:
    """A finished run that tested some patients."""
    study, client = store.study("folds"), store.client
    run_id = client.create_run(study, run_name="small-kfold").info.run_id
    given = {"split": "kfold", "split.folds": "2", "split.fold": str(number), "seed": "0", "study": "folds", **params}
    for name, value in given.items():
        client.log_param(run_id, name, value)
    lesionless = all(PATIENTS[p][0] + PATIENTS[p][2] == 0 for p in tested)
    rest = [p for p in everyone if p not in tested]
    split = {"fingerprint": f"{content}/images", "train": rest[1:], "val": rest[:1], "test": list(tested)}
    client.log_text(run_id, json.dumps(split), "split.json")
    client.log_text(run_id, "evaluation:\n  resamples: 999\n", "config.yaml")
    rows = [f"val,x,,{rest[0]},2,1,0.1,0.1,0.1,0.1,1,9,9,9,nan,nan,30.0,30.0,nan,0,3,2,1,nan,nan,nan"]
    for patient in tested:
        tp, fp, fn = PATIENTS[patient]
        worst = "20.0,10.0" if patient == "a" else "2.0,1.0"
        overlaps = f"{DICE.get(patient, 'nan')},{RATES.get(patient, 'nan,nan,nan')}"
        scores = f"{overlaps},{tp},{fp},{fn},10,2.0,1.0,{worst},0.5,1,3,2,1,nan,nan,0.25"
        rows.append(f"test,x,,{patient},{SLICES[patient]},{scores}")
    client.log_text(run_id, "\n".join([COLUMNS, *rows]), "patients.csv")
    client.log_metric(run_id, "final/test/dice", 0.5)
    for name in ("dice", "iou"):
        client.log_metric(run_id, f"final/test/{name}_slice_lesion", math.nan if lesionless else 0.4 + 0.2 * number)
        client.log_metric(run_id, f"final/test/{name}_slice_empty_one", 0.5 + 0.25 * number)
        client.log_metric(run_id, f"final/test/{name}_all_background", 0.25 * number)
    client.set_terminated(run_id, "FINISHED")
    return str(run_id)


def join(store: Store) -> str:
    """`attnunet.evaluate study=folds` in this process; -> what it prints."""
    out = StringIO()
    console = Console(file=out, width=200, soft_wrap=True, markup=False)
    cfg = OmegaConf.create({"study": "folds", "tracking": {"root": str(store.root)}})
    joining.join_studies(cfg, store, records.runs_of_study(store, cfg.study), console)
    return out.getvalue()


def joined(store: Store) -> list[Record]:
    runs = records.search_runs(store, records.list_studies(store), "tags.cross_validated LIKE '%'")
    return [Record(store, run) for run in runs]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "mlruns", None, 0)


def test_folds_that_an_earlier_version_scored_are_joined_without_what_they_lack(store: Store) -> None:
    fold(store, 0, "ac")
    path = Path(local_path(store.client.get_run(fold(store, 1, "bd")).info.artifact_uri)) / "patients.csv"
    columns = ("hd95_worst", "assd_worst")
    path.write_text(write_csv({k: v for k, v in row.items() if k not in columns} for row in read_csv(path.read_text())))
    join(store)
    (result,) = joined(store)
    assert result.metrics["final/test/hd95"] == 2
    assert "hd95_worst" not in result.summary("test")


def test_folds_become_one_result_over_all_patients(store: Store) -> None:
    second, first = fold(store, 1, "bd"), fold(store, 0, "ac")
    said = join(store)
    (result,) = joined(store)
    assert result.name == "cross-validated small-kfold"
    assert result.status == "FINISHED"
    assert result.tags["cross_validated"] == f"{first} {second}"
    assert result.params["seed"] == "0"
    assert "split.fold" not in result.params
    low, high = mean_interval(np.array([DICE[p] for p in "abd"]), 999)
    expected = {
        "dice": sum(DICE.values()) / 3,
        "dice_patients": 3,
        "dice_median": 0.75,
        "dice_ci_low": low,
        "dice_ci_high": high,
        "dice_pooled": 16 / (16 + 1 + 2),
        "iou_pooled": 8 / 11,
        "iou_median": 0.6,
        "sensitivity": (1 + 3 / 5 + 1) / 3,
        "precision": (1 / 2 + 1 + 1) / 3,
        "hd95": 2.0,
        "hd95_worst": (20 + 3 * 2) / 4,
        "assd_worst": (10 + 3 * 1) / 4,
        "lesion_f1": 0.25,
        "unmatched_slices": 1,
        "lesions": 3,
        "lesions_false": 1,
        # Fold 0 has 3 slices, 1 with lesion; fold 1 has 6, 5 with lesion.
        "dice_slice_lesion": (1 * 0.4 + 5 * 0.6) / 6,
        "dice_slice_empty_one": (3 * 0.5 + 6 * 0.75) / 9,
        "dice_all_background": (3 * 0 + 6 * 0.25) / 9,
        "iou_slice_lesion": (1 * 0.4 + 5 * 0.6) / 6,
    }
    summary = result.summary("test")
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    assert result.metrics["final/test/dice_slice_lesion"] == summary["dice_slice_lesion"]
    assert "final/test/iou_slice_lesion" not in result.metrics
    rows = result.patients("test")
    assert [(row["patient"], row["fold"], row["run"]) for row in rows] == [
        ("a", "0", first),
        ("b", "1", second),
        ("c", "0", first),
        ("d", "1", second),
    ]
    assert f"{expected['dice']:.3f}" in said
    assert f"{low:.3f} to {high:.3f}" in said
    assert {row["part"] for row in result.rows("strata.csv")} == {"test"}
    out = StringIO()
    print_stored(Console(file=out, width=100), result)
    assert "test (3 patients)" in out.getvalue()
    assert f"{expected['dice']:.3f}" in out.getvalue()


def test_a_fold_without_a_lesion_has_no_share_in_the_mean_over_slices_with_lesion(store: Store) -> None:
    fold(store, 0, "c"), fold(store, 1, "abd")
    join(store)
    (result,) = joined(store)
    assert result.metrics["final/test/dice_slice_lesion"] == pytest.approx(0.6)
    assert result.metrics["final/test/dice_all_background"] == pytest.approx(8 * 0.25 / 9)


def test_a_joined_result_is_no_run_to_compare_or_join_again(store: Store) -> None:
    fold(store, 0, "ac"), fold(store, 1, "bd")
    join(store)
    assert [record.name for record in records.runs_of_study(store, "folds")] == ["small-kfold", "small-kfold"]


def test_seeds_and_recipes_stay_apart_and_what_cannot_change_a_result_does_not_part_them(store: Store) -> None:
    for seed in "01":
        fold(store, 0, "ac", seed=seed, **{"tracking.root": "here"})
        fold(store, 1, "bd", seed=seed, **{"tracking.root": "there"})
    join(store)
    assert [result.params["seed"] for result in joined(store)] == ["0", "1"]


def test_a_missing_fold_is_named(store: Store) -> None:
    fold(store, 1, "bd")
    with pytest.raises(records.RunError, match="cross-validated small-kfold: no finished run of fold 0 of 2"):
        join(store)
    assert not joined(store)


def test_a_patient_tested_twice_is_named_with_the_runs(store: Store) -> None:
    runs = [fold(store, 0, "ac"), fold(store, 1, "bd"), fold(store, 1, "bd")]
    with pytest.raises(records.RunError) as refused:
        join(store)
    assert f"b is tested by more than one run: {runs[1]} (fold 1), {runs[2]} (fold 1)" in str(refused.value)
    assert " d is tested by more than one run" in str(refused.value)
    assert not joined(store)


def test_folds_of_different_data_are_refused(store: Store) -> None:
    fold(store, 0, "ac"), fold(store, 1, "b", everyone="abc"), fold(store, 1, "d", everyone="cd", seed="1")
    fold(store, 0, "a", everyone="abcd", seed="1")
    with pytest.raises(records.RunError) as refused:
        join(store)
    lines = str(refused.value).splitlines()
    assert lines == [
        f"cross-validated small-kfold: no fold tests {who}; the folds were made with different data" for who in ("d", "b, c")
    ]


def test_folds_of_different_code_are_not_joined(store: Store) -> None:
    for number, tested in enumerate(("ac", "bd")):
        store.client.set_tag(fold(store, number, tested), "code", f"version {number}")
    with pytest.raises(records.RunError, match="no finished run of fold 1 of 2"):
        join(store)
    assert joined(store) == []
    store.client.set_tag(fold(store, 0, "ac"), "code", "version 1")  # trained again
    with pytest.raises(records.RunError, match="no finished run of fold 1 of 2"):
        join(store)
    store.client.set_tag(fold(store, 1, "bd"), "code", "version 0")
    join(store)
    assert len(joined(store)) == 2


def test_folds_of_other_files_with_patients_of_the_same_names_are_refused(store: Store) -> None:
    first, second = fold(store, 0, "ac"), fold(store, 1, "bd", content="changed")
    with pytest.raises(records.RunError, match=f"different data: fold 0 with data .{first}., fold 1 with changed .{second}."):
        join(store)


def test_a_study_without_folds_is_refused(store: Store) -> None:
    store.client.create_run(store.study("folds"))
    with pytest.raises(records.RunError, match="no finished runs of a split into folds"):
        join(store)


@pytest.mark.slow
@pytest.mark.ci
def test_a_sweep_over_folds_is_joined_by_the_command(lgg_root: Path, tmp_path: Path) -> None:
    kfold = ("split=kfold", "split.folds=2", "split.fold=0,1")
    swept = command("-m", *SMOKE, f"data.root={lgg_root}", "study=folds", *kfold, cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    result = command("study=folds", cwd=tmp_path, name="evaluate")
    assert result.returncode == 0, result.stderr
    assert "test (12 patients)" in result.stdout
    assert "this test split has now been scored once" in result.stdout
    (found,) = joined(Store(tmp_path / "mlruns", None, 0))
    assert {row["patient"] for row in found.patients("test")} == {path.name for path in lgg_root.iterdir()}


def test_the_decision_of_all_folds_is_the_best_over_their_validation_patients(store: Store) -> None:
    """Fold 0 has one validation patient and fold 1 three: 0.7 is best in the mean, (0.2 + 3 * 0.8) / 4, and so is filling."""
    header = "step,threshold,smallest_lesion,fill_holes,dice,patients,chosen\n"
    tables = (
        "1,0.3,0,0,0.9,1,0\n1,0.7,0,0,0.2,1,0\n2,0.3,0,0,0.9,1,1\n2,0.3,0,1,0.8,1,0\n2,0.3,10,0,nan,0,0\n",
        "1,0.3,0,0,0.4,3,0\n1,0.7,0,0,0.8,3,0\n2,0.7,0,0,0.8,3,0\n2,0.7,0,1,0.9,3,1\n2,0.7,10,0,0.1,3,0\n",
    )
    for number, (tested, table) in enumerate(zip(("ac", "bd"), tables, strict=True)):
        store.client.log_text(fold(store, number, tested), header + table, "decision.csv")
    keys = "evaluation.thresholds=[0.7] evaluation.smallest_lesions=[0] evaluation.fill_holes=[true]"
    assert f"the best decision over the folds' validation patients: {keys}" in join(store)
