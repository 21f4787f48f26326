"""A job's configuration is the one that Hydra makes of the same overrides."""

import pickle
from pathlib import Path

import pytest
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf

from attnunet.sweeps.composition import CachingLoader, open_loader
from attnunet.sweeps.plugins import store_launchers


@pytest.fixture
def loader() -> CachingLoader:
    store_launchers()
    setbase("1.3")
    return open_loader(None)


def sweep(loader: CachingLoader, *hydra_s: str) -> DictConfig:
    cfg = loader.load_configuration("train", list(hydra_s), RunMode.MULTIRUN)
    cfg.hydra.job.name = "train"
    return cfg


def both(loader: CachingLoader, of: DictConfig, overrides: list[str]) -> tuple[DictConfig, DictConfig]:
    """Ours, and what Hydra makes anew; neither resolved."""
    theirs = loader.load_configuration("train", [*of.hydra.overrides.hydra, *overrides], RunMode.RUN)
    return loader.load_sweep_config(of, overrides), theirs


JOBS = {
    "values": [["seed=1", "optimizer.learning_rate=0.1"], ["seed=2", "image_size=64"]],
    "groups": [["model=conv", "seed=1"], ["model=separable", "seed=1"], ["model=conv", "seed=2"]],
    "a recipe": [["experiment=phantom", "seed=3"], ["experiment=phantom", "epochs=7"]],
    "another package": [["+loss@extra=dice", "seed=1"], ["+loss@extra=focal", "seed=1"]],
    "a value after its addition": [["+loss.extra=1", "loss.extra=2"], ["+loss.extra=1", "loss.extra=3"]],
    "a forced one after a value": [["seed=1", "++seed=5"], ["seed=2", "++seed=5"]],
    "a value that is deleted": [["model.gate=none", "~model.gate"], ["model.gate=concat", "~model.gate"]],
    "a group that is deleted": [["~experiment", "seed=1"], ["~experiment", "seed=2"]],
    "a dictionary": [["model={filters:[4,8]}", "seed=1"], ["model={filters:[8,16]}", "seed=2"]],
    "an interpolation": [["batch_size=${image_size}", "image_size=32"], ["batch_size=${image_size}", "image_size=64"]],
    "quotes": [["study='a b'", "seed=1"], ["study='c=d'", "seed=1"]],
}


@pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS)
def test_it_is_hydra_s(jobs: list[list[str]], loader: CachingLoader) -> None:
    """The whole of it, with what Hydra tells a job about itself; job after job, since they share what is composed."""
    of = sweep(loader)
    for overrides in jobs:
        ours, theirs = both(loader, of, overrides)
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)


def test_what_the_sweep_sets_of_hydra_s_reaches_its_jobs(loader: CachingLoader) -> None:
    of = sweep(loader, "+hydra.job.env_set.A=1", "hydra/launcher=joblib")
    ours, theirs = both(loader, of, ["seed=1"])
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
    assert ours.hydra.job.env_set.A == "1"
    assert ours.hydra.launcher.n_jobs == 2


def test_a_jobs_changes_are_its_own(loader: CachingLoader) -> None:
    of = sweep(loader)
    first = loader.load_sweep_config(of, ["seed=1"])
    first.seed = 9
    assert loader.load_sweep_config(of, ["epochs=1"]).seed == 0


@pytest.mark.parametrize("override", ["no_such_key=1", "model=no_such_model", "~no_such_key", "+seed=1"])
def test_what_hydra_refuses_is_refused_in_its_words(override: str, loader: CachingLoader) -> None:
    of = sweep(loader)
    with pytest.raises(HydraException) as theirs:
        loader.load_configuration("train", [override], RunMode.RUN)
    with pytest.raises(HydraException) as ours:
        loader.load_sweep_config(of, [override])
    assert str(ours.value) == str(theirs.value)


def test_a_group_on_another_search_path_is_a_group(loader: CachingLoader, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "small.yaml").write_text("width: 3\n")
    of = sweep(loader, f"hydra.searchpath=[file://{tmp_path}]")
    ours, theirs = both(loader, of, ["+net=small", "seed=1"])
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
    assert ours.net.width == 3


def test_a_loader_that_travelled_to_a_jobs_process_answers_the_same(loader: CachingLoader) -> None:
    of = sweep(loader, "hydra/launcher=joblib")
    here = loader.load_sweep_config(of, ["model=conv", "seed=1"])
    there = pickle.loads(pickle.dumps(loader)).load_sweep_config(of, ["model=conv", "seed=1"])
    assert OmegaConf.to_yaml(there) == OmegaConf.to_yaml(here)
