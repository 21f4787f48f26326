"""A run scored again: with what it froze, under a name of its own, on nobody whom it trained on, and every look counted."""

import json
import shutil
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from rich.console import Console

from attnunet import config, evaluate
from attnunet.data.slices import DataError
from attnunet.evaluation import patients, scoring
from attnunet.tracking import records, uses
from attnunet.tracking.records import Record
from attnunet.tracking.run import Run
from attnunet.tracking.store import Store
from tests.conftest import SMOKE, command, write_patient

pytestmark = pytest.mark.slow  # on a run of their own


@dataclass(frozen=True)
class Made:
    """A copy of the folder in which a run was made."""

    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "mlruns", None, 0)

    @property
    def run(self) -> Record:
        (run,) = records.runs_of_study(self.store, "tried")
        return run

    def again(self, *overrides: str) -> str:
        """`attnunet.evaluate run=RUN_ID OVERRIDES` in this process; -> what it prints."""
        out = StringIO()
        with initialize_config_dir(config.CONF, version_base="1.3"):
            given = [f"run={self.run.id}", f"tracking.root={self.folder / 'mlruns'}", *overrides]
            cfg = compose("evaluate", given)
        choices = {o.split("=")[0]: o.split("=")[1] for o in overrides if o.split("=")[0] in ("data", "split")}
        evaluate.evaluate(cfg, choices, self.run, Console(file=out, width=200, soft_wrap=True))
        return out.getvalue()

    def artifact(self, path: str) -> Path:
        return self.folder / "mlruns" / "artifacts" / self.run.id / "artifacts" / path

    def rows(self, name: str) -> list[dict[str, str]]:
        return self.run.rows(f"evaluations/{name}/patients.csv")


@pytest.fixture
def made(trained: Path, tmp_path: Path) -> Made:
    _artifact_repos_cache.clear()  # where MLflow keeps a run's folder for the life of the process
    shutil.copytree(trained, tmp_path / "made")
    return Made(tmp_path / "made")


def test_the_command_scores_the_test_again_under_its_own_name(made: Made) -> None:
    result = command(f'run="{made.run.id[:8]}"', cwd=made.folder, name="evaluate")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "Dice, mean over patients" in result.stdout
    assert "this test split has now been scored 2 times" in result.stdout
    metrics = made.run.metrics
    for score in ("dice", "dice_slice_lesion", "threshold", "hd95"):
        assert metrics[f"evaluate/test/{score}"] == pytest.approx(metrics[f"final/test/{score}"], nan_ok=True), score
    summary = {row["score"]: float(row["value"]) for row in made.run.rows("evaluations/test/summary.csv")}
    assert summary == pytest.approx(made.run.summary("test"), nan_ok=True)
    assert made.rows("test") == made.run.patients("test")
    assert made.artifact("evaluations/test/figures/predictions.png").is_file()
    settings = yaml.safe_load(made.artifact("evaluations/test/config.yaml").read_text())
    assert settings["notes"] == ["this test split has now been scored 2 times"]
    assert settings["settings"]["part"] == "test"


def test_training_patients_are_refused_by_name(made: Made) -> None:
    result = command(f'run="{made.run.id}"', "part=train", cwd=made.folder, name="evaluate")
    assert result.returncode == 1
    for patient in made.run.split["train"]:
        assert patient in result.stderr
    assert "allow_training_patients=true" in result.stderr
    assert "Traceback" not in result.stderr
    assert not [name for name in (*made.run.metrics, *made.run.tags) if name.startswith("evaluat")]


def test_training_patients_that_are_allowed_mark_the_result(made: Made) -> None:
    said = made.again("part=all", "allow_training_patients=true", "name=mine")
    assert "LEAKING: patients that the run trained on, so the scores are too high" in " ".join(said.split())
    assert "evaluate/LEAKING-mine/dice" in made.run.metrics
    assert "LEAKING" in made.run.tags["evaluation.LEAKING-mine"]
    assert len(made.rows("LEAKING-mine")) == 12


def test_a_name_that_is_taken_is_refused_and_a_default_one_gets_a_number(made: Made) -> None:
    made.again("part=val", "name=mine")
    before = made.artifact("evaluations/mine/patients.csv").read_bytes()
    with pytest.raises(records.RunError, match=r"name=mine: run .* has that evaluation, and it stays"):
        made.again("part=test", "name=mine")
    assert made.artifact("evaluations/mine/patients.csv").read_bytes() == before
    made.again("part=val")
    made.again("part=val")
    assert {"evaluation.val", "evaluation.val-2"} <= set(made.run.tags)


def test_evaluations_at_once_take_names_of_their_own(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins while the first is being scored."""
    scored, begun = patients.score_patients, []

    def slowly(*arguments: Any, **options: Any) -> patients.Scores:
        if not begun:
            begun.append(made.run.tags["evaluation.val"])
            made.again("part=val", "threshold=0.5", "name=val-2")
            made.again("part=val")
        return scored(*arguments, **options)

    monkeypatch.setattr(patients, "score_patients", slowly)
    made.again("part=val")
    assert begun == ["being scored"]
    names = {tag for tag in made.run.tags if tag.startswith("evaluation.")}
    assert names == {"evaluation.val", "evaluation.val-2", "evaluation.val-3"}
    assert "being scored" not in made.run.tags.values()


def test_an_evaluation_that_fails_gives_its_name_back(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(patients, "score_patients", failing)
        with pytest.raises(MemoryError):
            made.again("part=val", "name=mine")
    made.again("part=val", "name=mine")


def test_a_training_patient_is_known_under_another_spelling_and_by_its_images(
    made: Made, lgg_root: Path, tmp_path: Path
) -> None:
    spelt, copied, *_ = made.run.split["train"]
    for path in (lgg_root / spelt).iterdir():
        (tmp_path / "new" / spelt.lower()).mkdir(parents=True, exist_ok=True)
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(tmp_path / "new" / spelt.lower() / path.name.lower()), 255 - image if image.ndim == 3 else image)
    for path in (lgg_root / copied).iterdir():
        (tmp_path / "new" / "TCGA_FG_1_1").mkdir(exist_ok=True)
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(
            str(tmp_path / "new" / "TCGA_FG_1_1" / path.with_suffix(".png").name.replace(copied, "TCGA_FG_1_1")), image
        )
    write_patient(tmp_path / "new", "TCGA_FG_5000_20010101", seed=90)
    with pytest.raises(records.RunError, match=f"trained on TCGA_FG_1_1, {spelt.lower()}; scores"):
        made.again("data=lgg", f"data.root={tmp_path / 'new'}", "part=all")


def test_data_that_an_earlier_version_prepared_tell_no_images(made: Made, tmp_path: Path) -> None:
    path = made.folder / "mlruns" / "cache" / made.run.content / "slices.json"
    facts = json.loads(path.read_text())
    del facts["pixels"]
    path.write_text(json.dumps(facts))
    write_patient(tmp_path / "new", "TCGA_FG_5000_20010101", seed=90)
    made.again("data=lgg", f"data.root={tmp_path / 'new'}", "part=all")
    assert [row["patient"] for row in made.rows("lgg-all")] == ["TCGA_FG_5000_20010101"]


def test_that_validation_patients_chose_the_decision_is_said(made: Made) -> None:
    said = made.again("part=val")
    assert "too high: these patients chose the checkpoint and the decision" in said
    assert "has now been scored" not in said
    assert made.run.metrics["evaluate/val/dice"] == pytest.approx(made.run.metrics["final/val/dice"])


def test_another_decision_scores_differently_and_says_which(made: Made) -> None:
    made.again("part=val", "threshold=0.99", "smallest_lesion=5", "fill_holes=true")
    (name,) = (tag.removeprefix("evaluation.") for tag in made.run.tags if tag.startswith("evaluation."))
    assert name == "val-threshold0.99-smallest_lesion5-fill_holesTrue"
    row = made.rows(name)[0]
    assert (row["threshold"], row["smallest_lesion"], row["fill_holes"]) == ("0.99", "5", "1")
    assert made.run.metrics[f"evaluate/{name}/sensitivity"] < made.run.metrics["final/val/sensitivity"]


def test_a_patient_moved_in_the_split_is_noticed(made: Made) -> None:
    path = made.artifact("split.json")
    split = json.loads(path.read_text())
    moved = split["train"].pop()
    split["test"].append(moved)
    split["slices"]["test"][moved] = split["slices"]["train"].pop(moved)
    path.write_text(json.dumps(split, indent=1))
    with pytest.raises(records.Tampered, match=f"split.json is not the file that run {made.run.id}"):
        made.again()


def test_the_same_data_elsewhere_is_the_same_and_changed_data_are_not(made: Made, lgg_root: Path, tmp_path: Path) -> None:
    shutil.copytree(lgg_root, tmp_path / "moved")
    said = made.again("data=lgg", f"data.root={tmp_path / 'moved'}", "data.intensity=raw")
    assert "not the data" not in said
    assert "scored 2 times" in said
    assert made.run.metrics["evaluate/lgg-test/dice"] == pytest.approx(made.run.metrics["final/test/dice"])

    (image, *_) = sorted((tmp_path / "moved").glob("*/*_1.tif"))
    cv2.imwrite(str(image), np.zeros((32, 32, 3), np.uint8))
    said = made.again("data=lgg", f"data.root={tmp_path / 'moved'}")
    assert "not the data that the run was made with" in said


def test_patients_from_elsewhere_are_scored_as_a_whole_or_by_a_split_of_theirs(made: Made, tmp_path: Path) -> None:
    for number in range(4):
        write_patient(tmp_path / "new", f"TCGA_FG_{5000 + number}_20010101", seed=90 + number)
    new = ("data=lgg", f"data.root={tmp_path / 'new'}")
    with pytest.raises(DataError, match=r"part=test: the data lack slices of patients .*TCGA_.*give a split too, or part=all"):
        made.again(*new)
    made.again(*new, "part=all")
    assert [row["patient"] for row in made.rows("lgg-all")] == [f"TCGA_FG_{5000 + n}_20010101" for n in range(4)]
    names = [row["patient"] for row in made.rows("lgg-all")]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"train": names[:1], "val": names[1:2], "test": names[2:]}))
    said = made.again(*new, "split=manifest", f"split.file={tmp_path / 'own.yaml'}")
    assert [row["patient"] for row in made.rows("lgg-manifest-test")] == names[2:]
    assert "has now been scored" not in said  # this split: none of its patients tested the run


def test_a_look_at_the_runs_test_patients_is_counted_under_whatever_part_of_whatever_split(made: Made, tmp_path: Path) -> None:
    """One test patient validates in another manifest: a second look at the run's own test split, the whole data the third."""
    val, test = made.run.split["val"], made.run.split["test"]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"train": made.run.split["train"], "val": test[:1], "test": val}))
    other = ("split=manifest", f"split.file={tmp_path / 'own.yaml'}")
    assert "has now been scored" not in made.again(*other)
    assert "this test split has now been scored 2 times" in made.again(*other, "part=val")
    assert "scored 3 times" in made.again("part=all", "allow_training_patients=true")


def test_leaving_a_training_patient_out_does_not_make_it_another_test_split(made: Made, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text(made.run.split["train"][0])
    root = made.run.config.data.root
    said = made.again("data=lgg", f"data.root={root}", f"data.exclude={tmp_path / 'out.txt'}")
    assert "not the data that the run was made with" in said
    assert "this test split has now been scored 2 times" in said


def test_files_without_the_networks_channels_are_refused(made: Made, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("patient,image,mask\na,x.png,y.png\n")
    (tmp_path / "x.png").touch()
    (tmp_path / "y.png").touch()
    with pytest.raises(DataError, match="network takes the channels pre, flair, post; the files have grey"):
        made.again("data=table", f"data.file={tmp_path / 'own.csv'}", "data.file_channels=[grey]", "part=all")


def test_a_run_without_a_checkpoint_is_refused(made: Made) -> None:
    shutil.rmtree(made.artifact("checkpoints"))
    with pytest.raises(records.NotFound, match=r"lacks checkpoints/best.keras or predictor.json; its trainer.keep was best"):
        made.again()


def test_a_job_of_a_sweep_gets_the_test_scores_that_a_run_alone_has(
    made: Made, lgg_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    result = command("-m", *SMOKE, f"data.root={lgg_root}", "study=tried", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    swept = Made(tmp_path)
    assert not swept.run.tested
    # Killed before the metrics, by which a run counts as tested, it is scored again, and no row is there twice.
    with monkeypatch.context() as patched:
        patched.setattr(Run, "metrics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scoring.score_test(swept.run)
    assert not swept.run.tested
    assert scoring.score_test(swept.run) == 1  # the same scoring, which counts once
    assert swept.run.patients("val") == made.run.patients("val")
    assert swept.run.patients("test") == made.run.patients("test")
    assert swept.run.rows("strata.csv") == made.run.rows("strata.csv")
    assert swept.run.rows("summary.csv") == made.run.rows("summary.csv")
    ours = {name: value for name, value in swept.run.metrics.items() if name.startswith("final/test/")}
    theirs = {name: value for name, value in made.run.metrics.items() if name.startswith("final/test/")}
    assert ours == pytest.approx(theirs, nan_ok=True)
    with pytest.raises(records.RunError, match="has test scores"):
        scoring.score_test(swept.run)


def test_looks_at_a_test_split_are_counted_over_all_runs_even_deleted_ones(tmp_path: Path) -> None:
    store = Store(tmp_path / "mlruns", None, 0)
    study = store.study("seen")
    first, second = (Run(store, store.client.create_run(study).info.run_id) for _ in range(2))
    assert uses.count_use(first, [("a", 1), ("a", 2)]) == 1
    assert uses.count_use(first, [("a", 2), ("a", 1)]) == 2
    assert uses.count_use(first, [("b", 1), ("b", 2)]) == 1
    assert uses.count_use(first, [("a", 1)]) == 1
    store.client.delete_run(first.id)
    assert uses.count_use(second, [("a", 1), ("a", 2)]) == 3
    assert uses.describe_uses(1).endswith("scored once")
    assert uses.describe_uses(3).endswith("scored 3 times")
