"""The pruning of a search: which trials end early, and what is left of their runs."""

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.study import load_study
from optuna.trial import TrialState

from attnunet.sweeps import terminal
from attnunet.sweeps.pruning import follow
from attnunet.sweeps.search import search
from attnunet.tracking.run import Pruned
from tests.conftest import command


class Curves:
    """A sweeper whose job N reports the values of curve N, epoch by epoch, and then returns the last of them."""

    def __init__(
        self,
        root: Path,
        pruner: dict[str, Any],
        curves: list[list[float]],
        monitor: str = "val/dice",
        n_jobs: int = 1,
        storage: InMemoryStorage | None = None,
    ) -> None:
        self.config = OmegaConf.create({"tracking": {"root": str(root)}, "monitor": monitor})
        self.study_name, self.storage, self.seed, self.sampler, self.pruner = "curves", storage, 0, RandomSampler, pruner
        self.n_trials, self.n_jobs, self.launcher = len(curves), n_jobs, self
        self.root, self.curves, self.pruned = root, curves, {}
        self.display = SimpleNamespace(console=terminal.console(), total=None)

    def launch(self, jobs: list[list[str]], initial_job_idx: int) -> list[SimpleNamespace]:
        """Train the jobs side by side: each of them ends an epoch before one of them begins the next epoch."""
        numbers = range(initial_job_idx, initial_job_idx + len(jobs))
        tells = {number: follow(self, self.root, number) for number in numbers}
        for epoch in range(1, max(len(self.curves[number]) for number in numbers) + 1):
            for number in numbers:
                if number not in self.pruned:
                    try:
                        tells[number](epoch, self.curves[number][epoch - 1])
                    except Pruned as pruned:
                        self.pruned[number] = pruned.epoch
        return [SimpleNamespace(return_value=math.nan if n in self.pruned else self.curves[n][-1]) for n in numbers]


EIGHTHS = [[1, 2, 4], [3, 4, 6], [2, 2, 7], [1, 7, 7], [2, 1, 4], [2, 4, 6]]
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2, "n_warmup_steps": 1}


@pytest.mark.parametrize(("monitor", "n_jobs"), [("val/dice", 1), ("val/loss", 2)])
def test_a_trial_below_the_median_of_the_finished_trials_is_pruned(monitor: str, n_jobs: int, tmp_path: Path) -> None:
    """Trials 0 and 1 finish. In eighths, the medians are then 2, 3 and 5.

    Trial 2 equals the median at epoch 1, and has at best 2 < 3 at epoch 2. Trial 3 has 1 < 2 at epoch 1. Trial 4 has at best
    2 < 3 at epoch 2. Trial 5 is never below a median; trial 4, which may run beside it, does not finish and does not count.
    """
    curves = [[eighths / 8 if monitor == "val/dice" else 1 - eighths / 8 for eighths in curve] for curve in EIGHTHS]
    sweeper = Curves(tmp_path, MEDIAN, curves, monitor, n_jobs, storage := InMemoryStorage())
    search(sweeper, ["model.dropout=interval(0.0, 0.5)"])
    assert sweeper.pruned == {2: 2, 3: 1, 4: 2}
    trials = load_study(study_name="curves", storage=storage).trials
    assert {trial.number: trial.last_step for trial in trials if trial.state == TrialState.PRUNED} == sweeper.pruned
    assert [trial.number for trial in trials if trial.state == TrialState.COMPLETE] == [0, 1, 5]
    assert trials[2].intermediate_values == {1: curves[2][0], 2: curves[2][1]}


def test_a_pruned_trial_is_done_and_never_the_best(tmp_path: Path) -> None:
    curves = [[0.2, 0.4], [0.4, 0.6], [0.1, 0.9]]
    for _ in range(2):  # the second start has nothing to do
        search(Curves(tmp_path, MEDIAN, curves), ["seed=0,1"])
    found = load_study(study_name="curves", storage=f"sqlite:///{tmp_path}/optuna.db")
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert (found.best_trial.number, found.best_value) == (1, 0.6)


def test_successive_halving_lets_the_better_half_go_on(tmp_path: Path) -> None:
    """Decisions come after the epochs 1, 2 and 4, among the trials that have reached the epoch; half of them go on.

    Of 1 to 3 trials, only the best goes on. Epoch 1: 0.5 goes on; 0.4 is not the best of 2; 0.55 is the best of 3; 0.52 is the
    second of 4. Epoch 2: 0.6 goes on; 0.5 is not the best of 2; 0.65 is the best of 3.
    """
    halving = {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 1, "reduction_factor": 2}
    curves = [[0.5, 0.6, 0.6], [0.4, 0.9, 0.9], [0.55, 0.5, 0.9], [0.52, 0.65, 0.7]]
    sweeper = Curves(tmp_path, halving, curves, storage=InMemoryStorage())
    search(sweeper, ["model.dropout=interval(0.0, 0.5)"])
    assert sweeper.pruned == {1: 1, 2: 2}


ONE_RUN = (
    *("-m", "hydra/sweeper=optuna", "hydra/sweeper/pruner=halving", "hydra.sweeper.n_trials=2", "study=pruned"),
    *(f"hydra.sweeper.pruner.{number}" for number in ("min_resource=1", "reduction_factor=2", "bootstrap_count=1")),
    *("data=phantom", "data.patients=6", "trainer=smoke", "trainer.threads=1", "trainer.figures=false", "trainer.keep=none"),
    *("model.filters=[4,8]", "model.dropout=0", "optimizer.learning_rate=1e-3", "loss.weights.focal=1", "loss.weights.dice=1"),
    "seed=choice(0)",
)
"""A search whose two trials are the same run."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param((), marks=pytest.mark.ci, id="one"),
        pytest.param(("hydra/launcher=joblib", "hydra.sweeper.n_jobs=2"), id="two"),
    ],
)
def test_a_search_prunes_a_run_and_the_same_run_later_trains_anew(launcher: tuple[str, ...], tmp_path: Path) -> None:
    """`bootstrap_count` prunes the trial that comes first; the other one is as good, and goes on."""
    result = command(*ONE_RUN, *launcher, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert re.search("2 jobs: 1 (pruned, 1 finished|finished, 1 pruned)", result.stdout)
    trials = load_study(study_name="pruned", storage=f"sqlite:///{tmp_path}/mlruns/optuna.db").trials
    complete, ended = sorted(trials, key=lambda trial: trial.state.name)
    assert (complete.state, ended.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert list(ended.intermediate_values) == [1]

    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'pruned'")
    pruned, whole, parent = sorted(
        client.search_runs([experiment.experiment_id]), key=lambda run: ("sweep" in run.data.tags, run.info.start_time)
    )
    assert [run.info.status for run in (pruned, whole, parent)] == ["KILLED", "FINISHED", "FINISHED"]
    assert (pruned.data.tags["pruned"], pruned.data.tags["superseded"]) == ("1", whole.info.run_id)
    assert pruned.data.tags["fingerprint"] == whole.data.tags["fingerprint"]
    assert "final/monitor" not in pruned.data.metrics
    assert "pruned" not in whole.data.tags
    assert whole.data.metrics["final/monitor"] == complete.value
    assert [len(client.get_metric_history(run.info.run_id, "val/dice")) for run in (pruned, whole)] == [1, 2]
    assert not list((tmp_path / "mlruns" / "unfinished").iterdir())
