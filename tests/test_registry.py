"""The registered model: which run it is made of, its card, its files, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow.entities import Metric, RunTag

from attnunet.comparison import results
from attnunet.comparison.card import NoBest, find_licence
from attnunet.tracking import records, registry
from attnunet.tracking.clearing import clear
from attnunet.tracking.records import NotFound, Tampered
from attnunet.tracking.store import Store, local_path
from tests.test_compare import BASE, PATIENTS, RNG, Runs

# mlflow.types: importing its own chat schemas, MLflow warns of the type hints in them.
pytestmark = pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")

FACTS = {
    "preparation": {
        "image_size": 64,
        "file_channels": ["pre", "flair", "post", "t2"],
        "channels": ["flair", "t2"],
        "intensity": "zscore",
        "plane": "coronal",
        "pixel_size": 1.5,
        "dtype": "uint8",
    },
    "decision": {"threshold": 0.35, "smallest_lesion": 20, "fill_holes": True},
    "flip": True,
    "batch_size": 8,
    "modules": [],
}
TAGS = {
    "command": "python -m attnunet.train 'data.root=/a|b'",
    "git.commit": "0123456789abcdef",
    "git.dirty": "true",
    "version.tensorflow": "2.21.0",
    "version.keras": "3.15.1",
}
STRATA = (
    "part,by,stratum,dice_patients,dice\nval,site,A,3,0.5\nval,site,B,17,0.75\nval,missing,none,20,0.7\ntest,site,A,1,0.1\n"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry") / "mlruns"


@pytest.fixture
def runs(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """A study of the test's own in a store that all share; its comparisons draw no page."""
    monkeypatch.setattr(results, "write_results", lambda *_: root)
    return Runs(root, request.node.name)


def add(runs: Runs, scores: np.ndarray, params: dict[str, object], **tags: str) -> str:
    """Add a made-up run, with everything that a card tells; return its id."""
    groups = {"model": "conv", "loss": "dice", "augment": "mri", "optimizer": "adam", "data": "lgg", **params}
    run = runs.add(list(scores), groups, **tags)
    runs.artifact(run, "checkpoints/predictor.json").write_text(json.dumps(FACTS))
    runs.artifact(run, "strata.csv").write_text(STRATA)
    runs.artifact(run, "config.yaml").write_text("data: {_target_: attnunet.data.lgg.lgg, download: false}")
    values = {"dice": 0.7125, "dice_ci_low": 0.65, "dice_ci_high": 0.77, "dice_median": 0.72, "dice_patients": 20}
    values |= {"surface_dice": 0.5, "lesion_f1": 0.4, "sensitivity": 0.8, "precision": 0.9}
    metrics = [Metric(f"final/val/{name}", value, 0, 1) for name, value in values.items()]
    runs.store.client.log_batch(run, metrics=metrics, tags=[RunTag(*tag) for tag in TAGS.items()])
    return run


def best(store: Store) -> Any:
    """The version with the alias."""
    return store.client.get_model_version_by_alias("attnunet", "best")


def test_the_best_seed_of_the_best_row_is_registered_with_a_card(runs: Runs) -> None:
    add(runs, BASE, {"loss": "focal"})
    ids = [add(runs, BASE + step, {"loss": "dice", "seed": seed}) for seed, step in enumerate((0.1, 0.2, 0.15))]
    _, text = runs.compare("register=best")
    version = best(runs.store)
    assert f"model     models:/attnunet@best is version {version.version}, run {ids[1]}\n" in text
    assert version.run_id == ids[1]
    folder = Path(local_path(version.source))
    card = (folder / "README.md").read_text()
    assert card == version.description
    assert len(card) < 5000
    for line in (
        "# attnunet: conv-dice-mri-adam-lgg-1\n",
        f"from the record of run `{ids[1]}`",
        "| network | `model=conv loss=dice augment=mri optimizer=adam` |",
        "| input | flair, t2; coronal slices; intensity `zscore` |",
        "| size | 64 x 64 pixels of 1.5 mm |",
        "| decision | threshold 0.35, lesions of at least 20 voxels, holes filled, mirror image averaged |",
        "commit 0123456789ab, with changes, tensorflow 2.21.0, keras 3.15.1",
        r"data.root=/a\|b",
        "| validation patients | 20 | 20 |",
        "| Dice, mean (95 % interval) | 0.713 (0.650 to 0.770) |",
        "site A 0.500 (3); site B 0.750 (17).",
        "Licence of the data: unknown",
        "loss=dice: the first of 2 rows by the mean dice of the validation patients; seed 1 is the best of its 3 seeds.",
        "- loss=dice is better than loss=focal: +0.150",
        "- The validation patients chose the checkpoint and the decision, so these scores are too high",
        "- A volume needs the distances between its slices, rows and columns.",
    ):
        assert line in card
    assert "missing none" not in card  # the only group
    assert not [name for name in PATIENTS if name in card]


def test_the_files_of_a_model_hold_all_that_it_needs(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uv.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    run = add(runs, BASE, {})
    runs.compare("register=best")
    folder = Path(local_path(best(runs.store).source))
    assert not (folder / "uv.lock").exists()  # MLflow would add the project of the user, and install it
    told = yaml.safe_load((folder / "MLmodel").read_text())
    assert told["run_id"] == run
    assert told["flavors"]["python_function"]["loader_module"] == "attnunet.served"
    params = {param["name"]: param for param in json.loads(told["signature"]["params"])}
    assert params["sequences"]["default"] == ["pre", "flair", "post", "t2"]
    assert params["spacing"]["type"] == "double"
    assert json.loads(told["signature"]["inputs"])[0]["tensor-spec"]["dtype"] == "object"
    assert {path.name for path in (folder / "data" / "predictor").iterdir()} == {"best.keras", "predictor.json"}
    assert (folder / "code" / "attnunet" / "served.py").is_file()
    assert not list(folder.rglob("__pycache__"))
    names = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert names == {"mlflow", "tensorflow", "keras", "numpy", "scipy", "opencv-python-headless", "filelock"}
    example = json.loads((folder / "serving_input_example.json").read_text())
    assert np.array(example["inputs"]).shape == (1, 32, 32, 4)
    assert example["params"]["sequences"] == ["pre", "flair", "post", "t2"]


def test_a_run_and_its_card_make_one_version(runs: Runs) -> None:
    first, second = (records.find_runs(runs.store, [add(runs, BASE, {"loss": loss})])[0] for loss in ("focal", "dice"))
    version = registry.register(first, "a card")
    assert registry.register(second, "a card") == version + 1
    assert best(runs.store).run_id == second.id
    assert registry.register(first, "a card") == version
    assert best(runs.store).run_id == first.id
    assert registry.register(first, "another card") == version + 2


@pytest.mark.parametrize(
    ("data", "licence"),
    [
        ({"_target_": "attnunet.data.lgg.lgg", "download": True}, "CC BY-NC-SA 4.0, as the run downloaded"),
        ({"_target_": "attnunet.data.lgg.lgg", "download": False}, "unknown; the record of the run does not name it"),
        ({"_target_": "attnunet.data.phantom.phantom"}, "none; the images are drawn"),
        ({"_target_": "attnunet.data.nifti.nifti"}, "unknown"),
    ],
)
def test_a_card_names_a_licence_only_where_the_record_does(data: dict[str, Any], licence: str) -> None:
    assert find_licence(data).startswith(licence)


def test_a_card_says_what_is_undecided_and_leaves_out_what_is_too_long(runs: Runs) -> None:
    for number in range(6):
        add(runs, BASE + RNG.normal(0, 0.1, 20), {"loss": f"a{number}"})
    runs.compare("register=best")
    card = best(runs.store).description
    assert card.count(": undecided: ") == 3
    assert "- 2 more pairs on the page of the comparison." in card
    assert "- Undecided: 5 of 5 pairs. Another row may be as good or better." in card


def test_a_first_row_that_leaks_or_joins_folds_is_refused(runs: Runs) -> None:
    add(runs, BASE, {"loss": "focal"})
    add(runs, BASE + 0.1, {"loss": "dice"}, leaking="true")
    with pytest.raises(NoBest, match=r"the first row \(LEAKING loss=dice\) trained on patients who are scored"):
        runs.compare("register=best")
    for fold in (0, 1):
        add(runs, BASE + 0.2, {"loss": "bce", "split": "kfold", "split.folds": 2, "split.fold": fold})
    with pytest.raises(
        NoBest, match=r"the first row \(loss=bce.*\) joins folds, .*; allowed: rows that are no cross-validation"
    ):
        runs.compare("register=best")
    assert not runs.folder().exists()  # it is refused before anything is written


def test_a_run_without_a_checkpoint_or_with_a_changed_one_is_refused(runs: Runs) -> None:
    run = add(runs, BASE, {})
    runs.store.client.set_tag(run, "checkpoints/best.checksum", "another")
    with pytest.raises(Tampered, match=r"best\.keras is not the file that run"):
        runs.compare("register=best")
    shutil.rmtree(runs.artifact(run, "checkpoints"))
    with pytest.raises(NotFound, match=r"lacks checkpoints/best\.keras or predictor\.json"):
        runs.compare("register=best")


def test_a_moved_store_finds_its_registered_model(runs: Runs, tmp_path: Path) -> None:
    add(runs, BASE, {})
    runs.compare("register=best")
    shutil.copytree(runs.store.root, tmp_path / "elsewhere")
    store = Store(tmp_path / "elsewhere", None, 0)
    address = store.client.get_model_version_download_uri("attnunet", best(store).version)
    assert Path(local_path(address)).is_relative_to(tmp_path)
    assert Path(local_path(best(store).source), "README.md").is_file()


def test_clean_keeps_the_run_of_a_registered_model(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    kept = add(runs, BASE, {"loss": "dice"})
    runs.compare("register=best")
    gone = add(runs, BASE, {"loss": "focal"})
    for run in (kept, gone):
        runs.store.client.set_tag(run, "superseded", "by another")
    clear(runs.store, dry_run=False, confirm=lambda question: True)
    printed = capsys.readouterr().out
    assert gone in printed
    assert kept not in printed
    assert Path(local_path(best(runs.store).source), "MLmodel").is_file()
    assert kept in registry.registered_runs(runs.store)
