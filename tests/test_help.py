"""The answer to --help: keys with the comments of conf/, the command's own groups, and what a choice changes in it."""

import runpy
import sys
from pathlib import Path

import pytest

from attnunet import train
from attnunet.config.comments import read_defaults, read_keys, read_prefix
from attnunet.sweeps.help import describe_command, set_row
from tests.conftest import REPO

COMMANDS = runpy.run_path(str(REPO / ".ci" / "reference.py"))["COMMANDS"]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_a_key_has_its_default_and_the_comment_behind_it() -> None:
    text = "a: 1  # one\nb:\n  _target_: x\n  c: [1, '#2']   # two\n  d: [\n    3]  # three\ne:\n  - 4  # four\nf: {}\n"
    found = [(key.name, key.default, key.comment) for key in read_keys(text, "g") if not key.inner]
    assert found == [
        ("g.a", "1", "one"),
        ("g.b.c", "[1, '#2']", "two"),
        ("g.b.d", "[3]", "three"),
        ("g.e", "[4]", ""),
        ("g.f", "{}", ""),
    ]
    assert read_keys("# only a comment\n") == read_defaults("# only a comment\n") == []


def test_a_file_says_below_which_key_it_goes() -> None:
    assert read_prefix("# @package _global_\nseed: 1\n", "experiment") == ""
    assert read_prefix("# @package hydra\nx: 1\n", "hydra/launcher") == "hydra"
    assert read_prefix("x: 1\n", "model") == "model"


def test_a_comment_stands_beside_its_key_or_below_it() -> None:
    assert set_row("seed=0", "seeds all", 100) == ["  seed=0                   seeds all"]
    assert set_row("seed=0", "", 100) == ["  seed=0"]
    assert set_row("evaluation.batch_size=32", "slices", 100) == ["  evaluation.batch_size=32", " " * 27 + "slices"]
    assert set_row("k=1", "one two", 31) == ["  k=1                      one", " " * 27 + "two"]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_its_keys_and_only_its_groups_in_100_columns(name: str) -> None:
    lines = describe_command(name, None).splitlines()
    assert max(map(len, lines)) <= 100
    text = (REPO / "conf" / f"{name}.yaml").read_text()
    assert {key.name for key in read_keys(text)} <= {line.strip().partition("=")[0] for line in lines}
    rows = [line for line in lines[lines.index("Groups, as GROUP=CHOICE:") :] if line.startswith("  ") and line[2] != " "]
    plugins = {"hydra/launcher", "hydra/sweeper"} if name == "train" else set()
    own = {entry.name for entry in read_defaults(text)} - {"hydra", "optional model/of_trainer@model"}
    assert {line.strip().partition("=")[0] for line in rows} == own | plugins


def test_a_choice_shows_its_own_keys(tmp_path: Path) -> None:
    assert "  image_size=128           side of the square that the network sees, in pixels\n" in describe_command(
        "train", None
    )
    shown = describe_command("train", None, ["model=conv", "+experiment=original", "seed=3"])
    assert "  model=conv               the network [conv, separable]\n" in shown
    assert "model=conv\nAttention Residual U-Net whose blocks use keras.layers.Conv2D" in shown
    assert "  model.dropout=0.0        share of features that dropout removes\n" in shown
    assert "  trainer.lesion_share=null\n" in shown
    both = describe_command("train", None, ["model=conv,separable"])
    assert "model=conv\nAttention" in both
    assert "model=separable\nAttention" in both
    # A choice of one's own.
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("# Mine.\n_target_: attnunet.losses.Dice\nsmooth: 0.5  # how smooth\n")
    own = describe_command("train", str(tmp_path), ["loss=mine"])
    assert "jaccard, mine, tversky]" in own
    assert "loss=mine\nMine.\n\n  loss.smooth=0.5          how smooth\n" in own


def test_a_wrong_choice_beside_help_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds the current folder
    monkeypatch.setattr(sys, "argv", ["attnunet-train", "--help", "model=conv"])
    train.main()
    assert "model.dropout=0.0" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["attnunet-train", "--help", "model=cnov"])
    with pytest.raises(SystemExit, match=r"model=cnov: no such choice; did you mean conv\?"):
        train.main()
    assert capsys.readouterr().out == ""
