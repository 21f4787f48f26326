"""What predict can tell of its paths before it looks for the run, let alone for its network."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from attnunet import predict
from attnunet.errors import UserError
from attnunet.sweeps import terminal
from tests.conftest import command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `in` of one volume, which no one has to read, and a folder in it of another."""
    for place in ("in", "in/p1"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "v.npy").touch()
    return tmp_path


def inputs(folder: Path, source: str = "in", output: str = "out", **keys: bool) -> list[Path]:
    """The files of the volumes that `attnunet.predict` would read."""
    given = {"input": str(folder / source), "output": str(folder / output), "probabilities": False, "overwrite": False}
    found = predict.find_inputs(OmegaConf.create({**given, **keys}), terminal.console())
    return [file for source in found for file in source.files]


def test_what_can_be_segmented_is_found_and_nothing_is_made(folder: Path) -> None:
    assert set(inputs(folder)) == {folder / "in" / "v.npy", folder / "in" / "p1" / "v.npy"}
    assert inputs(folder, output="not/yet/there") == inputs(folder)
    assert [path.name for path in folder.iterdir()] == ["in"]


@pytest.mark.parametrize("source", ["nowhere", "in/nobody.nii.gz", "in/v.npy/more"])
def test_an_input_that_is_not_there_is_said(source: str, folder: Path) -> None:
    with pytest.raises(UserError, match=f"^input={folder / source}: no such file or folder$"):
        inputs(folder, source)


def file_at(path: Path) -> None:
    path.touch()


def dangling_link_at(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


@pytest.mark.parametrize("make", [file_at, dangling_link_at])
@pytest.mark.parametrize(("output", "found"), [("out", "out"), ("out/deep/er", "out"), ("o", "o/p1")])
def test_an_output_that_is_no_folder_is_refused(make, output: str, found: str, folder: Path) -> None:  # noqa: ANN001
    (folder / found).parent.mkdir(exist_ok=True)
    make(folder / found)
    with pytest.raises(UserError, match=rf"^output={folder / output}\S*: {folder / found} is not a folder; allowed"):
        inputs(folder, output=output, overwrite=True)


def test_an_output_that_cannot_be_written_to_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "out").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder / "out")  # root may write anywhere
    with pytest.raises(UserError, match=rf"^output={folder / 'out/new'}\S*: {folder / 'out'} cannot be written to;"):
        inputs(folder, output="out/new")


def test_a_folder_is_never_replaced_by_a_mask(folder: Path) -> None:
    (folder / "out" / "v.npy").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"{folder / 'out/v.npy'} is a folder; give another output"):
        inputs(folder, overwrite=True)


WRONG = {
    ("predict", "input=in/none.png", "output=out"): "input=in/none.png: no such file or folder",
    ("predict", "input=in/p1", "output=in/v.npy"): "in/v.npy is not a folder",
    ("predict", "input=in/empty", "output=out"): "input=in/empty: nothing to segment there",
    ("export", "output=in"): "output=in: exists; give a folder that does not",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_path_of_no_use_is_refused_before_tensorflow(arguments: tuple[str, ...], folder: Path) -> None:
    (folder / "in" / "empty").mkdir()
    (folder / "mlruns").mkdir()
    (folder / "mlruns" / "mlflow.db").touch()
    name, *keys = arguments
    result = command("run=abc", *keys, cwd=folder, python=("-X", "importtime"), name=name)
    *imports, said = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (1, "")
    assert said.startswith("attnunet: ")
    assert WRONG[arguments] in said
    assert all(line.startswith("import time:") and line.split()[-1] not in ("tensorflow", "mlflow") for line in imports)
