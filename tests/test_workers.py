"""Processes that others start: none outlives the one that started it, and none fills the shared memory."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from attnunet.data import workers
from attnunet.data.augment import Augment
from attnunet.data.batches import Draws
from attnunet.data.cache import prepare
from attnunet.data.lgg import lgg
from attnunet.data.sampling import strata
from attnunet.data.workers import check_shared_memory, end_with_parent
from attnunet.errors import UserError
from tests.conftest import REPO, SMOKE

WORKERS = """
import pickle, sys, time
from attnunet.data.batches import batches, iterate

if __name__ == "__main__":
    iterator = iterate(batches(pickle.load(open("draws", "rb")), workers=2))
    next(iterator)
    print("under way", flush=True)
    time.sleep(600)
"""


def killed(arguments: list[str], folder: Path, under_way: Callable[[subprocess.Popen[bytes]], bool]) -> list[psutil.Process]:
    """Start a command, kill it with -9 when it is under way; return the processes that it had started."""
    with (folder / "said").open("w") as said:
        environment = {**os.environ, "PYTHONPATH": str(REPO)}
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 200
        while not under_way(process):
            assert process.poll() is None, (folder / "said").read_text()
            assert time.monotonic() < deadline, (folder / "said").read_text()
            time.sleep(0.1)
        return psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()


def assert_gone(started: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(started, timeout=20)
    for process in alive:
        process.kill()
    assert not alive


@pytest.mark.slow
@pytest.mark.ci
def test_workers_do_not_outlive_a_training_that_is_killed(lgg_root: Path, tmp_path: Path) -> None:
    draws = Draws(
        prepare(lgg(str(lgg_root)), 16, tmp_path / "cache"),
        tuple(range(72)),
        8,
        0,
        partial(strata, lesion_share=None),
        Augment(),
    )
    (tmp_path / "draws").write_bytes(pickle.dumps(draws))
    (tmp_path / "workers.py").write_text(WORKERS)
    started = killed([sys.executable, "workers.py"], tmp_path, lambda process: "under way" in (tmp_path / "said").read_text())
    assert len(started) >= 2
    assert_gone(started)


@pytest.mark.slow
def test_jobs_do_not_outlive_a_sweep_that_is_killed(lgg_root: Path, tmp_path: Path) -> None:
    overrides = (f"data.root={lgg_root}", "epochs=500", "trainer.workers=1", "trainer.threads=1", "seed=0,1")
    arguments = [sys.executable, "-m", "attnunet.train", "-m", *SMOKE, *overrides, "hydra/launcher=joblib"]
    started = killed(arguments, tmp_path, lambda process: len(list(tmp_path.glob("mlruns/unfinished/*/state*.npz"))) == 2)
    assert sum("python" in process.name() for process in started) >= 4  # two jobs, each with a worker
    assert_gone(started)


def test_what_no_process_of_ours_started_watches_nothing() -> None:
    assert multiprocessing.parent_process() is None
    end_with_parent()
    assert "watch parent" not in [thread.name for thread in workers.threading.enumerate()]


def test_shared_memory_must_hold_the_batches_of_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path)
    usage = workers.shutil.disk_usage(tmp_path)._replace(free=280)
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda folder: {tmp_path: usage}[folder])
    check_shared_memory(workers=2, batch=10)  # 2 x 14 x 10 bytes
    check_shared_memory(workers=0, batch=10**9)
    with pytest.raises(UserError, match=r"^trainer.workers=2: their batches need 308 bytes of .*, which has 280 free"):
        check_shared_memory(workers=2, batch=11)
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path / "none")  # as on macOS
    check_shared_memory(workers=2, batch=10**9)
