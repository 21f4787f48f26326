"""What changes the fingerprint of a run, and what does not."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from attnunet import config
from attnunet.config.fingerprints import versions, without_docstrings
from attnunet.data.split import Split

SPLIT = Split((0,), (1,), (2,), dict(enumerate("abc")))


@cache
def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        return compose("train", list(overrides))


def fingerprint(*overrides: str, data: str = "data", split: Split = SPLIT, test: bool = True, **arithmetic: str) -> str:
    recipe = config.recipe(composed(*overrides), data, split, test)
    return config.fingerprint(recipe, {"threads": "2", "settings": "TF_ENABLE_ONEDNN_OPTS=1", **arithmetic})


FREE = ("study=other", "trainer.workers=2", "trainer.keep=none", "trainer.figures=false", "data.root=x", "data.exclude=[x]")


@pytest.mark.parametrize("free", FREE)
def test_what_cannot_change_a_result_does_not_change_its_fingerprint(free: str) -> None:
    assert fingerprint(free) == fingerprint()


OTHER = ("seed=1", "epochs=3", "model=conv", "augment=none", "data.channels=[flair]")


@pytest.mark.parametrize("other", OTHER)
def test_what_can_change_a_result_changes_its_fingerprint(other: str) -> None:
    assert fingerprint(other) != fingerprint()


def test_data_split_arithmetic_and_what_is_scored_are_in_the_fingerprint() -> None:
    swapped = replace(SPLIT, train=SPLIT.val, val=SPLIT.train)
    others = [fingerprint(data="other"), fingerprint(split=swapped), fingerprint(test=False)]
    bits = [fingerprint(threads="1"), fingerprint(settings="TF_ENABLE_ONEDNN_OPTS=0")]
    assert len({fingerprint(), *others, *bits}) == 6


def test_the_code_of_a_users_own_loss_is_in_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    seen = set()
    for factor in (1, 2):
        (tmp_path / "ownloss.py").write_text(f"class Mine:\n    factor = {factor}\n")
        seen.add(fingerprint("loss._target_=ownloss.Mine"))
    assert len(seen) == 2


def test_the_version_of_python_is_in_the_fingerprint_but_not_its_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for version in (("3", "12", "1"), ("3", "12", "7"), ("3", "13", "1")):
        versions.cache_clear()
        monkeypatch.setattr("platform.python_version_tuple", lambda version=version: version)
        seen.append(fingerprint())
    versions.cache_clear()
    assert seen[0] == seen[1] != seen[2]


def test_docstrings_are_not_in_the_fingerprint() -> None:
    import ast

    first, second = (ast.parse(f'def f(x):\n    "{doc}"\n    return x\n') for doc in ("one", "two"))
    assert ast.dump(without_docstrings(first)) == ast.dump(without_docstrings(second))
    assert ast.dump(first) != ast.dump(ast.parse("def f(x):\n    return -x\n"))
