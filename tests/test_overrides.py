"""Overrides that nobody means, drawn over all keys: each is refused by its key, with what is allowed, or could run."""

import random
import re
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from attnunet import config
from attnunet.config import checks, objects
from attnunet.config.checks import items_of
from attnunet.errors import UserError
from attnunet.sweeps import commands, grid, plugins
from attnunet.sweeps.composition import CachingLoader

NASTY = [
    *(
        "null",
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "1e20",
        "1000000000",
        "1" * 32,
        "0.5",
        "true",
        "foo",
        "''",
        "' '",
        "a/b",
        "../../x",
    ),
    *(
        "[]",
        "[1]",
        "[null]",
        "[[]]",
        "{}",
        "{a:1}",
        "{_target_:os.system,command:ls}",
        "[flair,flair]",
        "1_000",
        "0x1F",
        "'ä b'",
    ),
    *(
        "os.system",
        "attnunet.store.clear",
        "ftp://x",
        "http://a:b",
        "???",
        "${nothing}",
        "${oc.env:NOT_SET}",
        "${seed}",
        "\\$x",
    ),
    *(
        "2024-01-01",
        "a=b",
        "(",
        "[",
        "'",
        "a,b",
        "1:2",
        "x" * 600,
        "/proc/x",
        "/etc/passwd/x",
        "${oc.decode:'['}",
        "${seed:1}",
    ),
]
SWEEPS = [
    "0,1",
    "null,1",
    "range(0,3)",
    "range(0,3,0)",
    "range(3,0)",
    "range(0,1e9)",
    "interval(0,1)",
    "glob(*)",
    "choice(a,b)",
]
HYDRA = [
    *(
        "hydra",
        "hydra.callbacks",
        "hydra.callbacks.check",
        "hydra.run.dir",
        "hydra.sweep.dir",
        "hydra.sweep.subdir",
        "hydra.verbose",
    ),
    *("hydra.mode", "hydra.output_subdir", "hydra.job.chdir", "hydra.job.name", "hydra.job_logging", "hydra.hydra_logging"),
    *(
        "hydra.launcher",
        "hydra.sweeper",
        "hydra.sweeper.max_batch_size",
        "hydra.sweeper.params",
        "hydra/launcher",
        "hydra/sweeper",
    ),
]
FORMS = [*["{key}={value}"] * 6, "+{key}={value}", "++{key}={value}", "~{key}", "~{key}={value}", "+{key}._partial_={value}"]


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    plugins.store_launchers()
    with initialize_config_dir(config.CONF, version_base="1.3"):
        yield CachingLoader(GlobalHydra.instance().config_loader().get_search_path())


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a configuration, groups and the elements of lists among them."""
    for name, value in items_of(node):
        yield f"{prefix}{name}"
        yield from keys(value, f"{prefix}{name}.")


def draws(loader: ConfigLoader, number: int, seed: int) -> Iterator[tuple[str, str, bool]]:
    """Keys, overrides of them, and whether these are of a sweep."""
    chance = random.Random(seed)
    composed = config.without_hydra(loader.load_configuration("train", [], RunMode.RUN))
    known = [*keys(OmegaConf.to_container(composed)), *HYDRA, "experiment"]
    for _ in range(number):
        key = chance.choice([*known, f"{chance.choice(known)}.foo", "foo"])
        sweep = chance.random() < 0.3
        yield key, chance.choice(FORMS).format(key=key, value=chance.choice(SWEEPS if sweep else NASTY)), sweep


def refusal(loader: ConfigLoader, override: str, sweep: bool) -> str | None:
    """What the train command says of an override before it looks at data; None if it says nothing. Other errors are raised."""
    arguments = Namespace(overrides=[override], config_dir=None, config_path=None, experimental_rerun=None)
    try:
        commands.check_arguments(arguments)
        try:
            cfg = loader.load_configuration("train", [override], RunMode.MULTIRUN if sweep else RunMode.RUN)
        except Exception as error:  # as it reaches `run_command`
            return "\n".join(commands.explain_arguments(error, loader, "train", [override], sweep))
        if sweep:
            cfg.hydra.job.name = "train"
            plugins.check_plugins(cfg)
            grid.check_grid(cfg, loader)
        else:
            checks.check(config.settle(config.without_hydra(cfg), config.as_typed(cfg.hydra.overrides.task)))
            config.check_folder("tracking.root", cfg.tracking.root)
            config.check_folder("hydra.run.dir", cfg.hydra.run.dir)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("override", "sweep", "message"),
    [
        ("loss=1", False, "loss=1: no such choice; allowed: bce_dice, dice"),
        ("loss=null", False, "loss=null: no such choice; allowed: bce_dice, dice"),
        ("loss=dise", False, "loss=dise: no such choice; did you mean dice?\n  allowed: bce_dice, dice, focal, "),
        (
            "learning_rate=0.1",
            False,
            "learning_rate: unknown key; did you mean optimizer.learning_rate?\n  allowed: augment, ",
        ),
        ("++learning_rate=0.1", False, "learning_rate: unknown key; did you mean optimizer.learning_rate?\n  allowed: seed, "),
        ("modle=conv", False, "modle: unknown key; did you mean model?\n"),
        (
            "loss.weights.dise=1",
            False,
            "loss.weights.dise: unknown key; did you mean loss.weights.dice?\n  allowed: dice, focal",
        ),
        ("+trainer.worker=1", False, "trainer.worker: unknown key; did you mean trainer.workers?\n"),
        ("+model.dropuot=1", False, "model.dropuot: unknown key; did you mean model.dropout?\n  allowed: filters, "),
        ("experimnt=best", False, "experimnt: unknown key; did you mean experiment?\n"),
        ("hydra/laucher=joblib", False, "hydra/laucher: unknown key; did you mean hydra/launcher?\n"),
        ("hydra.jbo.name=x", False, "hydra.jbo.name: unknown key; did you mean hydra.job.name?\n"),
        ("seed=0,1", False, "seed=0,1: allowed: one value; several need -m"),
        ("seed.foo=1", False, "seed.foo=1: seed holds no keys; allowed: seed=..."),
        ("split={a:1}", False, "split={a:1}: Key 'a' is not in struct; allowed in it: _target_, seed, test,"),
        ("hydra.callbacks.check=null", False, "hydra.callbacks.check=null: turns off the checks of a run"),
        ("tracking.root=/dev/null/x", False, "tracking.root=/dev/null/x: /dev/null is not a folder; allowed"),
        ("++model=conv", False, "++model=conv: ++ is for keys; allowed: model=..., one of conv, separable"),
        (
            "++model=glob(*)",
            True,
            "job ++model=conv\n++model=conv: ++ is for keys; allowed: model=..., one of conv, separable",
        ),
        ("model=glob(x*)", True, "model=glob(x*): allowed: at least one value"),
        ("seed=glob(*)", True, "seed=glob(*): allowed: at least one value"),
        ("hydra.launcher._target_=foo", True, "hydra.launcher._target_=foo: no such launcher"),
        ("hydra/sweeper=basic", True, "hydra/sweeper=basic: makes no parent run for its jobs; allowed: grid, optuna"),
        ("hydra.sweep.dir=/dev/null/x", True, "hydra.sweep.dir=/dev/null/x: /dev/null is not a folder; allowed"),
    ],
)
def test_what_hydra_or_a_sweep_cannot_take_is_refused_by_key(
    override: str, sweep: bool, message: str, loader: ConfigLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "check_run", checks.check)  # without data
    said = refusal(loader, override, sweep)
    assert said is not None
    assert said.startswith(message)


def test_a_password_is_not_repeated(loader: ConfigLoader) -> None:
    for override in (
        "+tracking.uri=http://me:secret@host",
        "tracking.uri=http://me:secret@host,(",
        "tracking.uri=secret,secret",
    ):
        said = refusal(loader, override, sweep=False)
        assert said is not None
        assert "tracking.uri" in said
        assert "secret" not in said


def test_a_pickle_is_not_read() -> None:
    with pytest.raises(config.ConfigError, match="--experimental-rerun: loads a pickle, which can run any code; allowed: "):
        commands.check_arguments(Namespace(experimental_rerun="run.pickle"))


def test_a_group_is_swept_by_a_pattern(loader: ConfigLoader) -> None:
    cfg = loader.load_configuration("train", ["model=glob(c*)", "seed=0,1"], RunMode.MULTIRUN)
    assert list(grid.list_jobs(cfg)) == [["model=conv", "seed=0"], ["model=conv", "seed=1"]]


SAYS_WHAT = "allowed|quote|must|should|lacks|expected|is missing|not Optional|not a valid|[Cc]annot|could not"


def check(loader: ConfigLoader, monkeypatch: pytest.MonkeyPatch, number: int, seed: int) -> None:
    monkeypatch.setattr(objects, "check_run", checks.check)  # without data
    said = {override: (key, refusal(loader, override, sweep)) for key, override, sweep in draws(loader, number, seed)}
    refused = {override: (key, message) for override, (key, message) in said.items() if message is not None}
    assert len(refused) > len(said) / 2
    for override, (key, message) in refused.items():
        assert re.split("[./]", key)[0] in message, (override, message)
        assert re.search(SAYS_WHAT, message), (override, message)
        assert "HYDRA_FULL_ERROR" not in message, (override, message)


def test_a_few(loader: ConfigLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    check(loader, monkeypatch, 12, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_hundred(loader: ConfigLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    check(loader, monkeypatch, 500, seed=1)
