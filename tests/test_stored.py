"""What `attnunet-store ls` and `show` print: the runs of each study, all about one run, and how to go on."""

import io
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from attnunet import store as commands
from attnunet.config import format_override
from attnunet.errors import UserError
from attnunet.evaluation.stored import describe_age, order_runs, print_run, print_studies
from attnunet.tracking.resume import unfinished_folder
from attnunet.tracking.store import Store
from tests.serving import free_port, serving

SCORES = {
    "final/monitor": 0.81,
    "final/val/dice": 0.8,
    "final/val/dice_ci_low": 0.7,
    "final/val/dice_ci_high": 0.9,
    "final/val/dice_patients": 9.0,
}


def fill(store: Store) -> dict[str, str]:
    """Return the ids of a finished run, of a sweep with two jobs, the second one killed, and of a run of another study."""
    client, study = store.client, store.study("tried")
    ids = {}
    for name, tags, start in (
        ("alone", {}, 0),
        ("sweep", {"sweep": "s"}, 1),
        ("first", {"mlflow.parentRunId": "sweep", "fingerprint": "def"}, 2),
        ("second", {"mlflow.parentRunId": "sweep", "fingerprint": "abc", "error": "ValueError: [x]", "host": "here"}, 3),
    ):
        tags |= {"mlflow.parentRunId": ids["sweep"]} if "mlflow.parentRunId" in tags else {}
        started = int(time.time() * 1000) - (10 - start) * 3_600_000
        ids[name] = client.create_run(study, started, {"command": f"train {name}", **tags}, run_name=name).info.run_id
        client.set_terminated(ids[name], "KILLED" if name == "second" else "FINISHED", started)
    for name, value in SCORES.items():
        client.log_metric(ids["alone"], name, value)
    for step in (1, 2):
        client.log_metric(ids["alone"], "train/epoch_seconds", 75.0, step=step)
    for name, value in {"model": "conv", "model.gate": "none", "seed": "3", "init": "None"}.items():
        client.log_param(ids["alone"], name, value)
    for path in (
        "config.yaml",
        "checkpoints/best.keras",
        "checkpoints/predictor.json",
        *(f"figures/{n}.png" for n in range(5)),
    ):
        client.log_text(ids["alone"], "x" * 1000, path)
    ids["other"] = client.create_run(store.study("other"), run_name="other").info.run_id
    state = unfinished_folder(store, study, "abc")
    state.mkdir(parents=True)
    (state / "state.npz").write_text("x" * 2000)
    return ids


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, str]]:
    store = Store(tmp_path_factory.mktemp("stored") / "mlruns", None, patience=0)
    return store, fill(store)


def console(out: io.StringIO, width: int) -> Console:
    return Console(file=out, width=width, soft_wrap=True, highlight=False, markup=False)


def listed(store: Store, study: str | None, width: int = 100) -> list[str]:
    out = io.StringIO()
    print_studies(store, study, console(out, width))
    return out.getvalue().splitlines()


def shown(store: Store, run_id: str) -> str:
    out = io.StringIO()
    print_run(store, run_id, console(out, 100))
    return out.getvalue()


def test_a_study_is_listed_from_its_latest_run_with_the_jobs_below_their_sweep(filled: tuple[Store, dict[str, str]]) -> None:
    store, ids = filled
    title, header, *rows, _ = listed(store, "tried")
    assert (title, header.split()) == ("tried, 4 runs", ["run", "name", "status", "score", "minutes", "age", "size"])
    assert [row.split()[:3] for row in rows] == [
        [ids["sweep"][:8], "sweep", "FINISHED"],
        [ids["second"][:8], "second", "KILLED"],
        [ids["first"][:8], "first", "FINISHED"],
        [ids["alone"][:8], "alone", "FINISHED"],
    ]
    assert rows[1][:18] == f"{ids['second'][:8]}    second"
    assert rows[1].endswith("2.0 kB")  # its state
    assert rows[3].split()[3:5] == ["0.8100", "2.5"]  # minutes: two epochs of 75 s
    assert rows[3].endswith("8.0 kB")
    assert max(map(len, rows)) <= 100


def test_all_studies_are_listed_with_their_latest_runs(
    filled: tuple[Store, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids = filled
    monkeypatch.setattr("attnunet.evaluation.stored.LATEST", 1)
    lines = listed(store, None)
    assert [line for line in lines if ", " in line] == ["other, 1 run", "tried, 4 runs"]
    assert ids["sweep"][:8] in "".join(lines)
    assert ids["alone"][:8] not in "".join(lines)
    assert "3 more: python -m attnunet.store ls tried" in lines
    with pytest.raises(UserError, match=r"study=tred: not in .*; did you mean tried\?\n  allowed: Default, other, tried"):
        listed(store, "tred")


def test_a_store_without_runs_says_so(filled: tuple[Store, dict[str, str]], tmp_path: Path) -> None:
    store, _ = filled
    client = store.client
    client.create_experiment("empty")
    assert listed(store, "empty") == [f"no runs in {store.database}"]
    client.delete_experiment(client.get_experiment_by_name("empty").experiment_id)


def test_a_job_whose_sweep_is_gone_stands_alone(filled: tuple[Store, dict[str, str]]) -> None:
    store, ids = filled
    job = store.client.get_run(ids["first"])
    assert order_runs([job]) == [(job, "")]


def test_a_finished_run_is_shown_with_its_scores_files_and_what_follows(filled: tuple[Store, dict[str, str]]) -> None:
    store, ids = filled
    text = shown(store, ids["alone"][:8])
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[:3] == ["alone", f"run       {ids['alone']}", "study     tried"]
    assert "status    FINISHED, started " in text
    assert " ago, 2.5 minutes of training" in text
    assert "settings  model=conv seed=3" in lines  # neither the settings of a group nor None
    assert "command   train alone" in lines
    assert "val (9 patients)" in text
    assert [line.split("│")[2].strip() for line in lines if "95 %" in line] == ["0.700 to 0.900"]
    assert [line.split() for line in lines if line.startswith(("config", "checkpoints", "figures"))] == [
        ["checkpoints/", "best.keras,", "predictor.json", "2.0", "kB"],
        ["config.yaml", "1.0", "kB"],
        ["figures/", "5", "files", "5.0", "kB"],
    ]
    run, place = format_override("run", ids["alone"][:8]), f"tracking.root={store.root}"  # an id of digits is quoted
    assert lines[-3:] == [
        f"python -m attnunet.evaluate {run} {place}",
        f"python -m attnunet.predict {run} input=PATH output=DIR {place}",
        f"python -m attnunet.export {run} format=onnx {place}",
    ]


def test_an_unfinished_run_and_a_sweep_say_how_to_go_on(filled: tuple[Store, dict[str, str]]) -> None:
    store, ids = filled
    killed = shown(store, ids["second"])
    assert "error     ValueError: [x]" in killed
    assert killed.endswith("the same command goes on from its last epoch, on here\n")
    sweep = shown(store, ids["sweep"])
    assert f"{ids['second'][:8]}  second" in sweep
    asked = format_override("sweep", ids["sweep"][:8])
    assert sweep.endswith(f"python -m attnunet.compare {asked} tracking.root={store.root}\n")
    first = shown(store, ids["first"])
    assert "python -m" not in first.partition("command")[2]  # it keeps no checkpoint


def test_an_age_has_a_unit_that_can_be_read() -> None:
    now = time.time() * 1000
    ages = [describe_age(int(now - 1000 * seconds)) for seconds in (-5, 30, 90, 150, 90 * 60, 5 * 3600, 3 * 86400)]
    assert ages == ["0 s", "30 s", "90 s", "2 min", "90 min", "5 h", "3 d"]


@pytest.mark.parametrize("uri", ["ftp://host", "http://me:secret@host"])
def test_an_address_that_is_no_server_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri.*(allowed: http|holds credentials)") as refused:
        commands.check_place(tmp_path, uri)
    assert "secret" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.ci
def test_a_server_is_listed_shown_and_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    server += ["--artifacts-destination", str(tmp_path / "kept"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]

    def ask(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["attnunet-store", *arguments, "--uri", f"http://127.0.0.1:{port}"])
        capsys.readouterr()
        commands.main()
        return capsys.readouterr().out

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with serving(server, port, tmp_path / "server.log") as uri:
        store = Store(tmp_path / "mlruns", uri, patience=0)
        ids = fill(store)
        foreign = store.client.create_run(store.study("other")).info.run_id
        store.client.set_terminated(foreign, "FAILED")
        elsewhere = store.begin(store.study("other"), "elsewhere", {"fingerprint": "f"})
        store.tag(elsewhere, {"host": "another"})
        store.client.set_terminated(elsewhere, "KILLED")
        store.supersede([ids["first"]], by=ids["alone"])

        assert ids["alone"][:8] in ask("ls", "tried")
        assert f"{format_override('run', ids['alone'][:8])} tracking=server tracking.uri={uri}" in ask("show", ids["alone"])
        kept = ask("clean")
        assert "2 runs can be resumed by the same command; without a terminal, such runs stay" in kept
        assert f"{elsewhere}  KILLED      elsewhere, whose state is on another" in kept
        assert "1 run, 0.0 MB freed" in kept
        assert f"MLFLOW_TRACKING_URI={uri} mlflow gc" in kept
        assert "2 runs, 0.0 MB freed" in ask("clean", "--yes")
        left = {run.info.run_id for study in ("tried", "other") for run in store.client.search_runs([store.study(study)])}
        assert left == {ids["alone"], ids["sweep"], ids["other"], foreign}
        assert not list((tmp_path / "mlruns" / "unfinished").iterdir())
        assert list((tmp_path / "kept").rglob("best.keras"))


def test_a_pruned_run_is_listed_and_shown_with_its_last_epoch(tmp_path: Path) -> None:
    store = Store(tmp_path / "mlruns", None, patience=0)
    run = store.client.create_run(store.study("searched"), tags={"pruned": "3"}, run_name="bad").info.run_id
    store.client.set_terminated(run, "KILLED")
    out = io.StringIO()
    print_run(store, run, console(out, 100))
    for shown in (" ".join(listed(store, None)), out.getvalue()):
        assert "pruned after epoch 3" in shown
        assert "KILLED" not in shown
