"""A run whose disk fills up in each phase: one sentence, exit code 1, and the same command goes on once there is room."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMOKE, command
from tests.test_train import Started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

OVERRIDES = (*SMOKE, "trainer.threads=1", "trainer.keep=all", "model.dropout=0.3")

# The train command, in which a disk fills up before one function's work.
FILLED = """
import os, shutil, sys
from importlib import import_module
from pathlib import Path

disk, module, names = sys.argv[1:4]
del sys.argv[1:4]

from attnunet import train
from attnunet.training import runtime

runtime.configure(0, 1, "float32")  # else what is patched could not be imported before its settings
*owners, name = names.split(".")
owner = import_module(module)
for part in owners:
    owner = getattr(owner, part)
original = getattr(owner, name)

def filled(*arguments, **keywords):
    with open(Path(disk, "ballast"), "wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, shutil.disk_usage(disk).free)
    return original(*arguments, **keywords)

setattr(owner, name, filled)
train.main()
"""

# Which disk fills up before what, start after start.
PHASES = {
    "cache: the masks": ("work", "attnunet.data.cache", "write_masks"),
    "cache: the images": ("work", "attnunet.data.cache", "write_images"),
    "store: before the first param": ("work", "attnunet.tracking.run", "Run.params"),
    "state: of the first epoch": ("work", "attnunet.training.state", "State.save"),
    "TMPDIR: the last network": ("scratch", "attnunet.tracking.run", "Run.network"),
    "artifacts: the last network": ("work", "attnunet.tracking.run", "Run.network"),
    "TMPDIR: the best checkpoint": ("scratch", "attnunet.tracking.run", "Run.predictor"),
    "artifacts: the best checkpoint": ("work", "attnunet.tracking.run", "Run.predictor"),
    "artifacts: the scores": ("work", "attnunet.evaluation.report", "log_scores"),
}
ONE = "state: of the first epoch"
MESSAGE = r"attnunet: .*(No space left on device; |the disk is full: )free some space there"


@pytest.mark.parametrize("phases", [pytest.param([ONE], id="one", marks=pytest.mark.ci), pytest.param([*PHASES], id="all")])
def test_a_run_goes_on_after_its_disk_was_full(
    phases: list[str], disks: tuple[Path, Path], lgg_root: Path, tmp_path: Path
) -> None:
    work, scratch = disks
    for folder in disks:
        subprocess.run(["mount", "-o", "remount,size=32m", str(folder)], check=True)
    (tmp_path / "filled.py").write_text(FILLED)
    arguments = (*OVERRIDES, f"data.root={lgg_root}")
    environment = {**os.environ, "TMPDIR": str(scratch)}
    for phase in phases:
        where, *place = PHASES[phase]
        full = {"work": work, "scratch": scratch}[where]
        line = [sys.executable, str(tmp_path / "filled.py"), str(full), *place, *arguments]
        done = subprocess.run(line, cwd=work, env=environment, capture_output=True, text=True, check=False)
        print(phase, done.stderr.splitlines()[-1:])
        assert done.returncode == 1, phase
        assert re.match(MESSAGE, done.stderr.splitlines()[-1]), done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert (full / "ballast").exists(), phase
        (full / "ballast").unlink()
    again = Started(work, command(*arguments, cwd=work, environment=environment))
    assert again.result.returncode == 0, again.result.stderr
    assert again.run.info.status == "FINISHED"
