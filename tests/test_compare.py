"""The command compare: which runs it takes, what it refuses, what it writes, on stores of made-up runs."""

import csv
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from mlflow.entities import Param, RunTag
from rich.console import Console

from attnunet import compare, config
from attnunet.comparison.rows import Unpaired
from attnunet.comparison.table import Comparison
from attnunet.config import checks, schema
from attnunet.data.files import read_csv, write_csv
from attnunet.tracking import uses
from attnunet.tracking.records import Record, RunError
from attnunet.tracking.store import Store, local_path
from tests.conftest import SMOKE, command

PATIENTS = [f"p{number:02}" for number in range(20)]
TESTED = ["t0", "t1", "t2"]


class Runs:
    """A study that runs are put into as training leaves them."""

    def __init__(self, root: Path, study: str) -> None:
        self.store, self.study = Store(root, None, 0), study

    def add(
        self,
        scores: Sequence[float],
        params: Mapping[str, object],
        *,
        status: str = "FINISHED",
        patients: Sequence[str] = PATIENTS,
        test: Sequence[float] = (),
        tested: Sequence[str] = TESTED,
        content: str = "content",
        epochs: Sequence[float] = (60,),
        **tags: str,
    ) -> str:
        """-> the run's id. scores: Dice of each validation patient; hd95 is ten times what lacks to 1. epochs: seconds."""
        client = self.store.client
        made = client.create_run(self.store.study(self.study), run_name="-".join(map(str, params.values())), tags=tags)
        named = [Param(key, str(value)) for key, value in {"split": "patient", "seed": 0, **params}.items()]
        overrides = " ".join(f"{key}={value}" for key, value in params.items())
        client.log_batch(made.info.run_id, params=named, tags=[RunTag("overrides", overrides)])
        rows = [("val", *row) for row in zip(patients, scores, strict=True)]
        rows += [("test", *row) for row in zip(tested, test, strict=False)]
        lines = [f"{part},{patient},{'a site'},{score},{10 * (1 - score)}\n" for part, patient, score in rows]
        if status == "FINISHED":
            folder = Path(local_path(made.info.artifact_uri))
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            for name in ("best.keras", "predictor.json"):
                (folder / "checkpoints" / name).write_text("{}")
            (folder / "patients.csv").write_text("part,patient,site,dice,hd95\n" + "".join(lines))
            slices = {"val": {key: [1] for key in patients[: len(scores)]}, "test": {key: [1] for key in tested}}
            (folder / "split.json").write_text(json.dumps({"fingerprint": f"{content}/images-64.npy", "slices": slices}))
        for step, seconds in enumerate(epochs, 1):
            client.log_metric(made.info.run_id, "train/epoch_seconds", seconds, step=step)
        if test:
            client.log_metric(made.info.run_id, "final/test/dice", float(np.mean(test)))
        client.set_terminated(made.info.run_id, status)
        return str(made.info.run_id)

    def compare(self, *overrides: str, what: str = "") -> tuple[Comparison, str]:
        """`attnunet.compare` of the study, or of `what`, in this process; -> what was found, and printed."""
        out = StringIO()
        with initialize_config_dir(config.CONF, version_base="1.3"):
            cfg = compose(
                "compare", [f"tracking.root={self.store.root}", "resamples=199", what or f"study={self.study}", *overrides]
            )
        return compare.compare(cfg, self.store, Console(file=out, width=200, soft_wrap=True)), out.getvalue()

    def artifact(self, run: str, path: str) -> Path:
        return self.store.root / "artifacts" / run / "artifacts" / path

    def folder(self, suffix: str = "") -> Path:
        return self.store.root / "compare" / f"{self.study}{suffix}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare") / "mlruns"


@pytest.fixture
def runs(root: Path, request: pytest.FixtureRequest) -> Runs:
    """A study of the test's own in a store that all share."""
    return Runs(root, request.node.name)


RNG = np.random.default_rng(0)
BASE = RNG.beta(5, 2, 20) * 0.8


def test_a_study_is_ranked_and_its_verdicts_are_printed_and_written(runs: Runs) -> None:
    noise = RNG.normal(0, 0.05, (2, 20))
    runs.add(BASE, {"loss": "focal", "seed": 0})
    for seed in (0, 1):
        runs.add(BASE + 0.07 + noise[seed], {"loss": "dice", "seed": seed})
    found, text = runs.compare()
    assert found.names == ["loss=dice", "loss=focal"]
    assert [len(s.row.seeds) for s in found.standings] == [2, 1]
    assert "Row 1 (loss=dice) is better than row 2 (loss=focal): +0.0" in text
    folder = runs.folder()
    assert f"page      {folder / 'compare.html'}" in text
    with (folder / "leaderboard.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["loss"] for row in rows] == ["dice", "focal"]
    assert float(rows[1]["mean"]) == pytest.approx(BASE.mean())
    assert "is better than row 2 (loss=focal)" in (folder / "pairs.csv").read_text()
    html = (folder / "compare.html").read_text()
    assert html.count("<svg") == 5
    study = runs.store.study(runs.study)
    for run in (run for s in found.standings for run in s.row.runs):
        assert f'<a href="http://127.0.0.1:5000/#/experiments/{study}/runs/{run.id}">{run.id[:8]}</a>' in html
        assert f'<a href="{runs.artifact(run.id, "").as_uri()}">files</a>' in html
    assert f"<code>{runs.store.ui_command}</code>" in html
    # The differences are of the mean over the seeds.
    (pair,) = found.pairs
    assert pair.difference == pytest.approx(0.07 + noise.mean())


def test_two_copies_of_one_run_compare_as_equivalent(runs: Runs) -> None:
    ids = [runs.add(BASE, {"loss": "dice"}) for _ in range(2)]
    found, text = runs.compare(what=f"runs=[{ids[0]},{ids[1]}]")
    assert found.pairs[0].verdict == "equivalent"
    assert f"Row 1 (run={ids[0][:8]}) and row 2 (run={ids[1][:8]}) are equivalent" in text


def test_what_did_not_finish_or_was_superseded_is_left_out_and_said(runs: Runs) -> None:
    good = runs.add(BASE, {"loss": "dice"})
    failed = runs.add(BASE, {"loss": "focal"}, status="FAILED")
    old = runs.add(BASE, {"loss": "dice"}, superseded=good)
    found, text = runs.compare()
    assert [run.id for s in found.standings for run in s.row.runs] == [good]
    assert f"left out: run {failed[:8]} (focal) is FAILED" in text
    assert f"left out: run {old[:8]} (dice) is superseded by run {good[:8]}" in text
    html = (runs.folder() / "compare.html").read_text()
    assert f"run {failed[:8]} (focal) is FAILED" in html


def test_runs_on_different_patients_are_refused_with_both_lists(runs: Runs) -> None:
    runs.add(BASE[:3], {"loss": "dice"}, patients=["a", "b", "c"])
    runs.add(BASE[:3], {"loss": "focal"}, patients=["b", "c", "d"])
    with pytest.raises(Unpaired) as refused:
        runs.compare()
    assert "3 patients: a, b, c" in str(refused.value)
    assert "only in the first: a\nonly in the second: d" in str(refused.value)
    assert not runs.folder().exists()


def test_runs_on_different_data_with_patients_of_the_same_names_are_refused(runs: Runs) -> None:
    runs.add(BASE, {"loss": "dice"})
    runs.add(BASE, {"loss": "focal"}, content="other")
    with pytest.raises(Unpaired, match=r"their data differ.\nrun .* was made with content, run .* with other"):
        runs.compare()


@pytest.mark.parametrize(
    ("score", "key", "values"),
    [
        ("hd95", "data.spacing", (None, [3, 1, 1])),
        ("surface_dice", "data.spacing", (None, [3, 1, 1])),
        ("surface_dice", "evaluation.tolerance", (2, 3)),
    ],
)
def test_a_score_that_depends_on_a_setting_is_refused_where_the_setting_differs(
    score: str, key: str, values: tuple[object, object], root: Path
) -> None:
    """Without a spacing, distances are in pixels. Nothing is refused where the score does not depend on the setting."""
    runs = Runs(root, f"{score} by {key}")
    for value in values:
        measured(runs, runs.add(BASE, {"loss": "dice", key: value}))
    with pytest.raises(Unpaired, match=rf"their scores depend on {key}(?s:.*){key}=.* has {key}=.*allowed: one value"):
        runs.compare(f"score={score}", "test=true")
    assert len(runs.compare("score=dice")[0].standings) == 2


@pytest.mark.parametrize(
    ("study", "spacings"),
    [
        ("typed otherwise", [{"data.spacing": "[3, 1, 1]"}, {"data.spacing": "[3.0, 1.0, 1.0]"}]),
        ("volumes in a table and in folders", [{"data.spacing": None}, {}]),
        ("volumes", [{}, {}]),
    ],
)
def test_runs_with_equal_spacings_are_compared(study: str, spacings: list[dict[str, object]], root: Path) -> None:
    """The files of volumes tell the spacing, so their runs have no data.spacing, or None."""
    runs = Runs(root, study)
    for number, spacing in enumerate(spacings):
        runs.add(BASE, {"model": f"tool{number}", **spacing, "evaluation.tolerance": 2})
    assert len(runs.compare("score=hd95")[0].standings) == 2


def measured(runs: Runs, run: str) -> None:
    """Add a column with a surface Dice of 0.5 to the scores of a run."""
    table = runs.artifact(run, "patients.csv")
    table.write_text(write_csv([{**row, "surface_dice": 0.5} for row in read_csv(table.read_text())]))


def test_the_command_ends_with_the_message_and_exit_code_1(runs: Runs) -> None:
    runs.add(BASE[:2], {"loss": "dice"}, patients=["a", "b"])
    runs.add(BASE[:2], {"loss": "focal"}, patients=["a", "c"])
    result = command(f"study={runs.study}", cwd=runs.store.root.parent, name="compare")
    assert result.returncode == 1
    assert "only in the first: b\nonly in the second: c" in result.stderr
    assert "Traceback" not in result.stderr


def test_leaking_runs_are_marked_everywhere(runs: Runs) -> None:
    runs.add(BASE, {"split": "slice"}, leaking="true")
    runs.add(BASE, {"split": "patient"})
    _, text = runs.compare()
    assert "LEAKING: row 1 trained on patients who are scored here" in text
    assert "Row 1 (LEAKING split=slice) and row 2 (split=patient) are equivalent" in text
    html = (runs.folder() / "compare.html").read_text()
    assert html.count("LEAKING") >= 4  # note, leaderboard, picture, words


def test_another_score_and_its_direction(runs: Runs) -> None:
    """hd95 is the better the smaller, and here the smaller where Dice is the larger."""
    runs.add(BASE, {"loss": "focal"})
    runs.add(BASE + 0.1, {"loss": "dice"})
    found, text = runs.compare("score=hd95", "margin=0.1")
    assert found.names == ["loss=dice", "loss=focal"]
    assert found.pairs[0].difference == pytest.approx(-1)
    assert "Row 1 (loss=dice) is better than row 2 (loss=focal): -1.000" in text
    assert "The smaller hd95 is better." in text


def distances(runs: Runs, run: str, part: str, found: Sequence[float], worst: Sequence[float] | None) -> None:
    """Write the run's patients.csv anew, with these distances and, unless it is an earlier version's, their worst case."""
    table = [
        {"part": part, "patient": patient, "hd95": hd95, **({} if worst is None else {"hd95_worst": worst[place]})}
        for place, (patient, hd95) in enumerate(zip(PATIENTS, found, strict=True))
    ]
    runs.artifact(run, "patients.csv").write_text(write_csv(table))


def test_missing_a_patient_does_not_pay_and_is_said(runs: Runs) -> None:
    """One is off by 5 everywhere; the other by 4 but for a patient whom it missed, in a volume of the diagonal 100."""
    thorough, careless = (runs.add(BASE, {"loss": loss}) for loss in ("thorough", "careless"))
    distances(runs, thorough, "val", [5.0] * 20, [5.0] * 20)
    distances(runs, careless, "val", [math.nan] + [4.0] * 19, [100.0] + [4.0] * 19)
    found, text = runs.compare("score=hd95")
    first, second = found.standings
    assert found.names == ["loss=thorough", "loss=careless"]
    assert (first.mean, second.mean) == pytest.approx((5, (100 + 19 * 4) / 20))
    assert (first.worst, second.worst, second.mean_defined) == (0, 1, 4)
    assert (found.pairs[0].patients, found.pairs[0].dropped) == (20, 0)
    assert found.pairs[0].difference == pytest.approx((5 * 20 - 176) / 20)
    assert "; for 1 an undefined distance counts as the worst" in text
    assert "An undefined hd95 counts as the worst, the diagonal of the volume" in text
    assert re.search(r"careless │ +8.800 .*│ +1 of 20 │ +4.000 │", text)
    html = (runs.folder() / "compare.html").read_text()
    assert "1 of 20</td>" in html
    assert "An undefined hd95 counts as the worst" in html
    leaderboard, pairs = (read_csv((runs.folder() / f"{name}.csv").read_text()) for name in ("leaderboard", "pairs"))
    assert [(row["worst"], row["mean_defined"]) for row in leaderboard] == [("0", "5.0"), ("1", "4.0")]
    assert [(row["patients"], row["worst"]) for row in pairs] == [("20", "1")]


def test_of_two_empty_masks_the_distance_is_none_and_counts_as_0_for_all(runs: Runs) -> None:
    """Who invents a lesion there is off by the diagonal."""
    right, inventive = (runs.add(BASE, {"loss": loss}) for loss in ("right", "inventive"))
    distances(runs, right, "val", [math.nan] + [5.0] * 19, [0.0] + [5.0] * 19)
    distances(runs, inventive, "val", [math.nan] + [5.0] * 19, [100.0] + [5.0] * 19)
    found, _ = runs.compare("score=hd95")
    assert found.names == ["loss=right", "loss=inventive"]
    assert [s.worst for s in found.standings] == [0, 1]
    assert found.pairs[0].difference == pytest.approx(-100 / 20)


def test_an_earlier_versions_table_is_compared_where_every_distance_is_defined_and_else_left_out(runs: Runs) -> None:
    new, defined, undefined = (runs.add(BASE, {"loss": loss}) for loss in ("new", "defined", "undefined"))
    distances(runs, new, "val", [math.nan] + [5.0] * 19, [100.0] + [5.0] * 19)
    distances(runs, defined, "val", [4.0] * 20, None)
    distances(runs, undefined, "val", [math.nan, 4.0, math.nan] + [4.0] * 17, None)
    found, text = runs.compare("score=hd95")
    assert found.names == ["loss=defined", "loss=new"]
    assert (
        f"left out: run {undefined[:8]} (undefined) has no worst-case value of hd95, which is not defined for p00, p02" in text
    )
    with pytest.raises(RunError, match=r"no finished run to compare\n.*train it again, or compare another score"):
        runs.compare("score=hd95", what=f"runs=[{undefined}]")


def test_an_earlier_versions_test_scores_without_a_distance_are_refused(runs: Runs) -> None:
    run = runs.add(BASE, {"loss": "dice"}, test=[0.5, 0.6, 0.7])
    table = runs.artifact(run, "patients.csv")
    table.write_text(table.read_text().replace("test,t1,a site,0.6,4.0", "test,t1,a site,0.6,nan"))
    with pytest.raises(RunError, match=rf"run {run} \(dice\) has no worst-case value of hd95, .* not defined for t1:"):
        runs.compare("score=hd95", "test=true")


@pytest.mark.parametrize("score", ["site", "threshold", "slices", "lesions", "tn", "hd95_worst"])
def test_a_score_that_does_not_tell_which_run_is_better_is_refused(score: str) -> None:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        cfg = compose("compare", ["study=any", f"score={score}"])
    with pytest.raises(config.ConfigError, match=f"score={score}: does not .* allowed: dice, iou, .*, fp, fn, .*hd95, .*_f1"):
        checks.check_keys(cfg, schema.Compare)


def test_a_run_without_the_score_is_left_out(runs: Runs) -> None:
    run = runs.add(BASE, {"loss": "dice"})
    with pytest.raises(RunError, match=rf"no finished run to compare\nrun {run[:8]} \(dice\) has no score assd"):
        runs.compare("score=assd")


def test_a_run_whose_table_lacks_patients_of_its_split_is_refused(runs: Runs) -> None:
    run = runs.add(BASE, {"loss": "dice"}, test=[0.9, 0.8])
    with pytest.raises(RunError, match=f"run {run} .dice.: patients.csv lacks the test patients t2$"):
        runs.compare("test=true")


def test_minutes_are_those_of_the_epochs_whatever_lay_between_them(runs: Runs) -> None:
    runs.add(BASE, {"loss": "dice"}, epochs=[30, 60])
    found, _ = runs.compare()
    assert found.standings[0].minutes == 1.5


def test_top_takes_the_best_on_validation(runs: Runs) -> None:
    for place in range(4):
        runs.add(BASE + place / 20, {"loss": f"loss{place}"})
    found, _ = runs.compare("top=2")
    assert found.names == ["loss=loss3", "loss=loss2"]
    assert len(found.pairs) == 1


def test_a_study_without_a_finished_run_is_refused(runs: Runs) -> None:
    runs.add(BASE, {"loss": "dice"}, status="KILLED")
    with pytest.raises(RunError, match=r"there is no finished run to compare\nrun .* \(dice\) is KILLED"):
        runs.compare()


def test_the_same_question_is_answered_in_the_same_folder_another_one_in_a_new_one(runs: Runs) -> None:
    runs.add(BASE, {"loss": "dice"})
    for _ in range(2):
        runs.compare()
    assert not runs.folder("-2").exists()
    runs.compare("score=hd95")
    assert not runs.folder("-3").exists()
    assert json.loads((runs.folder("-2") / "comparison.json").read_text())["score"] == "hd95"


def test_a_named_folder_that_holds_something_else_is_left_alone(runs: Runs, tmp_path: Path) -> None:
    runs.add(BASE, {"loss": "dice"})
    folder = tmp_path / "mine"
    folder.mkdir()
    runs.compare(f"output={folder}")  # an empty one will do
    assert (folder / "compare.html").exists()
    with pytest.raises(RunError, match=r"output=.*mine: .* holds something else, and it stays"):
        runs.compare(f"output={folder}", "alpha=0.02")
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "compare.html").write_text("mine")
    with pytest.raises(RunError):
        runs.compare(f"output={notes}")
    assert (notes / "compare.html").read_text() == "mine"


def test_a_sweeps_results_are_among_its_parents_artifacts(runs: Runs) -> None:
    client = runs.store.client
    parent = client.create_run(runs.store.study(runs.study), tags={"sweep": "abc"}).info
    runs.add(BASE, {"loss": "dice"}, **{"mlflow.parentRunId": parent.run_id})
    runs.add(BASE, {"loss": "focal"})
    found, _ = runs.compare(what=f'sweep="{parent.run_id[:10]}"')
    assert len(found.standings) == 1
    files = ["claim.md", "cohort.csv", "compare.html", "comparison.json"]
    files += ["figures/intervals.pdf", "figures/intervals.svg", "leaderboard.csv", "methods.md", "pairs.csv", "patients.csv"]
    files += ["table.md", "table.tex"]
    (kept,) = (Path(local_path(parent.artifact_uri)) / "compare").iterdir()
    assert sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*.*")) == files


def test_a_sweeps_answers_to_two_questions_stay_apart_whatever_their_folders_are_called(runs: Runs, tmp_path: Path) -> None:
    parent = runs.store.client.create_run(runs.store.study(runs.study), tags={"sweep": "abc"}).info
    runs.add(BASE, {"loss": "dice"}, **{"mlflow.parentRunId": parent.run_id})
    for score in ("dice", "hd95", "dice"):
        runs.compare(f"score={score}", f"output={tmp_path / score / 'mine'}", what=f"sweep={parent.run_id}")
    kept = Path(local_path(parent.artifact_uri)) / "compare"
    asked = [json.loads((folder / "comparison.json").read_text()) for folder in kept.iterdir()]
    assert sorted(question["score"] for question in asked) == ["dice", "hd95"]


def test_the_same_question_to_another_store_is_another_question(runs: Runs, tmp_path: Path) -> None:
    runs.add(BASE, {"loss": "dice"})
    runs.compare(f"output={tmp_path / 'mine'}")
    other = Runs(tmp_path / "other", runs.study)
    other.add(BASE, {"loss": "dice"})
    with pytest.raises(RunError, match="holds something else"):
        other.compare(f"output={tmp_path / 'mine'}")


@pytest.fixture
def scored(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the runs whose test was scored, which is made up."""
    asked = []

    def score_test(record: Record) -> None:
        asked.append(record.id)
        with record.file("patients.csv") as file, file.open("a") as stream:
            scores = zip(TESTED, (0.5, 0.4, 0.6), strict=True)
            stream.write("".join(f"test,{patient},a site,{score},1\n" for patient, score in scores))
        runs.store.client.log_metric(record.id, "final/test/dice", 0.5)
        runs.store.client.set_tag(record.id, uses.use_tag(record.slices("test")), "1")

    monkeypatch.setitem(sys.modules, "attnunet.evaluation.scoring", SimpleNamespace(score_test=score_test))
    monkeypatch.setattr("attnunet.training.runtime.configure", lambda *_: None)
    return asked


def test_no_test_is_scored_where_anything_can_still_be_refused(runs: Runs, scored: list[str], tmp_path: Path) -> None:
    runs.add(BASE, {"loss": "dice"})
    other = runs.add(BASE, {"loss": "focal"}, tested=["t0", "t1"])
    with pytest.raises(Unpaired, match=r"their test patients differ(?s:.*)only in the first: t2"):
        runs.compare("test=true")
    runs.store.client.delete_run(other)
    (tmp_path / "full.txt").touch()
    with pytest.raises(RunError, match="holds something else"):
        runs.compare("test=true", f"output={tmp_path}")
    bare = runs.add(BASE, {"loss": "tversky"})
    runs.artifact(bare, "checkpoints/best.keras").unlink()
    with pytest.raises(RunError, match=f"run {bare} .* lacks checkpoints/best.keras"):
        runs.compare("test=true")
    assert scored == []
    assert not runs.folder().exists()


def test_runs_are_not_ranked_over_different_validation_patients_before_the_best_are_taken(
    runs: Runs, scored: list[str]
) -> None:
    runs.add(BASE[:3] + 0.2, {"loss": "dice"}, patients=["a", "b", "c"])
    runs.add(BASE[:3], {"loss": "focal"}, patients=["a", "b", "d"])
    for test in ("false", "true"):
        with pytest.raises(Unpaired, match="their val patients differ"):
            runs.compare("top=1", f"test={test}")
    assert scored == []


def test_the_count_is_that_of_the_test_split_that_is_compared(runs: Runs) -> None:
    """The run was scored on its own test split twice, and on another one nine times."""
    own, other = (uses.use_tag([(patient, 1) for patient in patients]) for patients in ("uvw", "xyz"))
    runs.add(BASE, {"loss": "dice"}, tested="uvw", test=[0.9, 0.8, 0.9], **{own: "2", other: "9"})
    _, text = runs.compare("test=true")
    assert "this test split has now been scored 2 times" in text


def test_the_test_scores_only_the_chosen_runs_that_have_none(runs: Runs, scored: list[str]) -> None:
    """Ranked by validation, compared on the test, where the order is another one."""
    worst = runs.add(BASE, {"loss": "focal"})
    best = runs.add(BASE + 0.2, {"loss": "dice"})
    earlier = {uses.use_tag([(patient, 1) for patient in TESTED]): "3"}
    tested = runs.add(BASE + 0.1, {"loss": "tversky"}, test=[0.9, 0.8, 0.9], **earlier)
    found, text = runs.compare("test=true", "top=2")
    assert scored == [best]
    assert [s.row.runs[0].id for s in found.standings] == [best, tested]
    assert [s.mean for s in found.standings] == pytest.approx([0.5, 2.6 / 3])
    assert [s.validation for s in found.standings] == pytest.approx([BASE.mean() + 0.2, BASE.mean() + 0.1])
    assert found.patients == ("t0", "t1", "t2")
    assert "this test split has now been scored 4 times" in text
    assert "this test split has now been scored 4 times" in (runs.folder() / "compare.html").read_text()
    assert "Validation patients chose" not in text
    # Not a second time, and not those that were not chosen.
    runs.compare("test=true", "top=2")
    assert scored == [best]
    assert worst not in scored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "study=None, sweep=None, runs=None: set one of the three"),
        (("study=a", "sweep=b"), "study=a, sweep=b, runs=None: set one of the three"),
        (("study=a", "alpha=0"), "alpha=0: Input should be"),
        (("study=a", "top=0"), "top=0: Input should be greater than 0"),
        (("study=a", "margins=1"), "margins"),
        (
            ("runs=[abc,12345678]",),
            "runs.1=12345678: is read as a number; quote a text twice",
        ),
        (('runs=[abc,"12345678"]',), "no runs there"),
        (("study=a",), "no runs there"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_leaves_nothing(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = command(*arguments, cwd=tmp_path, name="compare")
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_100_runs_are_compared_without_tensorflow(runs: Runs) -> None:
    for place in range(100):
        runs.add(BASE + RNG.normal(0, 0.05, 20), {"loss": f"loss{place:03}"})
    result = command(
        f"study={runs.study}", "resamples=999", cwd=runs.store.root.parent, python=("-X", "importtime"), name="compare"
    )
    assert result.returncode == 0, result.stderr
    assert "100 rows, 100 runs, 20 validation patients, 4950 pairs" in result.stdout
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")}
    assert "mlflow" in imported
    assert not {"tensorflow", "keras", "albumentations"} & imported
    with (runs.folder() / "pairs.csv").open() as stream:
        assert sum(1 for _ in csv.DictReader(stream)) == 4950


@pytest.mark.slow
def test_jobs_of_a_real_sweep_are_tested_once_and_their_comparison_is_kept(lgg_root: Path, tmp_path: Path) -> None:
    swept = command("-m", "model=conv,separable", *SMOKE, "data=lgg", f"data.root={lgg_root}", "study=seen", cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    store = Store(tmp_path / "mlruns", None, 0)
    (parent,) = store.runs(store.study("seen"), "tags.sweep LIKE '%'")
    asked = (f"sweep={parent.info.run_id}", "test=true", "resamples=199")
    for scoring in (True, False):
        result: subprocess.CompletedProcess[str] = command(*asked, cwd=tmp_path, name="compare")
        assert result.returncode == 0, result.stderr
        assert ("scoring the test 2/2" in result.stdout) == scoring
        assert "this test split has now been scored 2 times" in result.stdout
        assert "2 rows, 2 runs" in result.stdout
    jobs = store.runs(store.study("seen"), f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    with (tmp_path / "mlruns" / "compare" / f"sweep-{parent.info.run_id[:8]}" / "leaderboard.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    means = {row["model"]: float(row["mean"]) for row in rows}
    logged = {job.data.params["model"]: job.data.metrics["final/test/dice"] for job in jobs}
    assert means == pytest.approx(logged, nan_ok=True)
