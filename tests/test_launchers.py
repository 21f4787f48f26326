"""The launchers of conf/: the same sweep through each of them, and what is said where a plugin is not installed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf

from attnunet import config
from attnunet.sweeps import commands
from attnunet.sweeps.plugins import store_launchers
from tests.conftest import command
from tests.test_train import Started, assert_same, start, weights

PARALLEL = ("joblib", "submitit_local", "ray")
LAUNCHERS = sorted(path.stem for path in Path(config.CONF, "hydra", "launchers").glob("*.yaml"))
ONE_THREAD = ("trainer.threads=1", "trainer.figures=false")
EIGHT = ("model=conv,separable", "loss=focal,dice", "seed=0,1")


def composed(*overrides: str) -> DictConfig:
    store_launchers()
    with initialize_config_dir(config.CONF, version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def test_every_launcher_has_its_file() -> None:
    assert set(LAUNCHERS) == {*PARALLEL, "submitit_slurm"}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_is_composed_and_made_with_options_that_its_plugin_knows(name: str) -> None:
    from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
    from hydra_plugins.hydra_ray_launcher._config import RayLauncherConf
    from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf

    cfg = composed(f"hydra/launcher={name}")
    known = dict(zip(LAUNCHERS, (JobLibLauncherConf, RayLauncherConf, LocalQueueConf, SlurmQueueConf), strict=True))[name]
    # Merging would refuse a key or a type.
    OmegaConf.merge(OmegaConf.structured(known), OmegaConf.to_container(cfg.hydra.launcher, resolve=False))
    made = Plugins.instance()._instantiate(cfg.hydra.launcher)
    assert f"{type(made).__module__}.{type(made).__name__}" == cfg.hydra.launcher._target_
    assert int(cfg.hydra.job.env_set.OMP_NUM_THREADS) >= 1


def test_jobs_of_one_machine_do_not_share_a_gpu_by_accident() -> None:
    for name in ("joblib", "submitit_local"):
        assert composed(f"hydra/launcher={name}").hydra.job.env_set.CUDA_VISIBLE_DEVICES == ""
    assert "CUDA_VISIBLE_DEVICES" not in composed("hydra/launcher=ray").hydra.job.env_set


@pytest.fixture
def without_plugins(tmp_path: Path) -> Path:
    """A folder in which no plugin of Hydra's is found: a package hides the one in which they are installed."""
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("choice", "extra"),
    [*((f"hydra/launcher={name}", name.partition("_")[0]) for name in LAUNCHERS), ("hydra/sweeper=optuna", "optuna")],
)
def test_what_is_not_installed_is_named_with_its_extra(choice: str, extra: str, without_plugins: Path) -> None:
    result = command("-m", choice, "seed=0,1", cwd=without_plugins)
    assert result.returncode == 1
    assert f"{choice} needs an extra: pip install 'attnunet[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (without_plugins / "mlruns").exists()


def test_variables_of_a_sweep_are_set_unless_they_are_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNUNET_TEST_A", "mine")
    monkeypatch.setenv("ATTNUNET_TEST_B", "")  # so that it is put back
    monkeypatch.delenv("ATTNUNET_TEST_B")
    commands.Environment(ATTNUNET_TEST_A="ours", ATTNUNET_TEST_B="ours").on_multirun_start(OmegaConf.create())
    assert [commands.os.environ[f"ATTNUNET_TEST_{name}"] for name in "AB"] == ["mine", "ours"]


def results(sweep: Started) -> Iterator[tuple[tuple[str, ...], Run, list[np.ndarray]]]:
    """Each job's choices, its run and its best weights, in the order of the choices."""
    assert sweep.result.returncode == 0, sweep.result.stderr
    for run in sorted(sweep.jobs, key=key):
        assert run.info.status == "FINISHED"
        yield key(run), run, weights(Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoints" / "best.keras")


def key(run: Run) -> tuple[str, ...]:
    return tuple(run.data.params[name] for name in ("model", "loss", "seed"))


def assert_same_results(ours: Started, theirs: Started, jobs: int) -> None:
    pairs = list(zip(results(ours), results(theirs), strict=True))
    assert len(pairs) == jobs
    for (choices, run, best), (other_choices, other, other_best) in pairs:
        assert choices == other_choices
        for metric in ("val/dice", "train/loss"):
            assert run.data.metrics[metric] == other.data.metrics[metric]
        assert run.data.tags["fingerprint"] == other.data.tags["fingerprint"]
        assert_same(best, other_best)


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory, lgg_root: Path) -> Started:
    return start(tmp_path_factory.mktemp("basic"), lgg_root, "-m", *ONE_THREAD, *EIGHT)


@pytest.mark.slow
@pytest.mark.timeout(600)  # two sweeps of a minute or two
@pytest.mark.parametrize("launcher", PARALLEL)
def test_eight_jobs_have_the_same_bits_through_every_launcher(
    launcher: str, basic: Started, lgg_root: Path, tmp_path: Path
) -> None:
    sweep = start(tmp_path, lgg_root, "-m", f"hydra/launcher={launcher}", *ONE_THREAD, *EIGHT)
    assert_same_results(basic, sweep, jobs=8)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(600)
def test_jobs_in_processes_have_the_bits_of_jobs_in_one(lgg_root: Path, tmp_path: Path) -> None:
    here = start(tmp_path / "basic", lgg_root, "-m", *ONE_THREAD, "seed=0,1", "epochs=1")
    there = start(tmp_path / "joblib", lgg_root, "-m", "hydra/launcher=joblib", *ONE_THREAD, "seed=0,1", "epochs=1")
    assert_same_results(here, there, jobs=2)
