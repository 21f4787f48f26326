"""What predict can tell of its paths before it looks for the run, let alone for its network."""

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from attnunet import predict
from attnunet.errors import UserError
from attnunet.inference.inputs import find
from attnunet.inference.segmenting import Work
from tests.conftest import command
from tests.scans import Takes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `in` of one volume, and a folder in it of another."""
    for place in ("in", "in/p1"):
        (tmp_path / place).mkdir()
        np.save(tmp_path / place / "v.npy", np.zeros((1, 2, 2, 3), np.uint8))
    return tmp_path


def inputs(folder: Path, source: str = "in", output: str = "out") -> list[Path]:
    """The files of the volumes that `attnunet.predict` would read."""
    given = {"input": str(folder / source), "output": str(folder / output), "ignore": ["*_mask*"]}
    found = predict.find_inputs(OmegaConf.create(given), folder / source)
    return [file for source in found.volumes for file in source.files]


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
        inputs(folder, output=output)


def test_an_output_that_cannot_be_written_to_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "out").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder / "out")  # root may write anywhere
    with pytest.raises(UserError, match=rf"^output={folder / 'out/new'}\S*: {folder / 'out'} cannot be written to;"):
        inputs(folder, output="out/new")


def check_outputs(folder: Path, existing: str, *endings: str) -> None:
    """Whether the volumes of `in` can be written to `out`."""
    cases, _ = find(folder / "in").cases(Takes(), None)
    predict.check_outputs(cases, Work(folder / "out", ("", *endings)), existing)


def test_a_folder_is_never_replaced_by_a_mask(folder: Path) -> None:
    (folder / "out" / "v.npy").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"{folder / 'out/v.npy'} is a folder; give another output"):
        check_outputs(folder, "overwrite")


@pytest.mark.parametrize("existing", ["refuse", "skip", "overwrite"])
def test_an_image_of_the_input_is_never_replaced(existing: str, folder: Path) -> None:
    (folder / "out").symlink_to(folder / "in")
    with pytest.raises(UserError, match=r"out/\S*v\.npy is an image of the input; give another folder"):
        check_outputs(folder, existing)
    with pytest.raises(UserError, match=r"out: lies in the input, where masks would be taken for images; give another folder"):
        inputs(folder)


def test_two_volumes_of_one_mask_are_refused(folder: Path) -> None:
    np.save(folder / "in" / "v_probability.npy", np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(UserError, match=r"two images of the input would be written to .*v_probability\.npy; rename one"):
        check_outputs(folder, "refuse", "_probability")


def test_a_file_that_is_there_is_replaced_if_told(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "v.npy").touch()
    with pytest.raises(UserError, match=r"v\.npy exists; allowed: existing=skip to do what is missing, or overwrite"):
        check_outputs(folder, "refuse")
    check_outputs(folder, "overwrite")


WRONG = {
    ("predict", "input=in/none.png", "output=out"): "input=in/none.png: no such file or folder",
    ("predict", "input=in/p1", "output=in/v.npy"): "in/v.npy is not a folder",
    ("predict", "input=in/empty", "output=out"): "input=in/empty: nothing to segment there",
    ("predict", "input=text.tif", "output=out"): "text.tif: cannot be decoded; it is no TIFF, PNG or JPEG file",
    ("predict", "input=in", "output=out", "threshold=2"): "threshold=2: Input should be less than 1",
    ("export", "output=in"): "output=in: exists; give a folder that does not",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_path_of_no_use_is_refused_before_tensorflow(arguments: tuple[str, ...], folder: Path) -> None:
    (folder / "in" / "empty").mkdir()
    (folder / "mlruns").mkdir()
    (folder / "mlruns" / "mlflow.db").touch()
    (folder / "text.tif").write_text("a text")
    name, *keys = arguments
    result = command("run=abc", *keys, cwd=folder, python=("-X", "importtime"), name=name)
    *imports, said = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (2 if name == "predict" else 1, "")
    assert said.startswith("attnunet: ")
    assert WRONG[arguments] in said
    unneeded = {"tensorflow", "mlflow", "matplotlib"}
    assert all(line.startswith("import time:") and line.split()[-1] not in unneeded for line in imports)
