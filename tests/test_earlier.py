"""A store that an earlier version wrote, commit 13a31db: two runs on drawn phantoms, read by the commands of today.

    python -m attnunet.train -m trainer=smoke trainer.threads=1 trainer.figures=false trainer.keep=best epochs=1 \\
        data=phantom data.patients=8 data.slices=6 data.size=32 image_size=32 evaluation.batch_size=8 batch_size=8 \\
        seed=0,1 study=earlier
"""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from attnunet.evaluation.scoring import load_predictor
from attnunet.tracking import records
from attnunet.tracking.records import Record
from attnunet.tracking.store import Store
from tests.conftest import command

STORE = Path(__file__).parent / "data" / "earlier.tar.xz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the store in it."""
    with tarfile.open(STORE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def runs(folder: Path) -> list[Record]:
    return records.runs_of_study(Store(folder / "mlruns", None, patience=0), "earlier")


def test_earlier_runs_are_read(runs: list[Record]) -> None:
    assert [(run.status, run.config.seed) for run in runs] == [("FINISHED", 0), ("FINISHED", 1)]
    assert [len(run.patients("val")) for run in runs] == [1, 1]
    assert runs[0].split["test"] == runs[1].split["test"]


def test_an_earlier_network_segments(runs: list[Record]) -> None:
    volume = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    mask = load_predictor(runs[0]).segment(volume)
    assert (mask.shape, mask.dtype) == ((2, 40, 48), np.uint8)
    assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "written"),
    [
        ("compare", ("study=earlier",), "mlruns/compare/earlier/leaderboard.csv"),
        ("evaluate", ("run={run}", "part=test"), None),
        ("predict", ("run={run}", "input=volume.npy", "output=masks"), "masks/volume.npy"),
        ("export", ("run={run}", "format=keras", "output=exported"), "exported/network.keras"),
    ],
)
def test_commands_take_earlier_runs(
    name: str, arguments: tuple[str, ...], written: str | None, folder: Path, runs: list[Record]
) -> None:
    np.save(folder / "volume.npy", np.zeros((2, 40, 48, 3), np.uint8))
    result = command(*(argument.format(run=f'"{runs[0].id}"') for argument in arguments), cwd=folder, name=name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert written is None or (folder / written).is_file()
