"""The models that the key `run` names: each form, and what is said where there is no such model."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
from omegaconf import OmegaConf

from attnunet.config.checks import find_errors
from attnunet.config.schema import Predict
from attnunet.config.targets import TargetError
from attnunet.data.slices import DataError
from attnunet.errors import UserError
from attnunet.tracking import records
from attnunet.tracking.models import Model, check_scorable, find_model
from attnunet.tracking.records import NotFound
from attnunet.tracking.store import Store

PREPARATION = {"image_size": 16, "file_channels": ["a", "b"], "channels": ["a"], "intensity": "raw", "plane": "axial"}


def facts(**changed: object) -> str:
    decision = {"threshold": 0.5, "smallest_lesion": 0, "fill_holes": False}
    told = {"preparation": PREPARATION, "decision": decision, "flip": False, "batch_size": 4, "modules": []}
    return json.dumps({**told, **changed})


def log_run(store: Store, study: str, name: str, text: str | None = None, status: str = "FINISHED") -> str:
    """A run with the files of a predictor, or without any."""
    run_id = str(store.client.create_run(store.study(study), run_name=name).info.run_id)
    if text is not None:
        store.client.log_text(run_id, text, "checkpoints/predictor.json")
        store.client.log_text(run_id, "weights", "checkpoints/best.keras")
    store.client.set_terminated(run_id, status)
    return run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("models") / "mlruns", None, patience=0)


@pytest.fixture(scope="module")
def ids(store: Store) -> dict[str, str]:
    """Runs of the study "named", of which two can be used, and one run each in other studies."""
    found = {name: log_run(store, "named", name, facts()) for name in ("one", "two")}
    found["lost"] = log_run(store, "named", "lost")
    found["killed"] = log_run(store, "named", "killed", facts(), "KILLED")
    found["older"] = log_run(store, "named", "older", facts())
    store.supersede([found["older"]], by=found["one"])
    found["other"] = log_run(store, "others", "other", facts(preparation={**PREPARATION, "file_channels": ["a"]}))
    found["modules"] = log_run(store, "others", "modules", facts(modules=["mine"]))
    found["foreign"] = log_run(store, "others", "foreign", json.dumps({"classes": 10}))
    found["empty"] = log_run(store, "empty", "empty")
    return found


def found_ids(model: Model) -> list[str]:
    return [record.id for record in model.records]


def test_a_run_is_named_by_its_id_or_its_first_digits(store: Store, ids: dict[str, str]) -> None:
    assert found_ids(find_model(store, ids["one"])) == [ids["one"]]
    assert found_ids(find_model(store, ids["one"][:20])) == [ids["one"]]
    assert find_model(store, ids["one"]).single.id == ids["one"]


def test_a_list_names_the_members_of_an_ensemble(store: Store, ids: dict[str, str]) -> None:
    assert found_ids(find_model(store, [ids["two"][:20], ids["one"]])) == [ids["two"], ids["one"]]


def test_a_study_names_its_runs_that_stand_and_keep_a_checkpoint(store: Store, ids: dict[str, str]) -> None:
    assert found_ids(find_model(store, "study:named")) == [ids["one"], ids["two"]]


def test_a_registered_model_names_its_run(store: Store, ids: dict[str, str]) -> None:
    client = store.client
    client.create_registered_model("attnunet")
    source = f"{client.get_run(ids['two']).info.artifact_uri}/checkpoints"
    version = client.create_model_version("attnunet", source, ids["two"])
    client.set_registered_model_alias("attnunet", "best", version.version)
    assert found_ids(find_model(store, "models:/attnunet@best")) == [ids["two"]]
    assert found_ids(find_model(store, "models:/attnunet/1")) == [ids["two"]]
    assert records.find_checkpoint(store, "models:/attnunet@best").id == ids["two"]
    for wrong in ("models:/attnunet@worst", "models:/attnunet/2", "models:/nothing@best", "models:/attnunet", "models:/"):
        with pytest.raises(
            NotFound, match=rf"run={wrong}: no run of a registered model in .*; allowed: models:/NAME@ALIAS or"
        ):
            find_model(store, wrong)


def test_a_folder_names_the_predictor_in_it(tmp_path: Path) -> None:
    (tmp_path / "best.keras").touch()
    with pytest.raises(
        NotFound, match=r"the folder lacks predictor\.json; allowed: the id of a run or its first digits, models"
    ):
        find_model(None, str(tmp_path))
    (tmp_path / "predictor.json").write_text(facts())
    with pytest.raises(NotFound, match=r"best\.keras: is not a file of Keras; allowed: the best\.keras of a run"):
        find_model(None, str(tmp_path))
    ZipFile(tmp_path / "best.keras", "w").close()
    model = find_model(None, str(tmp_path))
    assert model.folder == tmp_path
    assert model.facts[0]["batch_size"] == 4
    with pytest.raises(NotFound, match="allowed here: one run of a store, by its id"):
        _ = model.single


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["nothing"], "run=nothing: no run with such an id in "),
        (["/nothing/there"], "run=/nothing/there: no such folder; allowed: the id of a run or its first digits, models"),
        ([__file__], r"run=/.*\.py: is a file; allowed: the id of a run or its first digits, models"),
        (["{lost}"], r"run \w+ \(lost\) lacks checkpoints/best.keras or predictor.json; its trainer.keep was None"),
        (["{killed}"], r"run \w+ \(killed\) is KILLED; only a finished run has a best checkpoint"),
        (
            ["{foreign}"],
            r"run \w+ \(foreign\): its predictor.json does not describe a model of attnunet, which has batch_size",
        ),
        (["{one}", "{one}"], r"run=\[\w+,\w+\]: names the run \w+ twice; allowed: each run once"),
        (["study:empty"], "run=study:empty: none of its 1 runs has finished and keeps a best checkpoint"),
        (["study:nothing"], "study=nothing: not in .*; allowed: .*empty.*named"),
        (["{one}", "."], r"run=\[..,\.,..\]: a folder does not tell its patients; allowed in a list: runs of a store"),
    ],
)
def test_what_cannot_be_used_is_said(names: list[str], told: str, store: Store, ids: dict[str, str]) -> None:
    given = [name.format(**ids) for name in names]
    with pytest.raises(NotFound, match=told):
        find_model(store, given if len(given) > 1 else given[0])


def test_members_that_take_other_volumes_are_refused(store: Store, ids: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"file_channels is a, b in run \w+ \(one\), and a in run \w+ \(other\)"):
        find_model(store, [ids["one"], ids["other"]])


def test_modules_that_are_not_allowed_are_refused(store: Store, ids: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"run \w+ \(modules\): to load its network, the modules mine have to be imported"):
        find_model(store, ids["modules"])
    ZipFile(tmp_path / "best.keras", "w").close()
    (tmp_path / "predictor.json").write_text(facts(modules=["mine"]))
    with pytest.raises(TargetError, match=rf"{tmp_path}: to load its network, the modules mine"):
        find_model(None, str(tmp_path))


@pytest.mark.slow
def test_models_are_found_without_tensorflow() -> None:
    code = "import sys, attnunet.tracking.models; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("4f", []),
        (["4f", "5a"], []),
        (12345678, ["run=12345678: is read as a number; quote a text twice: 'run=\"...\"'"]),
        (["4f", 5], ["run.1=5: is read as a number; quote a text twice: 'run=[\"...\"]'"]),
        ([], ["run=[]: List should have at least 1 item after validation, not 0"]),
    ],
)
def test_the_key_run_is_a_text_or_a_list(value: object, told: list[str]) -> None:
    errors = find_errors(Predict, {"run": value}, "")
    assert [line for line in errors if line.startswith("run")] == told


# Who may be scored.


def split(train: str, val: str, test: str) -> dict[str, list[str]]:
    return {"train": train.split(), "val": val.split(), "test": test.split()}


def ensemble(*splits: dict[str, list[str]]) -> Model:
    return Model("[..]", tuple(SimpleNamespace(id=f"run{n}", split=each) for n, each in enumerate(splits)))  # type: ignore[arg-type]


ASKED = {"part": "test", "data": None, "split": None, "allow_training_patients": False}


def test_members_that_share_test_patients_can_be_scored() -> None:
    check_scorable(ensemble(split("a", "b", "c d"), split("b", "a", "d e")), OmegaConf.create(ASKED))


def test_an_ensemble_of_folds_has_no_patient_to_be_scored_on() -> None:
    folds = ensemble(split("a", "b", "c"), split("b", "c", "a"), split("c", "a", "b"))
    with pytest.raises(DataError) as raised:
        check_scorable(folds, OmegaConf.create(ASKED))
    rule = "an ensemble is scored only on patients that no member knows"
    assert str(raised.value).splitlines() == [
        f"a: trained on by run0, validated on by run2; {rule}",
        f"b: trained on by run1, validated on by run0; {rule}",
        f"c: trained on by run2, validated on by run1; {rule}",
    ]
    check_scorable(folds, OmegaConf.create({**ASKED, "split": {"_target_": "other"}}))  # checked once its patients are known


def test_an_ensemble_is_never_scored_on_training_patients() -> None:
    with pytest.raises(NotFound, match="allow_training_patients=true: an ensemble is scored only on patients that no member"):
        check_scorable(ensemble(split("a", "b", "c")), OmegaConf.create({**ASKED, "allow_training_patients": True}))
