"""What several test files share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

REPO = Path(__file__).parent.parent
SAMPLE = REPO.parent / "shared" / "data" / "kaggle_3m_sample"
CPU = Path("/proc/cpuinfo")
ROUNDING = 0 if CPU.exists() and "avx512f" in CPU.read_text() else 1e-6
"""How far logits and probabilities may lie apart if another number of images is computed at once; see `Predictor.logits`."""


def command(
    *arguments: str,
    cwd: Path,
    python: tuple[str, ...] = (),
    name: str = "train",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`python -m attnunet.train ARGUMENTS`, or another command by its name, in the folder `cwd`, with more variables."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *python, "-m", f"attnunet.{name}", *arguments],
        cwd=cwd,
        env={**inherited, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def every(step: int, cases: Sequence[tuple]) -> list:
    """Return test parameters. A command costs a second: every `step`-th case is a fast test, the others are slow tests."""
    marks = ([] if number % step == 0 else [pytest.mark.slow] for number, _ in enumerate(cases))
    return [pytest.param(*case, marks=mark) for case, mark in zip(cases, marks, strict=True)]


def write_slice(folder: Path, number: int, image: np.ndarray, mask: np.ndarray) -> None:
    """`<patient>/<patient>_<number>.tif` and its mask; image (h, w, 3) in the order pre, FLAIR, post, mask of 0 and 255."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{folder.name}_{number}"
    cv2.imwrite(str(folder / f"{stem}.tif"), image[..., ::-1] if image.ndim == 3 else image)
    cv2.imwrite(str(folder / f"{stem}_mask.tif"), mask)


def write_patient(root: Path, patient: str, slices: int = 6, size: int = 32, seed: int = 0) -> Path:
    """A patient whose middle slices show a bright square in all channels, on noise."""
    rng = np.random.default_rng(seed)
    for number in range(1, slices + 1):
        image = rng.integers(0, 100, (size, size, 3), dtype=np.uint8)
        mask = np.zeros((size, size), np.uint8)
        if slices // 3 < number <= slices - slices // 3:
            top, left = rng.integers(2, size // 2, 2)
            mask[top : top + size // 4, left : left + size // 4] = 255
            image[mask > 0] += 120
        write_slice(root / patient, number, image, mask)
    return root / patient


@pytest.fixture(scope="session")
def lgg_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small patients of three sites, in the data set's layout; not to be written to."""
    root = tmp_path_factory.mktemp("lgg") / "kaggle_3m"
    for index in range(12):
        site = ("CS", "DU", "HT")[index % 3]
        write_patient(root, f"TCGA_{site}_{4000 + index}_20000101", seed=index)
    return root


SMOKE = ("trainer=smoke", "data=lgg", "evaluation.batch_size=8", "trainer.figures=false")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, lgg_root: Path) -> Path:
    """A folder whose store has one finished run, of the study "tried"; to be copied by those that log to it."""
    folder = tmp_path_factory.mktemp("trained")
    result = command(*SMOKE, f"data.root={lgg_root}", "study=tried", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def mixed_float16() -> Iterator[None]:
    """Keras's layers compute in float16 until the test ends."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="session")
def sample() -> Path:
    """The 60 real patients beside the checkout; a test that needs them is skipped without."""
    if not SAMPLE.is_dir():
        pytest.skip("needs ../shared/data/kaggle_3m_sample, which is not beside this checkout")
    return SAMPLE


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A disk of 4 MB at `folder`; tests that need one are skipped where nothing can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "attnunet", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a disk of its own, and mount is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    with mounted(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
def disks(disk: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two disks of 4 MB."""
    with mounted(tmp_path / "scratch") as scratch:
        yield disk, scratch
