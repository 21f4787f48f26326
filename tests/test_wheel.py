"""The wheel, away from the repository: built, installed into an empty environment, used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

pytestmark = [pytest.mark.slow, pytest.mark.ci]


def run(*command: str | Path, cwd: Path) -> str:
    hidden = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files, as a release would be."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=REPO).splitlines():
        if (REPO / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, source, cwd=source)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_the_configurations_and_no_study(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(wheel, tmp_path, "zip")
    assert (tmp_path / "attnunet" / "conf" / "train.yaml").is_file()
    assert (tmp_path / "attnunet" / "conf" / "loss" / "focal_dice.yaml").is_file()
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".dist-info"} == {"attnunet", "hydra_plugins"}
    # Without an __init__.py, which would hide the plugins of other packages.
    assert sorted(path.name for path in (tmp_path / "hydra_plugins").iterdir()) == ["attnunet_grid.py", "attnunet_optuna.py"]


@pytest.mark.timeout(1500)  # TensorFlow is installed
def test_the_installed_wheel_trains_on_phantom_data_and_answers(wheel: Path, tmp_path: Path) -> None:
    environment, folder = tmp_path / "environment", tmp_path / "elsewhere"
    folder.mkdir()
    run(sys.executable, "-m", "venv", environment, cwd=folder)
    # The locked versions, so that what a new release of a dependency breaks does not show as a fault of the wheel.
    run(environment / "bin" / "pip", "install", "--quiet", "--constraint", REPO / "requirements.lock", wheel, cwd=folder)
    command = environment / "bin" / "attnunet-train"

    assert "_target_: attnunet.losses.WeightedSum" in run(command, "--cfg", "job", cwd=folder)
    assert not list(folder.iterdir())
    # A user's own loss, beside the command, through a folder of configurations.
    (folder / "own" / "loss").mkdir(parents=True)
    (folder / "own" / "loss" / "mine.yaml").write_text("_target_: mine.Mine\n")
    (folder / "mine.py").write_text("from attnunet.losses import Dice\n\n\nclass Mine(Dice):\n    pass\n")
    printed = run(
        command,
        "--config-dir",
        "own",
        "loss=mine",
        "modules=[mine]",
        "trainer=smoke",
        "data.patients=9",
        "data.slices=8",
        "data.size=64",
        cwd=folder,
    )
    assert "Dice, mean over patients" in printed
    assert (folder / "mlruns" / "mlflow.db").is_file()
