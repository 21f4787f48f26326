"""Ensembles of runs: whose patients choose the decision, whose are scored, and that files are predicted as they are scored."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from rich.console import Console

from attnunet import config, evaluate
from attnunet.data.images import read_image
from attnunet.data.slices import DataError
from attnunet.data.split import PARTS
from attnunet.evaluation import ensembles
from attnunet.evaluation.ensemble_scores import evaluate_ensemble, prepare_for_members
from attnunet.evaluation.scoring import load_predictor
from attnunet.inference.ensemble import Ensemble
from attnunet.metrics.decision import Case, Decision
from attnunet.tracking import records
from attnunet.tracking.models import Model, find_model
from attnunet.tracking.records import Record
from attnunet.tracking.store import Store
from tests.conftest import command

pytestmark = pytest.mark.slow  # on a run of their own


def swap(split: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    """The split after the first patients of the parts `a` and `b` changed places."""
    parts = {part: list(split[part]) for part in PARTS}
    parts[a][0], parts[b][0] = parts[b][0], parts[a][0]
    numbers = {patient: slices for part in PARTS for patient, slices in split["slices"][part].items()}
    return {**split, **parts, "slices": {part: {p: numbers[p] for p in parts[part]} for part in PARTS}}


def copy_run(record: Record, split: dict[str, Any], name: str) -> str:
    """A run with the files of another, but with its own split."""
    client = record.store.client
    run_id = str(client.create_run(record.run.info.experiment_id, run_name=name).info.run_id)
    for key, value in record.params.items():
        client.log_param(run_id, key, value)
    with record.file("checkpoints") as folder:
        client.log_artifacts(run_id, str(folder), "checkpoints")
    client.log_text(run_id, record.text("config.yaml"), "config.yaml")
    client.log_text(run_id, json.dumps(split), "split.json")
    client.set_terminated(run_id, "FINISHED")
    return run_id


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Store:
    _artifact_repos_cache.clear()  # where MLflow keeps a run's folder for the life of the process
    shutil.copytree(trained, tmp_path / "made")
    return Store(tmp_path / "made" / "mlruns", None, 0)


@pytest.fixture
def first(store: Store) -> Record:
    (run,) = records.runs_of_study(store, "tried")
    return run


def asked(store: Store, *overrides: str) -> Any:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        return compose("evaluate", [f"tracking.root={store.root}", *overrides])


def score(store: Store, model: Model, *overrides: str) -> str:
    """`attnunet.evaluate run=[...] OVERRIDES` in this process; -> what it prints."""
    out, cfg = StringIO(), asked(store, f"run={model.name}", *overrides)
    evaluate_ensemble(cfg, model, evaluate.settings(cfg), Console(file=out, width=200, soft_wrap=True))
    return out.getvalue()


def test_each_validation_patient_is_predicted_by_the_members_that_validated_on_it(
    store: Store, first: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy_run(first, swap(first.split, "train", "val"), "other")
    model = find_model(store, [first.id, other])
    one, two = predictors = load_predictor(first), load_predictor(first).adjusted(flip=True)
    given: list[Case] = []
    plain = ensembles.decide
    monkeypatch.setattr(ensembles, "decide", lambda cases, *grid: given.extend(cases) or plain(cases, *grid))
    decision = ensembles.choose_decision(model, predictors)
    assert decision.threshold in first.config.evaluation.thresholds

    (prepared, _) = prepare_for_members(None, model.records, Ensemble(predictors, Decision()))
    ours, theirs = first.split["val"], model.records[1].split["val"]
    assert len(set(ours) & set(theirs)) == len(ours) - 1
    assert {case.patient for case in given} == {f"{first.content}/{patient}" for patient in {*ours, *theirs}}
    for case in given:
        patient = case.patient.partition("/")[2]
        members = [member for member, patients in ((one, ours), (two, theirs)) if patient in patients]
        maps = [next(member.volumes(prepared, prepared.patients[patient])).probabilities for member in members]
        np.testing.assert_allclose(case.probabilities, np.mean(maps, axis=0), atol=1e-6)


def test_an_ensemble_is_scored_on_the_test_patients_that_no_member_knows(store: Store, first: Record) -> None:
    other = copy_run(first, swap(first.split, "train", "test"), "other")
    model = find_model(store, "study:tried")
    assert [record.id for record in model.records] == [first.id, other]
    said = score(store, model, "flip=true", "name=both")
    assert "this test split has now been scored" in said
    (logged,) = store.runs(store.study("tried"), "tags.ensemble LIKE '%'")
    assert logged.data.tags["ensemble"] == f"{first.id} {other}"
    assert logged.info.run_name == "both"
    assert logged.data.params["model"] == "ensemble of 2"
    rows = Record(store, logged).patients("test")
    assert {row["patient"] for row in rows} == set(first.split["test"][1:])
    assert 0 <= logged.data.metrics["final/test/dice"] <= 1
    # It is no member of its study's ensemble, and no row of a comparison.
    assert [record.id for record in find_model(store, "study:tried").records] == [first.id, other]


@pytest.mark.ci
def test_a_prediction_of_files_is_what_is_scored(store: Store, first: Record, lgg_root: Path) -> None:
    model = find_model(store, [first.id, copy_run(first, first.split, "other")])
    settings = {"flip": True, "threshold": 0.4, "smallest_lesion": 3, "fill_holes": True}
    score(store, model, *(f"{key}={value}" for key, value in settings.items()))
    (logged,) = store.runs(store.study("tried"), "tags.ensemble LIKE '%'")
    rows = {row["patient"]: row for row in Record(store, logged).patients("test")}
    ensemble = ensembles.load_model(model, **settings)  # type: ignore[arg-type]
    assert ensemble.decision == Decision(0.4, 3, True)
    volumes = [
        np.stack([read_image(str(lgg_root / patient / f"{patient}_{number}.tif"), 3) for number in range(1, 7)])
        for patient in rows
    ]
    for found, row in zip(ensemble.predict((volume, None) for volume in volumes), rows.values(), strict=True):
        assert not isinstance(found, Exception)
        assert found.mask.sum() == float(row["tp"]) + float(row["fp"])


def test_patients_that_a_member_knows_are_refused_by_name(store: Store, first: Record, tmp_path: Path) -> None:
    model = find_model(store, [first.id, copy_run(first, first.split, "other")])
    settings = ("threshold=0.5", "smallest_lesion=0", "fill_holes=false")
    patient = first.split["val"][0]
    with pytest.raises(DataError, match=rf"^{patient}: validated on by {first.id}, \w+; an ensemble is scored only on"):
        score(store, model, "part=val", *settings)
    turned = {"train": first.split["test"], "val": first.split["val"], "test": first.split["train"]}
    (tmp_path / "split.yaml").write_text(json.dumps(turned))
    with pytest.raises(DataError, match=rf"^{first.split['train'][0]}: trained on by {first.id}, \w+; an ensemble"):
        score(store, model, "split=manifest", f"split.file={tmp_path / 'split.yaml'}", *settings)
    assert not store.runs(store.study("tried"), "tags.ensemble LIKE '%'")


def test_data_that_are_gone_leave_the_decision_to_the_command(store: Store, first: Record) -> None:
    away = copy_run(first, first.split, "away")
    text = first.text("config.yaml").replace(str(first.config.data.root), "/nowhere")
    store.client.log_text(away, text, "config.yaml")
    model = find_model(store, [first.id, away])
    with pytest.raises(DataError, match=r"(?s)/nowhere.*without the data of run \w+, give threshold, smallest_les"):
        ensembles.load_model(model)
    ensemble = ensembles.load_model(model, threshold=0.5, smallest_lesion=0, fill_holes=False)
    assert ensemble.decision == Decision()


def test_the_command_refuses_folds_before_tensorflow_is_loaded(store: Store, first: Record) -> None:
    other = copy_run(first, {**first.split, "test": first.split["train"], "train": first.split["test"]}, "other")
    result = command(f"run=[{first.id},{other}]", cwd=store.root.parent, python=("-X", "importtime"), name="evaluate")
    assert result.returncode == 1
    (*imports,) = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    assert all(line.split()[-1] != "tensorflow" for line in imports)
    assert "an ensemble is scored only on patients that no member knows" in result.stderr
