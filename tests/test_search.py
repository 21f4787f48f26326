"""hydra/sweeper=optuna: what is checked before it starts, and how it goes on after an end that nobody planned."""

import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study, load_study
from optuna.trial import TrialState

from attnunet.errors import UserError
from attnunet.sweeps import grid, terminal
from attnunet.sweeps.search import distribution, search
from tests.conftest import REPO, command, every
from tests.test_train import SMOKE

GRID = "hydra_plugins.attnunet_grid.GridSweeper"
OPTUNA = "hydra_plugins.attnunet_optuna.OptunaSweeper"


def swept(target: str, params: dict[str, str], *task: str) -> DictConfig:
    return OmegaConf.create({"hydra": {"sweeper": {"_target_": target, "params": params}, "overrides": {"task": list(task)}}})


def test_a_grid_is_checked_whole_and_the_command_line_has_the_last_word() -> None:
    jobs = grid.list_jobs(swept(GRID, {"seed": "0,1", "epochs": "1,2"}, "epochs=3", "model=conv,separable"))
    assert [" ".join(job) for job in jobs] == [
        "seed=0 epochs=3 model=conv",
        "seed=0 epochs=3 model=separable",
        "seed=1 epochs=3 model=conv",
        "seed=1 epochs=3 model=separable",
    ]


def test_a_search_is_checked_at_the_ends_of_each_key_the_others_at_their_first() -> None:
    space = {"a": "tag(log, interval(1e-4, 0.5))", "b": "choice([8,16],[4])", "c": "range(1, 4)"}
    jobs = grid.list_jobs(swept(OPTUNA, space, "d=x", "e=0,1,2"))
    assert [" ".join(job) for job in jobs] == [
        "a=0.0001 b=[8,16] c=1 d=x e=0",
        "a=0.5 b=[8,16] c=1 d=x e=0",
        "a=0.0001 b=[4] c=1 d=x e=0",
        "a=0.0001 b=[8,16] c=3 d=x e=0",
        "a=0.0001 b=[8,16] c=1 d=x e=1",
        "a=0.0001 b=[8,16] c=1 d=x e=2",
    ]


def test_a_key_that_the_command_line_fixes_leaves_the_space() -> None:
    assert list(grid.list_jobs(swept(OPTUNA, {"a": "interval(0, 1)"}, "a=0.3"))) == [["a=0.3"]]


REFUSED = [
    (("model.dropout=interval(0,1.0)",), "model.dropout=1.0: Input should be less than 1"),
    (("model.filters=choice([8,16],[8])",), "model.filters=[8]: List should have at least 2 items"),
    (("image_size=range(32,99)", "model.filters=[4,8,16]"), "image_size=98: 3 model.filters halve"),
    (("loss=dice",), "loss.weights"),
    (("monitor=val/dice,val/loss",), "monitor=val/dice,val/loss: ranks the jobs of a sweep; allowed: one value"),
    (
        ("hydra.sweeper.n_trials=abc",),
        "hydra.sweeper.n_trials=abc: Value 'abc' of type 'str' could not be",
    ),
    (("hydra.sweeper.n_trials=0",), "hydra.sweeper.n_trials=0: allowed: 1 or more"),
    (("hydra.sweeper.sampler._target_=os.system",), "hydra.sweeper.sampler._target_=os.system: may not be named here"),
    (("hydra/sweeper/pruner=median", "epochs=1,2"), "hydra/sweeper/pruner=median: compares the jobs epoch by epoch, but"),
    (
        ("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=-1"),
        "cannot be negative, but got n_startup_trial",
    ),
    (("hydra.sweeper.sampler._target_=optuna.samplers.Foo",), "_target_=optuna.samplers.Foo: there is no such function or"),
]


@pytest.mark.parametrize(("arguments", "message"), every(4, REFUSED))
def test_a_search_that_cannot_run_is_refused_before_its_first_job(
    arguments: tuple[str, ...], message: str, tmp_path: Path, lgg_root: Path
) -> None:
    smoke = [a.format(root=lgg_root) for a in SMOKE]
    result = command("-m", "hydra/sweeper=optuna", *smoke, *arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert {path.name for path in tmp_path.glob("mlruns/*")} <= {"cache"}


# The train command's configuration and checks around an objective of no time.
TOY = """
import math, os, signal
from pathlib import Path
from hydra.core.hydra_config import HydraConfig
from attnunet.sweeps import commands

def job(cfg):
    if HydraConfig.get().job.num == 4 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return math.nan if Path("broken").exists() and cfg.model.dropout < 0.25 else cfg.optimizer.learning_rate

commands.run_command(job, "train")
"""


def toy(folder: Path, root: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    (folder / "toy.py").write_text(TOY)
    smoke = [a.format(root=root) for a in SMOKE]
    arguments = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=10", "study=toy", *smoke, *overrides]
    result = subprocess.run(
        [sys.executable, "toy.py", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "Warning" not in result.stderr
    return result


def study(folder: Path, name: str) -> Study:
    return load_study(study_name=name, storage=f"sqlite:///{folder}/mlruns/optuna.db")


def states(of: Study, state: TrialState) -> list[dict]:
    return [trial.params for trial in of.get_trials(states=(state,))]


@pytest.mark.slow
@pytest.mark.ci
def test_a_search_that_was_killed_goes_on_until_it_has_its_trials(lgg_root: Path, tmp_path: Path) -> None:
    assert toy(tmp_path, lgg_root).returncode == -signal.SIGKILL
    before = study(tmp_path, "toy")
    first, (interrupted,) = states(before, TrialState.COMPLETE), states(before, TrialState.RUNNING)
    assert len(first) == 4

    again = toy(tmp_path, lgg_root)
    assert again.returncode == 0, again.stderr
    after = study(tmp_path, "toy")
    done = states(after, TrialState.COMPLETE)
    assert len(done) == 10
    assert done[:4] == first
    assert done[4] == interrupted
    assert len({trial["optimizer.learning_rate"] for trial in done}) == 10  # no draw of the first start again
    assert states(after, TrialState.FAIL) == [interrupted]
    assert not states(after, TrialState.RUNNING)
    assert f"Best of study toy: trial {after.best_trial.number}, val/dice {after.best_value:.4f}" in again.stdout

    once_more = toy(tmp_path, lgg_root)
    assert once_more.returncode == 0, once_more.stderr
    assert "10 trials finished, 0 to go" in once_more.stdout
    assert len(study(tmp_path, "toy").trials) == 11


@pytest.mark.slow
def test_a_trial_that_fails_does_not_end_the_search(lgg_root: Path, tmp_path: Path) -> None:
    for name in ("killed", "broken"):
        (tmp_path / name).touch()
    result = toy(tmp_path, lgg_root)
    assert result.returncode == 0, result.stderr
    failed, done = (states(study(tmp_path, "toy"), state) for state in (TrialState.FAIL, TrialState.COMPLETE))
    assert failed
    assert done
    assert len(failed) + len(done) == 10
    assert max(trial["model.dropout"] for trial in failed) < 0.25 <= min(trial["model.dropout"] for trial in done)
    (tmp_path / "broken").unlink()
    assert toy(tmp_path, lgg_root).returncode == 0
    assert len(states(study(tmp_path, "toy"), TrialState.COMPLETE)) == 10


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=tag(log, interval(1e-4, 0.5))", FloatDistribution(1e-4, 0.5, log=True)),
        ("a=int(interval(1, 4))", IntDistribution(1, 4)),
        ("a=interval(1, 4)", FloatDistribution(1, 4)),
        ("a=range(1, 8, 2)", IntDistribution(1, 7, step=2)),
        ("a=range(0, 1, 0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("a=shuffle(range(1, 2))", CategoricalDistribution(["1"])),
        ("a=choice([8,16],[4])", CategoricalDistribution(["[8,16]", "[4]"])),
        ("a=x,y", CategoricalDistribution(["x", "y"])),
    ],
)
def test_what_a_sweep_of_hydras_is_to_optuna(override: str, expected: BaseDistribution) -> None:
    (parsed,) = grid.parse_overrides([override])
    assert distribution(parsed) == expected


class Objective:
    """A sweeper around scores worked by hand."""

    def __init__(self, root: Path, monitor: str, scores: list[float]) -> None:
        self.config = OmegaConf.create({"tracking": {"root": str(root)}, "monitor": monitor})
        self.study_name, self.storage, self.seed = "by hand", None, 0
        self.n_trials, self.n_jobs, self.sampler, self.pruner = len(scores), 2, RandomSampler, None
        self.scores, self.launcher, self.batches = iter(scores), self, []
        self.display = SimpleNamespace(console=terminal.console(), total=None)

    def launch(self, jobs: list[list[str]], initial_job_idx: int) -> list[SimpleNamespace]:
        self.batches.append((initial_job_idx, jobs))
        return [SimpleNamespace(return_value=next(self.scores)) for _ in jobs]


@pytest.mark.parametrize(
    ("monitor", "best"), [("val/dice", "trial 1, val/dice 0.7500"), ("val/loss", "trial 0, val/loss 0.2500")]
)
def test_the_best_trial_is_the_lowest_where_a_loss_is_monitored(
    monitor: str, best: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = Objective(tmp_path, monitor, [0.25, 0.75, 0.5])
    search(objective, ["seed=1", "model.dropout=interval(0.0, 0.5)"])
    assert f"Best of study by hand: {best}" in capsys.readouterr().out
    assert objective.display.total == 3
    assert [(first, len(jobs)) for first, jobs in objective.batches] == [(0, 2), (2, 1)]
    for _, jobs in objective.batches:
        for fixed, drawn in jobs:
            assert fixed == "seed=1"
            assert drawn.startswith("model.dropout=0.")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a=range(0,3,0)", "must not be zero; allowed: A,B or range"),
        ("a=range(0.0,3.0,0.0)", "Invalid range values .*; allowed: A,B or range"),
        ("a=range(3,0)", "allowed: at least one value"),
        ("a=range(0,1000000000)", "allowed: at least one value, and at most 10000"),
        ("a=shuffle(range(0,1000000000))", "allowed: at least one value, and at most 10000"),
        ("a=interval(0,1)", "an interval needs hydra/sweeper=optuna"),
    ],
)
def test_a_sweep_over_nothing_or_over_too_much_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"{re.escape(override)}: .*{message}"):
        list(grid.list_jobs(swept(GRID, {}, override)))


@pytest.mark.parametrize("override", ["a=interval(1,0)", "a=tag(log, interval(0,1))"])
def test_an_interval_that_optuna_cannot_draw_from_is_refused(override: str) -> None:
    with pytest.raises(UserError, match=rf"{re.escape(override)}: allowed: interval\(LOW,HIGH\)"):
        list(grid.list_jobs(swept(OPTUNA, {}, override)))


def test_where_every_trial_failed_there_is_no_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(Objective(tmp_path, "val/dice", [math.nan]), ["seed=0,1"])
    printed = capsys.readouterr().out
    assert "0 trials finished, 1 to go" in printed
    assert "Best" not in printed


def test_a_folder_of_whatever_name_has_its_own_searches(tmp_path: Path) -> None:
    search(Objective(tmp_path / "a%20b", "val/dice", [0.5]), ["seed=0,1"])
    search(Objective(tmp_path / "a b", "val/dice", [0.25, 0.75]), ["seed=0,1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "a%20b"]
    assert [finished(tmp_path / name / "optuna.db") for name in ("a%20b", "a b")] == [1, 2]


@pytest.mark.parametrize(
    ("now", "allowed"),
    [
        ("seed=0,1", True),
        ("seed=1,0", False),
        ("seed=0,1,2", False),
        ("seed=interval(0,1)", False),
        ("epochs=1,2", True),
    ],
)
def test_a_study_with_other_choices_is_refused_before_a_trial(now: str, allowed: bool, tmp_path: Path) -> None:
    search(Objective(tmp_path, "val/dice", [0.5]), ["seed=0,1"])
    again = Objective(tmp_path, "val/dice", [0.5, 0.25])
    if allowed:
        search(again, [now])
    else:
        with pytest.raises(UserError, match=r"seed: study by hand searches CategoricalDistribution\(choices=\('0', '1'\)\)"):
            search(again, [now])
        assert again.batches == []
        assert len(load_study(study_name="by hand", storage=f"sqlite:///{tmp_path}/optuna.db").trials) == 1


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"monitor": "val/loss"}, "monitor: study by hand has monitor=val/dice, which cannot become monitor=val/loss; give"),
        (
            {"image_size": 256, "epochs": 3},
            r"study by hand has image_size=128, .* image_size=256 \(and 1 more\)",
        ),
        ({"loss": {"_target_": "attnunet.losses.Focal"}}, "_target_: study by hand has _target_=attnunet.losses.Dice, which"),
        ({"dropout": 0}, "dropout: study by hand has a search, which cannot become dropout=0"),
        ({"hydra": {"runtime": {"choices": {"loss": "focal"}}}}, "loss: study by hand has loss=dice, which"),
        ({"study": "of another name", "trainer": {"threads": 8}, "tracking": {"patience": 3}}, None),
        ({"a_key_of_a_later_version": 1, "data": {"root": "data/../data"}}, None),
        ({"data": {"root": "elsewhere"}}, "data.root: study by hand has data.root=/.*/data, which cannot become"),
    ],
)
def test_a_study_of_other_settings_is_refused_before_a_trial(now: dict, message: str | None, tmp_path: Path) -> None:
    first = Objective(tmp_path, "val/dice", [0.5])
    made = {
        "image_size": 128,
        "epochs": 2,
        "study": "one",
        "dropout": 0.1,
        "trainer": {"threads": 1},
        "data": {"root": "data"},
    }
    made |= {"loss": {"_target_": "attnunet.losses.Dice"}, "hydra": {"runtime": {"choices": {"loss": "dice"}}}}
    first.config = OmegaConf.merge(first.config, made)
    search(first, ["dropout=0,1"])
    again = Objective(tmp_path, "val/dice", [0.5, 0.25])
    again.config = OmegaConf.merge(first.config, now)
    space = ["seed=0"] if "dropout" in now else ["dropout=0,1"]
    if message is None:
        search(again, space)
        assert len(again.batches) == 1
    else:
        with pytest.raises(UserError, match=message):
            search(again, space)
        assert again.batches == []


def test_a_study_without_a_finished_trial_takes_other_settings(tmp_path: Path) -> None:
    failing = Objective(tmp_path, "val/dice", [math.nan])
    failing.config.batch_size = 64
    search(failing, ["seed=0,1"])
    again = Objective(tmp_path, "val/dice", [0.5])
    again.config.batch_size = 16
    search(again, ["seed=0,1"])
    changed = Objective(tmp_path, "val/dice", [0.5, 0.5])
    changed.config.batch_size = 32
    with pytest.raises(UserError, match="study by hand has batch_size=16, which cannot become batch_size=32"):
        search(changed, ["seed=0,1"])


def test_a_damaged_store_of_searches_is_named(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=rf"{tmp_path}/optuna.db: it is no SQLite database: restore a copy of it"):
        search(Objective(tmp_path, "val/dice", [0.5]), ["seed=0,1"])


def test_a_search_is_not_run_twice_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(tmp_path / ".by%20hand.lock"):
        second = threading.Thread(target=search, args=(Objective(tmp_path, "val/dice", [0.5]), ["seed=0,1"]))
        second.start()
        second.join(0.5)
        assert second.is_alive()
    second.join(30)
    assert not second.is_alive()
    printed = capsys.readouterr().out
    assert "Waiting: another process runs study by hand" in printed
    assert "Best of study by hand: trial 0, val/dice 0.5000" in printed


@pytest.mark.slow
@pytest.mark.timeout(600)  # ten runs, one after the other
def test_a_search_of_real_runs_that_was_killed_ends_with_its_trials(lgg_root: Path, tmp_path: Path) -> None:
    smoke = [a.format(root=lgg_root) for a in SMOKE]
    arguments = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=10", "study=search", *smoke, "epochs=1"]
    arguments += ["trainer.threads=1", "trainer.figures=false", "trainer.keep=none", "model.filters=[4,8],[4,8,16]"]
    with subprocess.Popen(
        [sys.executable, "-m", "attnunet.train", *arguments],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        storage = tmp_path / "mlruns" / "optuna.db"
        while process.poll() is None and finished(storage) < 4:
            time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL)
    assert finished(storage) == 4

    again = command(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    after = study(tmp_path, "search")
    assert len(states(after, TrialState.COMPLETE)) == 10
    assert f"Best of study search: trial {after.best_trial.number}, val/dice" in again.stdout


def finished(storage: Path) -> int:
    """Trials that are complete; 0 while the store is being made."""
    try:
        with closing(sqlite3.connect(f"{storage.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
