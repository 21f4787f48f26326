"""A configuration may name attnunet's parts, some packages' classes and a user's own modules; nothing that runs a command."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from attnunet import config
from attnunet.config import checks, objects, targets
from attnunet.tracking.records import Record, Tampered
from tests.conftest import command


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test allows ends with it."""
    monkeypatch.setattr(targets, "own", set())


MAY = [
    ("model", "attnunet.models.attention_resunet.attention_resunet"),
    ("model", "keras.layers.SeparableConv2D"),
    ("model", "keras.regularizers.L2"),
    ("loss", "attnunet.losses.FocalTversky"),
    ("loss", "keras.losses.Dice"),
    ("data", "attnunet.data.table.table"),
    ("split", "attnunet.data.split.kfold"),
    ("augment", "attnunet.data.augment.Augment"),
    ("augment", "albumentations.Affine"),
    ("optimizer", "attnunet.training.schedules.adamw"),
    ("hydra/sweeper", "optuna.samplers.TPESampler"),
]


@pytest.mark.parametrize(("group", "target"), MAY)
def test_what_a_group_is_made_of_may_be_named(group: str, target: str) -> None:
    targets.check(target, group)


MAY_NOT = [
    ("data", "os.system"),
    ("data", "subprocess.Popen"),
    ("data", "builtins.eval"),
    ("data", "hydra.utils.get_object"),
    ("data", "attnunet.store.clear"),  # ours, and removes runs
    ("data", "attnunet.data.phantom.write_phantom"),
    ("data", "attnunet.data.split.kfold"),  # of another group
    ("split", "attnunet.config.find_spec"),
    ("loss", "attnunet.train.os.system"),
    ("loss", "attnunet.losses.Foo"),
    ("loss", "keras.saving.load_model"),
    ("loss", "keras.losses"),
    ("model", "keras.utils.get_file"),
    ("model", "keras.src.utils.file_utils.get_file"),
    ("model", "keras.layers.TFSMLayer"),  # handed out by keras.layers, loads a graph
    ("model", "keras.layers.Conv2DD"),
    ("augment", "albumentations.core.serialization.load"),
    ("augment", "albumentations.os.system"),
    ("hydra/sweeper", "optuna.create_study"),
    ("data", "mine.Data"),
    ("data", ""),
    ("data", "."),
    ("data", "data"),
    ("data", None),
    ("data", 5),
]


@pytest.mark.parametrize(("group", "target"), MAY_NOT)
def test_nothing_else_may_be_named(group: str, target: Any) -> None:
    with pytest.raises(targets.TargetError, match=f"_target_={target}: "):
        targets.check(target, group)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("albumentations.load", "is not defined in albumentations"),  # a function, which reads a file
        ("albumentations.os", "is not defined in albumentations|there is no such"),
        ("albumentations.Flip", "there is no such function or class"),  # gone since albumentations 2
    ],
)
def test_a_name_must_lead_to_a_class_of_the_package(target: str, reason: str) -> None:
    targets.check_identity("albumentations.Affine", "augment")
    with pytest.raises(targets.TargetError, match=f"_target_={target}: .*({reason})"):
        targets.check_identity(target, "augment")


def test_a_module_of_the_users_own_is_named_by_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ownparts.py").write_text(
        "import os\nfrom os import system\nfrom functools import partial\nrun = partial(system)\n"
        "class Part:\n    pass\ndef build(subjects):\n    return len(subjects)\n"
    )
    node = OmegaConf.create({"_target_": "ownparts.build"})
    with pytest.raises(config.ConfigError, match=r"split._target_=ownparts.build: may not be named here; .*modules=\[...\]"):
        objects.make(node, "split")
    targets.allow(["ownparts"])
    assert objects.make(node, "split")(["a", "b"]) == 2
    targets.check_identity("ownparts.Part", "loss")
    for stranger in ("ownparts.system", "ownparts.run", "ownparts.os"):  # imported there, not defined
        with pytest.raises(targets.TargetError, match=f"_target_={stranger}: is not defined in"):
            targets.check_identity(stranger, "loss")
    for absent in ("ownparts.Gone", "ownparts.os.system"):
        with pytest.raises(targets.TargetError, match=f"_target_={absent}: there is no such"):
            targets.check_identity(absent, "loss")
    del sys.modules["ownparts"]


def test_the_key_of_own_modules_is_checked_and_taken_from_the_command_line() -> None:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        with pytest.raises(config.ConfigError, match=r"modules\.0=a b: "):
            checks.check(compose("train", ["modules=['a b']"]))
        with pytest.raises(config.ConfigError, match=r"loss\._target_=ownloss\.Mine: may not be named"):
            checks.check(compose("train", ["loss._target_=ownloss.Mine"]))
        checks.check(compose("train", ["loss._target_=ownloss.Mine", "modules=[ownloss]"]))


def test_a_group_that_names_a_command_does_not_run_it(tmp_path: Path) -> None:
    run = tmp_path / "ran"
    for node in (
        {"_target_": "os.system", "command": f"touch {run}"},
        {"_target_": "attnunet.data.lgg.lgg", "root": {"_target_": "os.system", "command": f"touch {run}"}},
        {"_target_": "attnunet.data.lgg.lgg", "exclude": [{"_target_": "pathlib.Path.touch", "self": str(run)}]},
    ):
        with pytest.raises(config.ConfigError, match="may not be named here"):
            objects.make(OmegaConf.create(node), "data")
    assert not run.exists()


@pytest.mark.parametrize("node", [5, "os.system", None, [], {"root": "a"}])
def test_a_stored_group_without_a_target_is_refused(node: Any) -> None:
    with pytest.raises(config.ConfigError, match="data: lacks `_target_`"):
        objects.make(OmegaConf.create({"data": node}).data, "data")


class Stored(Record):
    """A run whose artifacts are one text."""

    def text(self, path: str) -> str:
        return self.run.content  # type: ignore[attr-defined]


def stored(content: str) -> Record:
    return Stored(None, SimpleNamespace(content=content, info=SimpleNamespace(run_id="abc", run_name="name")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        "data:\n  root: ${oc.env:HOME}\n",  # would tell a variable in an error's text
        "data: !!python/object/apply:os.system [ls]\n",
        "data: [\n",
        "- a list\n",
    ],
)
def test_a_stored_configuration_is_plain_data(content: str) -> None:
    with pytest.raises(Tampered, match=r"config.yaml of run abc \(name\) is not what a run writes"):
        _ = stored(content).config
    assert stored("data:\n  root: a\n").config.data.root == "a"


@pytest.mark.slow
def test_somebody_elses_store_cannot_run_a_command(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "mlruns", tmp_path / "mlruns")
    (stored,) = (tmp_path / "mlruns" / "artifacts").glob("*/artifacts/config.yaml")
    content = yaml.safe_load(stored.read_text())
    content["data"] = {"_target_": "os.system", "command": f"touch {tmp_path / 'ran'}"}
    stored.write_text(yaml.safe_dump(content))
    result = command(f"run={stored.parent.parent.name}", cwd=tmp_path, name="evaluate")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "ran").exists()
