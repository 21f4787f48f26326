"""Sweeps of a dozen and of a hundred jobs: killed and started again, their memory, and how fast finished ones answer."""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import command
from tests.test_launchers import assert_same_results
from tests.test_train import SMOKE, Started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TWELVE = ("-m", "model=conv,separable", "loss=focal,dice", "seed=0,1,2", "model.filters=[4,8]")
TWELVE += ("trainer.threads=1", "trainer.figures=false")
OUTCOMES = "mlruns/hydra/sweeps/*/*/outcome.json"


def begun(folder: Path, root: Path, sweep: tuple[str, ...] = TWELVE) -> subprocess.Popen:
    folder.mkdir()
    flag, *keys = sweep
    arguments = [flag, *(a.format(root=root) for a in SMOKE), *keys]
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "attnunet.train", *arguments],
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background would ignore it
        )


def ended(folder: Path, process: subprocess.Popen) -> Started:
    said = (folder / "said").read_text()
    return Started(folder, subprocess.CompletedProcess([], process.returncode, said, said))


def said_by_jobs(folder: Path) -> str:
    return "".join(log.read_text() for log in folder.glob("mlruns/hydra/sweeps/*/*/train.log"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, lgg_root: Path) -> tuple[Started, list[float]]:
    """The sweep that nothing interrupted, and its process's resident memory in MB after each job."""
    folder = tmp_path_factory.mktemp("alone") / "sweep"
    process = begun(folder, lgg_root)
    memory = watched(folder, process)
    return ended(folder, process), memory


def watched(folder: Path, process: subprocess.Popen) -> list[float]:
    """The resident memory of a sweep's process in MB after each of its jobs, until it ends."""
    memory: list[float] = []
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            resident = psutil.Process(process.pid).memory_info().rss / 1e6
            memory += [resident] * (len(list(folder.glob(OUTCOMES))) - len(memory))
        time.sleep(0.1)
    return memory


def test_a_sweep_that_was_killed_does_what_is_missing_and_ends_with_the_same_bits(
    alone: tuple[Started, list[float]], lgg_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    process = begun(folder, lgg_root)
    while said_by_jobs(folder).count("epoch 1/2") < 6:  # in the middle of the sixth job
        assert process.poll() is None, (folder / "said").read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = ended(folder, process)
    begun_before = {run.info.run_id: run.info.status for run in before.jobs}
    assert sorted(begun_before.values()) == ["FINISHED"] * 5 + ["RUNNING"]

    flag, *keys = TWELVE
    again = Started(folder, command(flag, *(a.format(root=lgg_root) for a in SMOKE), *keys, cwd=folder))
    assert again.result.returncode == 0, again.result.stderr
    assert "12 jobs: 5 reused, 1 resumed, 6 finished" in again.result.stdout
    assert [run.info.status for run in again.runs] == ["FINISHED"] * 13  # with the parent
    assert set(begun_before) < {run.info.run_id for run in again.jobs}
    assert len({run.data.tags["mlflow.parentRunId"] for run in again.jobs}) == 1
    assert_same_results(alone[0], again, jobs=12)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped_ends_its_runs_and_prints_what_there_is(
    stop: signal.Signals, lgg_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    process = begun(folder, lgg_root)
    while "parameters, " not in said_by_jobs(folder):
        assert process.poll() is None, (folder / "said").read_text()
        time.sleep(0.05)
    process.send_signal(stop)
    assert process.wait(120) != 0
    stopped = ended(folder, process)
    assert [run.info.status for run in stopped.runs] == ["KILLED", "KILLED"]  # the job and the parent
    assert "12 jobs: 1 interrupted, 11 missing" in stopped.result.stdout
    assert "Traceback" not in stopped.result.stdout
    assert stopped.result.stdout.endswith("attnunet: the sweep was stopped; the same command goes on with it\n")


def test_a_process_that_runs_job_after_job_grows_by_ten_megabytes_a_job_at_most(alone: tuple[Started, list[float]]) -> None:
    _, memory = alone
    print("resident memory after each job, MB:", [round(value) for value in memory])
    assert len(memory) == 12
    assert (memory[11] - memory[3]) / 8 <= 10


@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_the_launching_process_stays_as_it_is_where_jobs_have_their_own(launcher: str, lgg_root: Path, tmp_path: Path) -> None:
    sweep = ("-m", f"hydra/launcher={launcher}", "seed=range(0,6)", "epochs=1", "trainer.threads=1", "trainer.figures=false")
    process = begun(tmp_path / "sweep", lgg_root, sweep)
    memory = watched(tmp_path / "sweep", process)
    assert process.returncode == 0, (tmp_path / "sweep" / "said").read_text()
    print("resident memory after each job, MB:", [round(value) for value in memory])
    assert len(memory) == 6
    assert memory[-2] - memory[0] <= 10  # at the last, the table and the picture of the sweep are being made


# The train command without its training: what it records of a run is as ever.
UNTRAINED = """
from attnunet import train
from attnunet.tracking.resume import SCORE
from attnunet.training import runtime

def fit_and_score(cfg, prepared, split, origin, run, folder, score_test, tell):
    folder.mkdir(parents=True, exist_ok=True)
    run.metrics({SCORE: cfg.seed / 100}, step=1)
    return cfg.seed / 100, {}

runtime.configure = lambda *settings: None
runtime.gpus = lambda strategy: []
train.fit_and_score = fit_and_score
train.main()
"""


def test_a_hundred_finished_jobs_answer_in_half_a_minute_without_tensorflow(lgg_root: Path, tmp_path: Path) -> None:
    (tmp_path / "untrained.py").write_text(UNTRAINED)
    arguments = ["-m", *(a.format(root=lgg_root) for a in SMOKE), "seed=range(0,100)"]
    subprocess.run([sys.executable, "untrained.py", *arguments], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = command(*arguments, cwd=tmp_path, python=("-X", "importtime"))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor, so that a busy machine does not count; it waits for nothing.
    seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    assert again.returncode == 0, again.stderr[-2000:]
    assert "100 jobs: 100 reused" in again.stdout
    assert "0.9900 *" in again.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in again.stderr.splitlines()}
    assert "mlflow" in imported
    assert not {"tensorflow", "keras"} & imported
    print(f"{seconds:.1f} s")
    assert seconds < 30


COUNTED = UNTRAINED.replace(
    "    return cfg.seed / 100, {}",
    """
    import gc
    gc.collect()
    with open("objects", "a") as file:
        print(len(gc.get_objects()), file=file)
    return 0, {}
""",
)


def test_a_process_that_runs_job_after_job_keeps_few_objects_of_each(lgg_root: Path, tmp_path: Path) -> None:
    """Each collection of garbage goes through what is kept; Hydra alone would keep 1,600 objects a job."""
    (tmp_path / "counted.py").write_text(COUNTED)
    arguments = ["-m", *(a.format(root=lgg_root) for a in SMOKE), "seed=range(0,25)"]
    subprocess.run([sys.executable, "counted.py", *arguments], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    objects = [int(line) for line in (tmp_path / "objects").read_text().split()]
    assert len(objects) == 25
    assert (objects[24] - objects[4]) / 20 < 200
