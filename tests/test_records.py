"""Runs of a store as the commands that look back at them see them."""

import hashlib
import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from attnunet.data.files import write_csv
from attnunet.errors import read_notes
from attnunet.tracking import records
from attnunet.tracking.records import Record
from attnunet.tracking.run import Run, open_run
from attnunet.tracking.store import Away, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A single run, and a sweep of two jobs, in the study "seen"."""
    store = Store(tmp_path_factory.mktemp("records") / "mlruns", None, patience=0)
    study = store.study("seen")
    client = store.client
    client.create_run(study, tags={"leaking": "true"}, run_name="alone")
    parent = client.create_run(study, tags={"sweep": "abc"}, run_name="parent").info.run_id
    for seed in (0, 1):
        child = client.create_run(study, tags={"mlflow.parentRunId": parent}, run_name=f"seed{seed}").info.run_id
        client.log_param(child, "seed", seed)
        client.log_metric(child, "val/dice", 0.5 + seed / 10)
        client.log_text(child, f"seed: {seed}\n", "config.yaml")
        client.log_text(child, json.dumps({"val": ["a", "b"]}), "split.json")
        client.log_text(child, "part,patient,dice\nval,a,0.5\nval,b,\ntest,c,1.0\n", "patients.csv")
        client.set_terminated(child, "FINISHED")
    return store


def parent(store: Store) -> str:
    (found,) = store.runs(store.study("seen"), "tags.sweep = 'abc'")
    return str(found.info.run_id)


def test_a_study_has_its_runs_but_not_the_parents_of_its_sweeps(store: Store) -> None:
    assert [record.name for record in records.runs_of_study(store, "seen")] == ["alone", "seed0", "seed1"]


def test_a_sweep_has_its_jobs(store: Store) -> None:
    jobs = records.runs_of_sweep(store, parent(store))
    assert [(job.name, job.status, job.params["seed"], job.leaking) for job in jobs] == [
        ("seed0", "FINISHED", "0", False),
        ("seed1", "FINISHED", "1", False),
    ]
    assert jobs[1].metrics["val/dice"] == 0.6


def test_a_run_is_found_by_the_first_digits_of_its_id(store: Store) -> None:
    (alone, *_) = records.runs_of_study(store, "seen")
    assert [found.id for found in records.find_runs(store, [alone.id, alone.id[:12]])] == [alone.id, alone.id]
    assert alone.leaking


def test_the_page_of_a_run_and_its_folder_are_where_a_reader_can_open_them(store: Store, tmp_path: Path) -> None:
    (alone, seed0, *_) = records.runs_of_study(store, "seen")
    place = f"#/experiments/{store.study('seen')}/runs/{seed0.id}"
    assert seed0.page == f"http://127.0.0.1:5000/{place}"
    assert seed0.folder == (store.root / "artifacts" / seed0.id / "artifacts").as_uri()
    assert alone.folder == ""  # it logged no file
    assert Record(Store(tmp_path, "http://host:8080/mlflow/", 0), seed0.run).page == f"http://host:8080/mlflow/{place}"


def test_a_runs_files_are_read_as_data(store: Store) -> None:
    (_, job, _) = records.runs_of_study(store, "seen")
    assert job.config.seed == 0
    assert job.split["val"] == ["a", "b"]
    assert job.patients("val") == [
        {"part": "val", "patient": "a", "dice": "0.5"},
        {"part": "val", "patient": "b", "dice": ""},
    ]
    assert job.patients("train") == []


def test_patients_come_back_as_they_were_named(store: Store) -> None:
    """Also with the line breaks in their names."""
    names = ["=1+1", "'q", "a,b", "a\nb", "a\r\nb", "\t=z", "", "張"]
    run = store.client.create_run("0")  # in no study
    table = write_csv({"part": "val", "patient": name, "volume_error": -0.5} for name in names)
    store.client.log_text(run.info.run_id, table, "patients.csv")
    rows = Record(store, run).patients("val")
    assert rows == [{"part": "val", "patient": name, "volume_error": "-0.5"} for name in names]


def test_a_table_that_an_earlier_version_wrote_is_read(store: Store) -> None:
    run = store.client.create_run("0")
    text = "part,patient,volume_error\r\nval,=1+1,-0.5\r\nval,'q,nan\r\n"
    store.client.log_text(run.info.run_id, text, "patients.csv")
    assert Record(store, run).patients("val") == [
        {"part": "val", "patient": "=1+1", "volume_error": "-0.5"},
        {"part": "val", "patient": "'q", "volume_error": "nan"},
    ]


def test_a_run_stands_when_it_has_finished_and_none_replaced_it(store: Store) -> None:
    alone, first, second = records.runs_of_study(store, "seen")
    assert [run.is_current for run in (alone, first, second)] == [False, True, True]
    store.supersede([second.id], by=first.id)
    assert [run.is_current for run in records.runs_of_study(store, "seen")] == [False, True, False]
    store.client.delete_tag(second.id, "superseded")


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    (alone, *_) = records.runs_of_study(store, "seen")
    with pytest.raises(
        records.NotFound, match=r"study=unseen: not in .*mlflow.db; did you mean seen\?\n  allowed: Default, seen"
    ):
        records.runs_of_study(store, "unseen")
    with pytest.raises(records.NotFound, match="run=zzz: no run with such an id"):
        records.find_runs(store, ["zzz"])
    with pytest.raises(records.NotFound, match="alone is a run, not the parent of a sweep"):
        records.runs_of_sweep(store, alone.id)
    with pytest.raises(records.NotFound, match=r"has no artifact split\.json"):
        _ = alone.split


def test_an_artifact_that_a_server_cannot_give_now_is_not_said_to_be_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As of a server: the files are not on this disk."""
    job = records.runs_of_study(store, "seen")[1]
    elsewhere = Record(Store(tmp_path, "http://127.0.0.1:9", patience=0), job.run)
    monkeypatch.setattr(records, "local_path", lambda uri: str(tmp_path / "nowhere"))
    with pytest.raises(Away, match=r"the tracking server http://127\.0\.0\.1:9 does not answer"):
        elsewhere.patients("val")
    # The same runs, from a store that answers: by listing what there is.
    assert (job.has("split.json"), job.has("checkpoints/best.keras")) == (True, False)
    assert len(job.patients("val")) == 2
    with pytest.raises(records.NotFound, match=r"has no artifact checkpoints/best\.keras"):
        job.text("checkpoints/best.keras")


@pytest.fixture(scope="module")
def written(store: Store) -> Run:
    """A run whose artifacts were logged as attnunet logs them."""
    run = Run(store, store.begin(store.study("written"), "written", {}))
    run.text("seed: 0\n", "config.yaml")
    run.text("part,patient,dice\nval,a,0.5\n", "patients.csv")
    run.text("part,patient,dice\nall,a,0.5\n", "evaluations/x.y/patients.csv")
    run.text('{"threshold": 0.5}', "checkpoints/predictor.json")
    run.text("a network", "checkpoints/best.keras")
    return run


def record_of(run: Run) -> Record:
    (found,) = records.find_runs(run.store, [run.id])
    return found


def test_what_a_run_wrote_is_taken(written: Run) -> None:
    record = record_of(written)
    assert record.patients("val") == [{"part": "val", "patient": "a", "dice": "0.5"}]
    assert record.text("evaluations/x.y/patients.csv").startswith("part,")
    with record.file("checkpoints") as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["best.keras", "predictor.json"]
    assert record.tags["patients.checksum"] == hashlib.blake2b(b"part,patient,dice\nval,a,0.5\n", digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("config.yaml", "config.yaml"),
        ("patients.csv", "patients.csv"),
        ("evaluations/x.y/patients.csv", "evaluations/x.y/patients.csv"),
        ("checkpoints/predictor.json", "checkpoints"),
        ("checkpoints/best.keras", "checkpoints/best.keras"),
        ("checkpoints/best.keras", "checkpoints"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_was_changed_since_is_refused_by_name(
    path: str, asked: str, elsewhere: bool, written: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from this disk, or downloaded as from a server."""
    file = Path(written.artifacts, path)
    before = file.read_bytes()
    file.write_bytes(before + b"\n")
    if elsewhere:
        monkeypatch.setattr(records, "local_path", lambda uri: "/nowhere")
    with (
        pytest.raises(records.Tampered, match=rf"/{path} is not the file that run {written.id} \(written\) wrote"),
        record_of(written).file(asked),
    ):
        pass
    file.write_bytes(before)
    with record_of(written).file(asked):
        pass


def test_what_a_run_replaces_is_the_runs_own_before_and_after(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the scores of the test, which join patients.csv when they are asked for; the process may die in between."""
    run = Run(store, store.begin(store.study("written"), "replaces", {}))
    run.text("before", "patients.csv")
    again = Run(store, run.id)
    with monkeypatch.context() as killed:
        killed.setattr(store.client, "log_artifact", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            again.text("after", "patients.csv")
    assert record_of(run).text("patients.csv") == "before"
    Path(run.artifacts, "patients.csv").write_text("after")
    assert record_of(run).text("patients.csv") == "after"
    earlier = record_of(run)
    again.text("last", "patients.csv")
    assert earlier.text("patients.csv") == "last"
    Path(run.artifacts, "patients.csv").write_text("before")
    with pytest.raises(records.Tampered):
        record_of(run).text("patients.csv")


def test_a_run_that_fails_says_where_its_traceback_is(store: Store) -> None:
    with (
        pytest.raises(ZeroDivisionError) as failed,
        open_run(store, store.study("failing"), "fails", {}, {}) as run,
    ):
        raise ZeroDivisionError("division by zero")
    (note,) = read_notes(failed.value)
    words, _, place = note.partition(": ")
    assert words == f"the traceback of run {run.id}"
    assert Path(place).read_text().endswith("ZeroDivisionError: division by zero\n")
    assert record_of(run).status == "FAILED"


def test_a_run_whose_traceback_cannot_be_stored_points_nowhere(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.client, "log_artifact", Mock(side_effect=OSError("no")))
    with (
        pytest.raises(ZeroDivisionError) as failed,
        open_run(store, store.study("failing"), "fails", {}, {}) as run,
    ):
        raise ZeroDivisionError
    assert read_notes(failed.value) == []
    assert record_of(run).status == "FAILED"


def test_a_study_that_was_deleted_is_said(store: Store) -> None:
    store.client.delete_experiment(store.study("gone"))
    with pytest.raises(records.NotFound, match=r"study=gone was deleted in MLflow: take another name, or MLFLOW_T"):
        records.runs_of_study(store, "gone")


def test_more_runs_than_a_page_holds_are_all_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "mlruns", None, patience=0)
    study = store.study("many")
    for number in range(5):
        store.client.create_run(study, run_name=str(number))
    monkeypatch.setattr(records, "PAGE", 2)
    assert len(records.runs_of_study(store, "many")) == 5
