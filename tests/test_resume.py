"""Whether a run is reused, taken up again or new, and what is said about it."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from attnunet.config.fingerprints import Identity
from attnunet.errors import read_notes
from attnunet.tracking.processes import process_tags
from attnunet.tracking.resume import SCORE, Start, claim_start, count_epochs
from attnunet.tracking.store import Busy, Store
from attnunet.training.state import State

ARITHMETIC = {"threads": "2", "settings": "TF_ENABLE_ONEDNN_OPTS=1"}


def identity(metrics: dict[str, str] | None = None, **arithmetic: str) -> Identity:
    """The identity of the run that is looked for, whose fingerprint is FINGERPRINT without arguments."""
    return Identity("c", "r", {**ARITHMETIC, **arithmetic}, metrics or {"dice": "1", "hd95": "1"})


FINGERPRINT = identity().fingerprint


class Scene:
    """A store with runs as other commands left them."""

    def __init__(self, store: Store, study: str) -> None:
        self.store, self.study = store, store.study(study)
        self.said: list[str] = []

    def run(self, status: str, fingerprint: str = FINGERPRINT, metrics: dict[str, float] | None = None, **tags: str) -> str:
        known = {"fingerprint": fingerprint, "recipe": "r", "machine": "abacus", **ARITHMETIC, **process_tags()}
        run = self.store.client.create_run(self.study, tags={**known, **tags})
        for name, value in (metrics or {}).items():
            self.store.client.log_metric(run.info.run_id, name, value)
        if status != "RUNNING":
            self.store.client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    def look(self, resume: str = "auto", state: bool = False, **now: str) -> Start:
        """Look for a run, whose threads or settings may be others `now`."""
        with claim_start(self.store, self.study, identity(**now), resume, self.said.append) as found:
            pass
        if state:
            found.folder.mkdir(exist_ok=True)
            (found.folder / "state.npz").touch()
            return self.look(resume)
        return found

    def status(self, run_id: str) -> str:
        return str(self.store.client.get_run(run_id).info.status)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("resume") / "mlruns", None, patience=0)


@pytest.fixture
def scene(store: Store, request: pytest.FixtureRequest) -> Scene:
    """In a study of its own."""
    return Scene(store, request.node.name)


@pytest.fixture(scope="module")
def dead() -> str:
    """The `process` tag of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{process.pid} {time.time():.2f}"


def test_what_was_never_run_is_new(scene: Scene) -> None:
    scene.run("FINISHED", fingerprint="other", metrics={SCORE: 0.5}, recipe="another")
    found = scene.look()
    assert (found.how, found.run_id, found.score) == ("finished", None, None)
    assert found.why == "new run: none with this fingerprint"


def test_a_finished_run_is_reused_with_its_score(scene: Scene) -> None:
    run = scene.run("FINISHED", metrics={SCORE: 0.75})
    found = scene.look(state=True)
    assert (found.how, found.run_id, found.score) == ("reused", run, 0.75)
    assert f"reused run {run}" in found.why
    assert not found.folder.exists()  # what a kill after the end had left


def test_a_finished_run_of_another_study_is_not_reused(scene: Scene) -> None:
    scene.run("FINISHED", metrics={SCORE: 0.75})
    scene.study = scene.store.study("yet another")
    assert scene.look().how == "finished"


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_an_unfinished_run_goes_on_under_its_id(scene: Scene, status: str) -> None:
    run = scene.run(status, metrics={"train/loss": 1.0})
    found = scene.look(state=True)
    assert (found.how, found.run_id, found.score) == ("resumed", run, None)
    assert found.why == f"resumed run {run} ({status}) from its last epoch"


@pytest.mark.parametrize("metrics", [{}, {"system/cpu_utilization_percentage": 50.0}])
def test_a_run_that_had_ended_no_epoch_is_taken_up_too(scene: Scene, metrics: dict[str, float]) -> None:
    run = scene.run("KILLED", metrics=metrics)
    assert (scene.look().how, scene.look().run_id) == ("resumed", run)
    assert scene.look().why == f"resumed run {run} (KILLED), which had ended no epoch"


def test_a_run_that_was_killed_between_its_first_metrics_and_its_first_state_goes_on_under_its_id(scene: Scene) -> None:
    scene.look()
    run = scene.run("KILLED", metrics={"train/loss": 1.0})
    assert (scene.look().how, scene.look().run_id) == ("resumed", run)
    assert "had ended no epoch" in scene.look().why


def test_a_run_whose_process_died_without_a_word_is_killed_and_taken_up(scene: Scene, dead: str) -> None:
    run = scene.run("RUNNING", metrics={"train/loss": 1.0}, process=dead)
    assert scene.look(state=True).run_id == run
    assert scene.status(run) == "KILLED"


def test_a_process_number_that_was_given_anew_is_not_taken_for_the_runs(scene: Scene) -> None:
    run = scene.run("RUNNING", process=f"{os.getpid()} 1000000.00")
    scene.look()
    assert scene.status(run) == "KILLED"


def test_a_run_that_lives_on_another_machine_is_not_trained_here(scene: Scene) -> None:
    run = scene.run("RUNNING", host="elsewhere")
    with pytest.raises(Busy, match=f"run {run} is being trained on elsewhere"):
        scene.look()
    assert scene.status(run) == "RUNNING"


def test_a_run_on_another_machine_without_a_heartbeat_is_dead(scene: Scene) -> None:
    run = scene.run("RUNNING", host="elsewhere", heartbeat=f"{time.time() - 3600:.0f}")
    assert scene.look().run_id == run
    assert scene.status(run) == "KILLED"


def test_a_run_that_does_not_name_its_process_blocks_nobody(scene: Scene) -> None:
    run = scene.run("RUNNING")
    for tag in ("process", "host", "heartbeat"):
        scene.store.client.delete_tag(run, tag)
    assert scene.look().run_id == run
    assert scene.status(run) == "KILLED"


def test_a_run_on_another_machine_with_a_heartbeat_from_tomorrow_blocks_nobody(scene: Scene) -> None:
    run = scene.run("RUNNING", host="elsewhere", heartbeat=f"{time.time() + 86_400:.0f}")
    assert scene.look().run_id == run
    assert scene.status(run) == "KILLED"


def test_a_state_of_the_epoch_before_is_a_state_too(scene: Scene) -> None:
    scene.run("KILLED", metrics={"train/loss": 1.0})
    folder = scene.look(state=True).folder
    (folder / "state.npz").rename(folder / "state-before.npz")
    assert "from its last epoch" in scene.look().why


def test_a_run_whose_state_is_gone_is_run_anew_and_superseded(scene: Scene) -> None:
    run = scene.run("KILLED", metrics={"train/loss": 1.0})
    found = scene.look()
    assert (found.how, found.run_id, found.replaces) == ("finished", None, (run,))
    assert f"the state of run {run} (KILLED) is not in" in found.why
    scene.store.supersede(found.replaces, "newer")
    assert scene.look().why == f"new run: run {run} was superseded"


def test_a_state_whose_run_was_deleted_goes_on_under_a_new_one(scene: Scene) -> None:
    run = scene.run("KILLED", metrics={"train/loss": 1.0})
    scene.look(state=True)
    scene.store.client.delete_run(run)
    found = scene.look()
    assert (found.how, found.run_id) == ("resumed", None)
    assert "its run was deleted" in found.why


def test_never_starts_anew_whatever_there_is(scene: Scene) -> None:
    finished, killed = scene.run("FINISHED", metrics={SCORE: 0.75}), scene.run("KILLED")
    scene.look(state=True)
    found = scene.look(resume="never")
    assert (found.how, found.run_id, found.score) == ("finished", None, None)
    assert set(found.replaces) == {finished, killed}
    assert not list(found.folder.iterdir())


def test_another_kind_of_machine_is_said(scene: Scene) -> None:
    scene.run("KILLED", metrics={"train/loss": 1.0})
    found = scene.look(state=True)
    assert found.doubt("slide rule") == "the last bits may differ: the run started on abacus, and this machine is slide rule"
    assert found.doubt("abacus") is None


def test_a_new_run_has_no_machine_to_differ_from(scene: Scene) -> None:
    scene.run("FINISHED", metrics={SCORE: 0.5})
    assert scene.look(resume="never").doubt("slide rule") is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"threads": "1"}, "its threads (2)"),
        ({"settings": "TF_ENABLE_ONEDNN_OPTS=0"}, "its settings (TF_ENABLE_ONEDNN_OPTS=1)"),
        (
            {"threads": "1", "settings": "TF_ENABLE_ONEDNN_OPTS=0"},
            "its threads (2) and its settings (TF_ENABLE_ONEDNN_OPTS=1)",
        ),
    ],
)
def test_other_threads_and_settings_are_said(now: dict[str, str], expected: str, scene: Scene) -> None:
    run = scene.run("FINISHED", fingerprint="other", metrics={SCORE: 0.5})
    assert scene.look(**now).why == f"new run: run {run} is the same but for {expected}, which change the last bits"


def test_a_run_is_made_again_where_one_of_its_metrics_came_from_other_code(scene: Scene) -> None:
    run = scene.run("FINISHED", metrics={SCORE: 0.5})
    scene.store.client.set_tag(run, "metrics", '{"dice": "1", "hd95": "0", "gone": "1"}')
    found = scene.look()
    assert found.why == f"new run: run {run} is the same, but its hd95 came from other code"
    assert (found.score, found.replaces) == (None, (run,))


def test_a_run_that_lacks_a_new_metric_is_reused(scene: Scene) -> None:
    scene.store.client.set_tag(scene.run("FINISHED", metrics={SCORE: 0.5}), "metrics", '{"dice": "1"}')
    assert scene.look().how == "reused"


def test_a_second_process_waits_for_the_first(scene: Scene) -> None:
    with claim_start(scene.store, scene.study, identity(), "auto", scene.said.append) as first:
        second = threading.Thread(target=scene.look)
        second.start()
        second.join(0.5)
        assert second.is_alive()
        scene.run("FINISHED", metrics={SCORE: 0.5})
    second.join(30)
    assert not second.is_alive()
    assert scene.said == ["waiting: another process trains this run"]
    assert not list(first.folder.parent.glob("*.lock"))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    ("epochs", "resume", "note"),
    [
        (0, "auto", "the same command starts the run again"),
        (3, "auto", "the same command goes on after epoch 3"),
        (3, "never", "the same command with resume=auto goes on after epoch 3"),
    ],
)
def test_a_run_that_is_stopped_says_how_it_goes_on(
    scene: Scene, stop: type[BaseException], epochs: int, resume: str, note: str
) -> None:
    def train() -> None:
        with claim_start(scene.store, scene.study, identity(), resume, scene.said.append) as start:
            if epochs:
                np.savez(start.folder / "state.npz", history=np.array(json.dumps([{"val/dice": 0.5}] * epochs)))
            raise stop

    with pytest.raises(stop) as stopped:
        train()
    assert read_notes(stopped.value) == [note]


def test_a_damaged_state_counts_with_the_one_before(tmp_path: Path) -> None:
    assert count_epochs(tmp_path) == 0
    (tmp_path / "state.npz").write_bytes(b"PK")
    assert count_epochs(tmp_path) == 0
    np.savez(tmp_path / "state-before.npz", history=np.array("[{}, {}]"))
    assert count_epochs(tmp_path) == 2


def test_the_states_of_a_training_are_counted(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    network.compile("sgd", "mse")
    network.optimizer.build(network.trainable_variables)
    np.savez(tmp_path / "best.npz", *network.get_weights())
    State(tmp_path / "state.npz", network).save([{"val/dice": 0.5}] * 4, [tmp_path / "best.npz"])
    assert count_epochs(tmp_path) == 4
