"""The parent run of a sweep, whose jobs take no time here: it ends as its jobs do, whatever ends them."""

import os
import sqlite3
import time
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from joblib import Parallel, delayed
from omegaconf import DictConfig

from attnunet import config, figures
from attnunet.config import checks, objects
from attnunet.sweeps.parent import expect_replaced_workers
from attnunet.tracking.store import Store
from attnunet.tracking.sweep import PARENT, Outcome, run_job


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parent") / "mlruns"
    assert Store(root, None, 0).client
    return root


@pytest.fixture
def sweep(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a task for each job of `-m`, as Hydra does."""
    monkeypatch.setattr(objects, "check_run", checks.check)  # without data
    monkeypatch.setattr(figures, "sweep_scores", lambda *_: None)

    def run(task: Callable[[DictConfig], float], *overrides: str) -> None:
        with initialize_config_dir(config.CONF, version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            own = [f"study={tmp_path.name}", f"tracking.root={root}", f"hydra.sweep.dir={tmp_path / 'jobs'}"]
            cfg = loader.load_configuration("train", [*own, *overrides], RunMode.MULTIRUN)
            cfg.hydra.job.name = "train"
            context = HydraContext(config_loader=loader, callbacks=Callbacks(cfg))
            sweeper = Plugins.instance().instantiate_sweeper(config=cfg, hydra_context=context, task_function=task)
            sweeper.sweep(config.as_typed(cfg.hydra.overrides.task))

    return run


def finish(cfg: DictConfig) -> float:
    composed = HydraConfig.get()
    outcome = Outcome("finished", None, cfg.seed / 10)
    overrides, folder = config.as_typed(composed.overrides.task), Path(composed.runtime.output_dir)
    return run_job(lambda: outcome, composed.job.num, overrides, folder).score


def parents(root: Path, study: str) -> list[tuple[str, str, str]]:
    """The id, the status and the stage of each run of a study."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        query = (
            "SELECT run_uuid, status, r.lifecycle_stage FROM runs r JOIN experiments e USING (experiment_id) WHERE e.name = ?"
        )
        return database.execute(query, [study]).fetchall()


def test_it_is_finished_where_all_jobs_are_which_know_it(sweep: Callable[..., None], root: Path, tmp_path: Path) -> None:
    told = []

    def job(cfg: DictConfig) -> float:
        told.append(os.environ[PARENT])
        return finish(cfg)

    sweep(job, "seed=0,1", "hydra.sweeper.max_batch_size=1")
    ((parent, *end),) = parents(root, tmp_path.name)
    assert end == ["FINISHED", "active"]
    assert told == [parent, parent]
    assert PARENT not in os.environ


class Crash(Exception):
    """An error that nobody foresaw."""


REASON = "hydra/sweeper=grid hydra/launcher=basic: Crash: no more (HYDRA_FULL_ERROR=1 shows where)"
ENDS = [
    (Crash("no more"), "FAILED", f"attnunet: {REASON}"),
    (SystemExit(143), "KILLED", "143"),  # SIGTERM
    (KeyboardInterrupt(), "KILLED", "130"),
]


@pytest.mark.parametrize(("end", "status", "said"), ENDS, ids=[repr(end) for end, _, _ in ENDS])
def test_a_sweep_that_breaks_off_ends_its_parent(
    end: BaseException,
    status: str,
    said: str,
    sweep: Callable[..., None],
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def job(cfg: DictConfig) -> float:
        if cfg.seed == 1:
            raise end
        return finish(cfg)

    with pytest.raises(SystemExit) as ended:
        sweep(job, "seed=0,1,2")
    assert str(ended.value) == said
    assert ("the same command goes on" in capsys.readouterr().err) == (status == "KILLED")
    assert [found[1:] for found in parents(root, tmp_path.name)] == [(status, "active")]


def test_a_crash_before_the_first_job_leaves_no_parent(sweep: Callable[..., None], root: Path, tmp_path: Path) -> None:
    def job(cfg: DictConfig) -> float:
        raise Crash

    with pytest.raises(SystemExit, match="hydra/launcher=basic: Crash: Crash"):
        sweep(job, "seed=0,1")
    assert [found[1:] for found in parents(root, tmp_path.name)] == [("FAILED", "deleted")]


def test_a_job_without_a_result_ends_the_command_with_code_1(sweep: Callable[..., None], root: Path, tmp_path: Path) -> None:
    def job(cfg: DictConfig) -> float:
        return finish(cfg) if cfg.seed else 0.0

    with pytest.raises(SystemExit) as exit_:
        sweep(job, "seed=0,1")
    assert exit_.value.code == 1
    assert [found[1:] for found in parents(root, tmp_path.name)] == [("FAILED", "active")]


def test_a_grid_that_cannot_run_is_refused_before_there_is_a_folder_or_a_run(
    sweep: Callable[..., None], root: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="batch_size=0: Input should be greater than 0"):
        sweep(finish, "batch_size=4,0")
    assert not (tmp_path / "jobs").exists()
    assert parents(root, tmp_path.name) == []


KEPT: list[np.ndarray] = []


def keep_memory(job: int) -> int:
    """Leave 400 MB behind, and work for longer than joblib waits between two looks at the memory."""
    KEPT.append(np.ones(50_000_000))
    time.sleep(1.2)
    return job


@pytest.mark.slow
@pytest.mark.parametrize(("context", "warned"), [(nullcontext, True), (expect_replaced_workers, False)])
def test_a_worker_that_joblib_replaces_is_no_news(context: Callable, warned: bool) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with context():
            assert Parallel(n_jobs=2, batch_size=1)(delayed(keep_memory)(job) for job in range(8)) == list(range(8))
    assert any("A worker stopped" in str(warning.message) for warning in found) == warned
