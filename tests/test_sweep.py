"""A sweep's bookkeeping: what becomes of a job, the table of all, the picture of the scores."""

import csv
import json
import math
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from attnunet.figures import sweep_scores
from attnunet.tracking.processes import process_tags
from attnunet.tracking.records import Record
from attnunet.tracking.run import Pruned, open_run
from attnunet.tracking.store import Away, Store, local_path, open_store
from attnunet.tracking.sweep import Outcome, Sweep, print_jobs, read_outcomes, round_number, run_job

JOBS = [["model=conv", "seed=0"], ["model=conv", "seed=1"], ["model=conv", "seed=2"]]
OVERRIDES = ["model=conv", "seed=0,1,2"]
SPACE = {"a": "interval(0,1)"}


def sweep(root: Path, folder: Path, study: str = "swept") -> Sweep:
    store, swept = open_store(root, None, 0), {"seed": "0,1,2"}
    return Sweep(store, study, "val/dice", OVERRIDES, swept, JOBS, folder, Console(width=160))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep") / "mlruns"
    assert Store(root, None, 0).client
    return root


def place(folder: Path, number: int) -> Path:
    """Make the folder of a job, as Hydra does."""
    made = folder / str(number)
    made.mkdir(parents=True)
    return made


def worked(folder: Path, number: int, outcome: Outcome) -> None:
    run_job(lambda: outcome, number, JOBS[number], place(folder, number))


def test_a_job_that_fails_is_an_outcome_and_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Outcome:
        raise ValueError("no such thing\nand more")

    outcome = run_job(fails, 3, ["seed=1"], tmp_path)
    assert outcome.how == "failed"
    assert math.isnan(outcome.score)
    facts = json.loads((tmp_path / "outcome.json").read_text())
    assert (facts["job"], facts["reason"], facts["overrides"]) == (3, "ValueError: no such thing", ["seed=1"])
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_job_that_is_stopped_stops_the_sweep(end: type[BaseException], tmp_path: Path) -> None:
    def stopped() -> Outcome:
        raise end

    with pytest.raises(end):
        run_job(stopped, 0, [], place(tmp_path, 0))
    ((_, facts),) = read_outcomes(tmp_path)
    assert facts["how"] == "interrupted"


def test_a_job_says_that_it_runs(tmp_path: Path) -> None:
    def works() -> Outcome:
        ((folder, facts),) = read_outcomes(tmp_path)
        assert (folder, facts["how"], facts["job"], facts["overrides"]) == (tmp_path / "2", "running", 2, ["seed=1"])
        return Outcome("finished", "a" * 32, 0.5)

    assert run_job(works, 2, ["seed=1"], place(tmp_path, 2)).how == "finished"
    assert not list(read_outcomes(tmp_path, known={tmp_path / "2"}))


def test_the_table_names_each_job_by_what_it_changed(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = sweep(root, tmp_path, "table")
    worked(tmp_path, 0, Outcome("finished", "a" * 32, 0.5))
    worked(tmp_path, 1, Outcome("reused", "b" * 32, 0.75))
    assert not begun.close()

    parent = begun.store.client.get_run(begun.run.id)
    assert parent.info.status == "FAILED"
    with (Path(local_path(parent.info.artifact_uri)) / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["seed"], row["how"], row["score"]) for row in rows] == [
        ("0", "finished", "0.5"),
        ("1", "reused", "0.75"),
        ("2", "missing", "nan"),
    ]
    assert rows[2]["reason"] == "did not start"
    assert "model" not in rows[0]  # the same in all
    assert (Path(local_path(parent.info.artifact_uri)) / "figures" / "sweep.png").exists()
    printed = capsys.readouterr().out
    assert "3 jobs: 1 finished, 1 reused, 1 missing" in printed
    assert "0.7500 *" in printed
    assert "did not start" in printed


def test_a_sweep_whose_jobs_all_have_a_result_is_finished(root: Path, tmp_path: Path) -> None:
    begun = sweep(root, tmp_path, "all")
    for number, how in enumerate(("finished", "resumed", "reused")):
        worked(tmp_path, number, Outcome(how, "a" * 32, 0.5))
    assert begun.close()
    parent = begun.store.client.get_run(begun.run.id)
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"model": "conv", "seed": "0,1,2"}


def test_the_parent_run_shows_the_best_score_of_its_jobs_also_after_a_better_one_came(root: Path, tmp_path: Path) -> None:
    for number, (scores, best) in enumerate((([0.5, 0.75], "0.7500 (run aaaaaaaa, seed=1)"), ([0.25, 0.875], "0.8750"))):
        begun = sweep(root, tmp_path / str(number), "best")
        assert "No job has a result yet." in begun.store.client.get_run(begun.run.id).data.tags["mlflow.note.content"]
        for job, score in enumerate(scores):
            worked(tmp_path / str(number), job, Outcome("finished", "a" * 32, score))
        begun.close()
        parent = begun.store.client.get_run(begun.run.id).data
        assert parent.metrics["final/monitor"] == max(scores)
        assert f"Best val/dice: {best}" in parent.tags["mlflow.note.content"]
        assert parent.tags["mlflow.note.content"].startswith("3 jobs over seed=0,1,2.")


def test_the_table_is_printed_where_the_server_stays_away(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = sweep(root, tmp_path, "away")
    for number in range(3):
        worked(tmp_path, number, Outcome("finished", "a" * 32, 0.5))

    def away() -> None:
        raise Away("the tracking server does not answer")

    monkeypatch.setattr(begun.store, "reap", away)
    assert not begun.close()
    printed = capsys.readouterr()
    assert "3 jobs: 3 finished" in printed.out
    assert "attnunet: the tracking server does not answer; the same command sends the missing results" in printed.err


def test_a_sweep_that_could_not_start_leaves_no_parent_run(root: Path, tmp_path: Path) -> None:
    begun = sweep(root, tmp_path, "nothing")
    begun.abandon()
    assert begun.store.client.get_run(begun.run.id).info.lifecycle_stage == "deleted"
    assert begun.store.runs(begun.run.experiment_id, "") == []


def test_a_sweep_that_broke_off_keeps_its_parent_run(root: Path, tmp_path: Path) -> None:
    begun = sweep(root, tmp_path, "broken off")
    worked(tmp_path, 0, Outcome("finished", "a" * 32, 0.5))
    begun.abandon()
    parent = begun.store.client.get_run(begun.run.id)
    assert (parent.info.lifecycle_stage, parent.info.status) == ("active", "FAILED")


def test_the_same_sweep_goes_on_under_the_same_parent(root: Path, tmp_path: Path) -> None:
    first = sweep(root, tmp_path / "first", "again")
    first.close("KILLED")
    assert first.store.client.get_run(first.run.id).info.status == "KILLED"
    second = sweep(root, tmp_path / "second", "again")
    assert second.run.id == first.run.id
    assert second.store.client.get_run(first.run.id).info.status == "RUNNING"
    # Beside one that is under way, a parent of its own.
    third = sweep(root, tmp_path / "third", "again")
    assert third.run.id != first.run.id
    third.close()
    second.close()


def test_outcomes_of_an_earlier_sweep_in_the_same_folder_do_not_count(root: Path, tmp_path: Path) -> None:
    worked(tmp_path, 0, Outcome("finished", "a" * 32, 0.5))
    begun = sweep(root, tmp_path, "same folder")
    assert [row["how"] for row in begun.rows()] == ["missing"] * 3
    begun.close()


def test_a_failed_jobs_run_is_found_by_its_overrides(root: Path, tmp_path: Path) -> None:
    begun = sweep(root, tmp_path, "failed")
    tags = {"mlflow.parentRunId": begun.run.id, "overrides": "model=conv seed=1", **process_tags()}
    child = begun.store.client.create_run(begun.run.experiment_id, tags=tags)
    worked(tmp_path, 1, Outcome("failed", None, math.nan, "ValueError: no"))
    assert begun.rows()[1]["run_id"] == child.info.run_id
    begun.close()


def test_a_job_whose_process_was_killed_is_interrupted(root: Path, tmp_path: Path) -> None:
    begun = sweep(root, tmp_path, "killed")
    worked(tmp_path, 1, Outcome("running", None, math.nan))
    rows = begun.rows()
    assert [(row["how"], row["reason"]) for row in rows] == [
        ("missing", "did not start"),
        ("interrupted", "its process was ended"),
        ("missing", "did not start"),
    ]
    begun.close()


def test_a_value_that_hydra_writes_in_another_way_is_no_difference(root: Path, tmp_path: Path) -> None:
    jobs = [["trainer.figures=false", f"seed={seed}"] for seed in (0, 1)]
    begun = Sweep(open_store(root, None, 0), "written", "val/dice", jobs[0], {}, jobs, tmp_path, Console(width=160))
    run_job(lambda: Outcome("finished", "a" * 32, 0.5), 0, ["trainer.figures=False", "seed=0"], place(tmp_path, 0))
    assert [{*row} & {"trainer.figures", "seed"} for row in begun.rows()] == [{"seed"}, {"seed"}]
    begun.close()


def test_a_pruned_run_is_killed_and_in_the_table_of_its_sweep(root: Path, tmp_path: Path) -> None:
    store = open_store(root, None, 0)
    before = Sweep(store, "pruned", "val/dice", ["a=interval(0,1)"], SPACE, None, tmp_path / "first", Console(width=160))

    tags = {"overrides": "a=0.1", "mlflow.parentRunId": before.run.id}
    with suppress(Pruned), open_run(store, before.run.experiment_id, "pruned", {}, tags) as begun:
        begun.metrics({"val/dice": 0.25}, 3)
        raise Pruned(3)
    (tmp_path / "first" / "0").mkdir(parents=True)
    run_job(lambda: Outcome("pruned", begun.id, math.nan, "pruned after epoch 3"), 0, ["a=0.1"], tmp_path / "first" / "0")
    assert before.close()  # as a job that did what the search asked
    (run,) = before.children()
    assert (run.info.status, run.data.tags["pruned"], run.data.metrics) == ("KILLED", "3", {"val/dice": 0.25})

    after = Sweep(store, "pruned", "val/dice", ["a=interval(0,1)"], SPACE, None, tmp_path / "second", Console(width=160))
    assert after.run.id == before.run.id
    (row,) = after.rows()
    assert (row["how"], row["reason"], row["run_id"]) == ("pruned", "pruned after epoch 3", run.info.run_id)
    assert math.isnan(row["score"])
    assert after.close()
    record = Record(store, store.client.get_run(begun.id))
    assert record.state == "pruned after epoch 3"

    with open_run(store, before.run.experiment_id, "pruned", {}, tags, begun.id):
        pass
    record = Record(store, store.client.get_run(begun.id))
    assert record.state == "FINISHED"
    assert "pruned" not in record.tags


def test_the_picture_shows_each_job_over_each_swept_parameter() -> None:
    figure = sweep_scores(
        {"rate": ["0.1", "0.01", "0.1", "0.01"], "loss": ["dice", "dice", "focal", "focal"]}, [0.4, 0.5, 0.6, 0.7]
    )
    assert figure is not None
    rate, loss = figure.axes
    assert [label.get_text() for label in rate.get_xticklabels()] == ["0.01", "0.1"]  # as numbers
    dots, means = rate.get_lines()
    assert list(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [(1, 0.4), (0, 0.5), (1, 0.6), (0, 0.7)]
    assert list(means.get_ydata()) == pytest.approx([0.6, 0.5])
    assert [label.get_text() for label in loss.get_xticklabels()] == ["dice", "focal"]


@pytest.mark.parametrize(("parameters", "scores"), [({}, [0.5]), ({"seed": ["0", "1"]}, [math.nan, math.nan])])
def test_where_there_is_nothing_to_compare_there_is_no_picture(parameters: dict[str, list[str]], scores: list[float]) -> None:
    assert sweep_scores(parameters, scores) is None


def test_a_failed_job_leaves_its_place_in_the_picture_empty() -> None:
    figure = sweep_scores({"seed": ["0", "1"]}, [0.5, math.nan])
    assert figure is not None
    _, means = figure.axes[0].get_lines()
    assert means.get_ydata()[0] == 0.5
    assert math.isnan(means.get_ydata()[1])


@pytest.mark.parametrize(("lowest", "best"), [(False, "0.7500 *"), (True, "0.2500 *")])
def test_the_best_score_is_starred_of_a_loss_the_lowest(lowest: bool, best: str) -> None:
    outcomes = [Outcome("finished", "a" * 32, 0.25), Outcome("finished", "b" * 32, 0.75), Outcome("failed", None, math.nan)]
    console = Console(width=100, record=True)
    print_jobs(console, [{"job": n, "seconds": 1.0, **asdict(outcome)} for n, outcome in enumerate(outcomes)], [], lowest)
    (starred,) = (line for line in console.export_text().splitlines() if "*" in line)
    assert best in starred


def test_the_table_shows_overrides_and_reasons_as_they_are() -> None:
    """What looks like markup or an emoji is a path or a value."""
    rows = [
        {
            "job": n,
            "data.root[x]": f"/w[/b]{n} :brain:",
            "how": "failed",
            "score": math.nan,
            "run_id": None,
            "reason": "[1, 2] [a]",
        }
        for n in (0, 1)
    ]
    console = Console(width=160, record=True)
    print_jobs(console, rows, ["data.root[x]"], lowest=False)
    text = console.export_text()
    for shown in ("data.root[x]", "/w[/b]0 :brain:", "/w[/b]1 :brain:", "[1, 2] [a]"):
        assert shown in text


def test_rows_print_in_a_narrow_terminal(root: Path, tmp_path: Path) -> None:
    rows = [{"job": 0, "seed": "0", "how": "failed", "score": math.nan, "run_id": None, "reason": "x" * 200}]
    console = Console(width=60, record=True)
    print_jobs(console, rows, ["seed"], lowest=False)
    assert console.export_text().count("x") == 200


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.0012520653814999472", "0.001252"), ("0.00025", "0.00025"), ("0.001", "0.001"), ("[8,16.123456]", "[8,16.123456]")],
)
def test_a_value_has_four_digits_in_the_terminal(value: str, expected: str) -> None:
    assert round_number(value) == expected


@pytest.mark.parametrize("width", [100, 160])
def test_the_table_is_no_wider_than_the_terminal(width: int) -> None:
    keys = ("data.exclude", "model.filters", "optimizer.learning_rate", "loss.weights.focal", "augment", "split.seed")
    how = {"how": "interrupted", "score": math.nan, "run_id": "a" * 32, "reason": "its process was ended"}
    rows = [{"job": n, **dict.fromkeys(keys, f"/a/long/folder/of/somebody/{n}.txt"), **how} for n in (0, 1)]
    console = Console(width=width, record=True)
    print_jobs(console, rows, keys, lowest=False)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    told = "".join(cell.strip() for line in lines for cell in line.split("│")[2:3])  # the first of the keys
    assert "/a/long/folder/of/somebody/0.txt/a/long/folder/of/somebody/1.txt" in told
