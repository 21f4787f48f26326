"""A run that is killed with -9, at chosen and at random moments, and started again: the bits of one left alone."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.test_train import SMOKE, Started, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Dropout, augmentation and early stopping all have something to remember.
OVERRIDES = ("epochs=4", "model.dropout=0.3", "augment=mri", "trainer.early_stopping=3")
OVERRIDES += ("model.filters=[4,8]", "trainer.keep=all", "trainer.figures=false", "trainer.threads=1")
SEED = 20240611  # of the random moments

# The train command, in which one function stops for ever: before its work, or after it, at its nth call.
PAUSED = """
import sys, time
from importlib import import_module
from pathlib import Path

module, names, when, nth = sys.argv[1:5]
del sys.argv[1:5]

from attnunet import train
import attnunet.tracking
from attnunet.training import runtime

runtime.configure(0, 1, "float32")  # else what is patched could not be imported before its settings
*owners, name = names.split(".")
owner = import_module(module)
for part in owners:
    owner = getattr(owner, part)
original, calls = getattr(owner, name), 0

def paused(*arguments, **keywords):
    global calls
    calls += 1
    if calls < int(nth):
        return original(*arguments, **keywords)
    if when == "after":
        original(*arguments, **keywords)
    Path("paused").touch()
    time.sleep(3600)

setattr(owner, name, paused)
train.main()
"""

# Where it stops, start after start: module, name in it, before or after its work, at which call of this process.
PHASES = {
    "before the first param": ("attnunet.tracking.run", "Run.params", "before", 1),
    "inside the first epoch": ("attnunet.training.callbacks", "ShowProgress.on_train_batch_end", "before", 3),
    "before the first validation": ("attnunet.training.callbacks", "Validation.on_epoch_end", "before", 1),
    "MLflow write: an epoch is in the store, not in the state": ("attnunet.tracking.run", "Run.metrics", "after", 1),
    "checkpoint write: the best": ("numpy", "savez", "after", 1),
    "checkpoint write: the state": ("numpy", "savez", "after", 2),
    "between two epochs": ("attnunet.training.callbacks", "Keep.on_epoch_end", "after", 1),
    "inside a later epoch": ("attnunet.training.callbacks", "ShowProgress.on_train_batch_end", "before", 3),
    "inside a validation": ("attnunet.training.callbacks", "best_threshold", "before", 1),
    "between training and scores": ("attnunet.evaluation.decision", "choose_decision", "before", 1),
    "checkpoint write: the best, as a network's file": ("keras", "Model.save", "after", 1),
    "artifact upload: the checkpoint": ("mlflow", "MlflowClient.log_artifact", "after", 3),  # after config.yaml and split.json
    "artifact upload: the model": ("mlflow", "MlflowClient.log_model_artifacts", "before", 1),
    "between the end and clearing up": ("attnunet.tracking.run", "Run.end", "after", 1),
}
ONE = "MLflow write: an epoch is in the store, not in the state"


@dataclass(frozen=True)
class Result:
    """What must not depend on interruptions."""

    best: list[np.ndarray]
    last: list[np.ndarray]  # with the optimizer
    metrics: dict[str, list[tuple[int, float]]]
    params: dict[str, str]
    files: set[str]


def result(of: Started) -> Result:
    from attnunet import losses  # noqa: F401 - a compiled network is loaded with its layers, its loss and its schedule
    from attnunet.models import blocks  # noqa: F401
    from attnunet.training import schedules, train_dice  # noqa: F401

    (run,) = of.runs
    assert run.info.status == "FINISHED"
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    names = [name for name in run.data.metrics if not name.startswith("system/")]
    histories = {name: of.client.get_metric_history(run.info.run_id, name) for name in names}
    timed = ("train/images_per_second", "train/epoch_seconds")
    last = keras.models.load_model(folder / "checkpoints" / "last.keras")
    (model,) = of.client.search_logged_models([run.info.experiment_id])
    assert model.status == "READY"
    assert not list((of.folder / "mlruns" / "unfinished").iterdir())
    return Result(
        best=keras.models.load_model(folder / "checkpoints" / "best.keras", compile=False).get_weights(),
        # A saved network draws dropout's seed anew when it is loaded.
        last=[np.asarray(v.value) for v in (*last.weights, *last.optimizer.variables)],
        metrics={n: sorted((m.step, 0.0 if n in timed else m.value) for m in h) for n, h in histories.items()},
        params=run.data.params,
        files={str(path.relative_to(folder)) for path in folder.rglob("*")},
    )


def assert_equal(ours: Result, theirs: Result) -> None:
    for a, b in zip([*ours.best, *ours.last], [*theirs.best, *theirs.last], strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours.metrics == theirs.metrics
    assert ours.params == theirs.params
    assert ours.files == theirs.files


@dataclass(frozen=True)
class Reference:
    result: Result
    seconds: float


@pytest.fixture(autouse=True, scope="module")
def idle() -> Iterator[None]:
    """The load of the machine is logged at the end of a run only, so that the first metrics are those of an epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "3600")
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, lgg_root: Path) -> Reference:
    """The run that nothing interrupted."""
    began = time.monotonic()
    run = start(tmp_path_factory.mktemp("alone"), lgg_root, *OVERRIDES)
    assert run.result.returncode == 0, run.result.stderr
    seconds = time.monotonic() - began
    reference = result(run)
    assert [step for step, _ in reference.metrics["train/loss"]] == [1, 2, 3, 4]
    assert any("seed_generator" in v.path for v in keras.models.load_model(run.artifact("checkpoints/last.keras")).variables)
    return Reference(reference, seconds)


def kill(folder: Path, root: Path, *where: str | int) -> None:
    """Start the run, and kill it where it stops."""
    (folder / "paused.py").write_text(PAUSED)
    smoke = [a.format(root=root) for a in SMOKE]
    arguments = [sys.executable, "paused.py", *map(str, where), *smoke, *OVERRIDES]
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(arguments, cwd=folder, stdout=said, stderr=said)
        while not (folder / "paused").exists():
            assert process.poll() is None, (folder / "said").read_text()
            time.sleep(0.05)
        process.kill()
        process.wait()
    (folder / "paused").unlink()


@pytest.mark.parametrize(
    ("damaged", "epochs"), [(("state.npz",), [3, 4]), (("state.npz", "state-before.npz"), [1, 2, 3, 4])], ids=["last", "both"]
)
def test_a_run_whose_state_was_damaged_ends_with_the_same_bits(
    damaged: tuple[str, ...], epochs: list[int], alone: Reference, lgg_root: Path, tmp_path: Path
) -> None:
    kill(tmp_path, lgg_root, "attnunet.training.callbacks", "Keep.on_epoch_end", "after", 3)
    (folder,) = (path for path in (tmp_path / "mlruns" / "unfinished").iterdir() if path.is_dir())
    for name in damaged:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    again = start(tmp_path, lgg_root, *OVERRIDES)
    assert again.result.returncode == 0, again.result.stderr
    told = again.result.stdout + again.result.stderr
    assert told.count("cannot be read (") == len(damaged)
    assert [epoch for epoch in range(1, 5) if f"epoch {epoch}/4" in told] == epochs
    assert_equal(result(again), alone.result)


@pytest.mark.parametrize("phases", [pytest.param([ONE], id="one", marks=pytest.mark.ci), pytest.param([*PHASES], id="all")])
def test_a_run_that_was_killed_in_each_phase_ends_with_the_bits_of_one_left_alone(
    phases: list[str], alone: Reference, lgg_root: Path, tmp_path: Path
) -> None:
    for phase in phases:
        print(phase)
        kill(tmp_path, lgg_root, *PHASES[phase])
    again = start(tmp_path, lgg_root, *OVERRIDES)
    assert again.result.returncode == 0, again.result.stderr
    assert again.result.stdout.startswith("resumed" if phases == [ONE] else "reused")
    assert_equal(result(again), alone.result)


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.ci), 20])
def test_runs_that_were_killed_at_random_moments_end_with_the_same_bits(
    times: int, alone: Reference, lgg_root: Path, tmp_path: Path
) -> None:
    drawn, kills, runs = random.Random(SEED), 0, 0
    smoke = [a.format(root=lgg_root) for a in SMOKE]
    arguments = [sys.executable, "-u", "-m", "attnunet.train", *smoke, *OVERRIDES]
    while kills < times:
        (folder := tmp_path / str(runs)).mkdir(exist_ok=True)
        after = drawn.uniform(0, alone.seconds)
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(arguments, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        lines = (folder / "said").read_text().splitlines() or ["(nothing yet)"]
        if process.returncode == 0:
            assert_equal(result(Started(folder, subprocess.CompletedProcess([], 0))), alone.result)
            runs += 1
        else:
            assert process.returncode == -signal.SIGKILL, lines
            kills += 1
            print(f"seed {SEED}, kill {kills}, run {runs}: after {after:.2f} of {alone.seconds:.2f} s, after: {lines[-1]}")
    last = start(folder, lgg_root, *OVERRIDES)
    assert last.result.returncode == 0, last.result.stderr
    assert_equal(result(last), alone.result)
