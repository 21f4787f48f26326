"""Identities: what changes a run's fingerprint, and what leaves it alone."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from attnunet import config
from attnunet.config import fingerprints, reach
from attnunet.data.split import Split

SPLIT = Split((0,), (1,), (2,), dict(enumerate("abc")))
RUNS = {
    "dice": ("loss=dice",),
    "focal_dice": ("loss=focal_dice", "data=lgg", "data.root=x"),
    "focal": ("loss=focal", "model=conv"),
    "jaccard": ("loss=jaccard", "split=kfold", "data=table", "data.file=x.csv", "optimizer=adamw"),
}
ALL = frozenset(RUNS)
Edit = Callable[[str, str, str], set[str]]


@pytest.fixture(autouse=True, scope="module")
def hydra() -> Iterator[None]:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        yield


@cache
def composed(overrides: tuple[str, ...]) -> DictConfig:
    return compose("train", overrides=list(overrides))


def fingerprint(*overrides: str, data: str = "data", split: Split = SPLIT, test: bool = True, **arithmetic: str) -> str:
    recipe = fingerprints.recipe(composed(overrides), data, split, test)
    settings = {"threads": "2", "settings": "TF_ENABLE_ONEDNN_OPTS=1", **arithmetic}
    return fingerprints.Identity("", recipe, settings, {}).fingerprint


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


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of attnunet's source, which fingerprints are made of."""
    copy = tmp_path_factory.mktemp("source") / "attnunet"
    shutil.copytree(config.targets.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "conf"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reach, "PACKAGE", copy)
        reach.find_source.cache_clear()
        yield copy
    reach.find_source.cache_clear()


@pytest.fixture(scope="module")
def before(package: Path) -> dict[str, str]:
    return {name: fingerprint(*overrides) for name, overrides in RUNS.items()}


@pytest.fixture
def edit(package: Path, before: dict[str, str]) -> Iterator[Edit]:
    """Edit a file of the copy for one test; return the names of the RUNS whose fingerprints change."""
    undo = []

    def changed(file: str, old: str, new: str) -> set[str]:
        path = package / file
        text = path.read_text() if path.exists() else ""
        assert old in text
        undo.append(partial(path.write_text, text) if text else path.unlink)
        path.write_text(text.replace(old, new, 1) if old else text + new)
        reach.find_source.cache_clear()  # of a new file
        return {name for name, overrides in RUNS.items() if fingerprint(*overrides) != before[name]}

    yield changed
    for restore in undo:
        restore()


ADDED = {
    "a loss": (
        "losses.py",
        "@register\nclass Lovasz(Loss):\n    def call(self, y, z):\n        return dice(y, z)\n",
    ),
    "a network": ("models/unet.py", "from attnunet.models.blocks import conv_block\n"),
    "a figure": ("figures/scores.py", "def violins(rows):\n    return rows\n"),
    "a reader": ("data/folders.py", "from attnunet.data.slices import Dataset\n"),
    "a split": ("data/split.py", "def halves(subjects):\n    return by_patient(subjects)\n"),
    "an export format": ("inference/formats.py", "def to_npz(network, path):\n    return network.save(path)\n"),
    "a command": ("report.py", "from attnunet.training.fit import fit\n"),
}


@pytest.mark.parametrize("what", ADDED)
def test_an_addition_leaves_every_fingerprint(edit: Edit, what: str) -> None:
    file, text = ADDED[what]
    assert edit(file, "", text) == set()


CHANGED = {
    "the Dice loss": ("losses.py", "def dice(", "def dice(unused=0, *, ", {"dice", "focal_dice"}),
    "what the overlap losses share": ("losses.py", "def sums(", "def sums(unused=0, *, ", {"dice", "focal_dice", "jaccard"}),
    "the weighted sum": (
        "losses.py",
        "class WeightedSum(Loss):",
        "class WeightedSum(Loss):\n    unused = 0\n",
        {"focal_dice"},
    ),
    "the network's blocks": ("models/blocks.py", "def conv_block(", "def conv_block(unused=0, *, ", ALL),
    "one split": ("data/split.py", "def kfold(", "def kfold(unused=0, *, ", {"jaccard"}),
    "what the splits share": ("data/split.py", "def by_patient(", "def by_patient(unused=0, *, ", ALL),
    "the batches": ("data/batches.py", "class Steps", "class Unused: ...\n\n\nclass Steps", ALL),
    "the augmentation": ("data/augment.py", "class Augment:", "class Augment:\n    unused = 0\n", ALL),
    "the preparation": ("data/intensity.py", "def linear(", "def linear(unused=0, *, ", ALL),
    "the fit": ("training/fit.py", "class Fitted:", "class Fitted:\n    unused = 0\n", ALL),
    "the callbacks": ("training/callbacks.py", "class Validation(", "class Validation(object, ", ALL),
    "the predictor": ("inference/predictor.py", "def sigmoid(", "def sigmoid(unused=0, *, ", ALL),
    "the decision": ("metrics/decision.py", "def decide(", "def decide(unused=0, *, ", ALL),
    "what runs on import": ("losses.py", "register = ", 'import os\n\nos.environ["KEY"] = "1"\nregister = ', ALL),
    "a schedule": ("training/schedules.py", "def adamw(", "def adamw(unused=0, *, ", {"jaccard"}),
    "a reader": ("data/table.py", "def list_slices(", "def list_slices(unused=0, *, ", {"jaccard"}),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_change_reaches_the_runs_that_use_it(edit: Edit, what: str) -> None:
    *where, runs = CHANGED[what]
    assert edit(*where) == runs


SILENT = {
    "a docstring": ("losses.py", '"""', '"""Of images: '),
    "a comment": ("training/fit.py", "class Fitted:", "class Fitted:  # of a run"),
    "an annotation": ("losses.py", "smooth: float = 1.0", "smooth: int = 1.0"),
    "a figure": ("figures/scores.py", "def patients(", "def patients(unused=0, *, "),
    "an error's message": ("errors.py", "class UserError(Exception):", "class UserError(Exception):\n    unused = 0\n"),
    "the record": ("tracking/run.py", "def open_run(", "def open_run(unused=0, *, "),
}


@pytest.mark.parametrize("what", SILENT)
def test_what_only_prints_draws_or_records_leaves_every_fingerprint(edit: Edit, what: str) -> None:
    assert edit(*SILENT[what]) == set()


def test_the_code_of_a_users_own_loss_and_of_what_it_imports_is_in_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ("loss._target_=ownloss.Mine",)
    seen = []
    for factor, power in ((1, 1), (2, 1), (2, 2)):
        (tmp_path / "ownloss.py").write_text(f"from ownparts import power\n\nclass Mine:\n    factor = {factor} ** power\n")
        (tmp_path / "ownparts.py").write_text(f"power = {power}\nother = 0\n")
        seen.append(fingerprint(*overrides))
    (tmp_path / "ownparts.py").write_text("power = 2\nother = 1\n")
    assert len(set(seen)) == 3
    assert fingerprint(*overrides) == seen[-1]


def test_an_installed_module_is_in_the_fingerprint_if_the_command_line_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "site-packages" / "installedloss.py"
    file.parent.mkdir()
    monkeypatch.syspath_prepend(file.parent)
    seen = []
    for allowed in (set(), {"installedloss"}):
        monkeypatch.setattr(config.targets, "own", allowed)
        for factor in (1, 2):
            file.write_text(f"class Mine:\n    factor = {factor}\n")
            seen.append(fingerprint("loss._target_=installedloss.Mine"))
    assert len({*seen[2:]}) == 2
    assert seen[0] == seen[1]


def test_the_identity_of_the_code_knows_no_settings(edit: Edit) -> None:
    def codes() -> list[str]:
        return [fingerprints.code(composed(overrides)) for overrides in ((), ("seed=1", "epochs=3"), ("loss=jaccard",))]

    before = codes()
    assert before[0] == before[1]
    edit("losses.py", "def sums(", "def sums(unused=0, *, ")
    after = codes()
    assert after[0] == after[1] != before[0]
    assert after[2] != before[2]


def test_the_code_of_a_warm_start_is_in_the_fingerprint_of_runs_that_use_it(edit: Edit) -> None:
    plain, started = fingerprint(), fingerprint("init=abcdef")
    edit("evaluation/warm_start.py", "def start_from(", "def start_from(unused=0, *, ")
    assert fingerprint() == plain
    assert fingerprint("init=abcdef") != started


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("metrics/scores.py", "def sensitivity(", "def sensitivity(unused=0, *, ", {"sensitivity"}),
        (
            "metrics/catalog.py",
            "compute=lambda masks: precision(masks.volume)",
            "compute=lambda masks: dice(masks.volume)",
            {"precision"},
        ),
        ("metrics/catalog.py", 'label="precision"', 'label="positive predictive value"', set()),
        (
            "metrics/catalog.py",
            "METRICS: tuple[Metric, ...] = (",
            'METRICS: tuple[Metric, ...] = (\n    Metric(name="new", compute=dice),',
            {"new"},
        ),
    ],
    ids=["a function", "an entry", "a label", "an addition"],
)
def test_a_metric_has_an_identity_of_its_own(edit: Edit, file: str, old: str, new: str, changed: set[str]) -> None:
    before = fingerprints.metrics.__wrapped__()
    assert edit(file, old, new) == set()
    after = fingerprints.metrics.__wrapped__()
    assert {name for name in after if after[name] != before.get(name)} == changed


def test_what_the_metrics_share_changes_every_run(edit: Edit) -> None:
    assert edit("metrics/surfaces.py", "def distances(", "def distances(unused=0, *, ") == ALL


def test_the_version_of_python_is_in_the_fingerprint_but_not_its_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for version in (("3", "12", "1"), ("3", "12", "7"), ("3", "13", "1")):
        fingerprints.versions.cache_clear()
        monkeypatch.setattr("platform.python_version_tuple", lambda version=version: version)
        seen.append(fingerprint())
    fingerprints.versions.cache_clear()
    assert seen[0] == seen[1] != seen[2]
