"""Another Hydra application in a process that has imported attnunet behaves as it would without."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

# Names that conf/ has too; what it prints is what it was given, by Hydra's own sweeper and a plugin's own launcher.
APPLICATION = """
import copy, importlib, logging, sys
from dataclasses import dataclass
from typing import Any

for name in sys.argv[1:]:
    importlib.import_module(name)
sys.stderr = sys.stdout  # TensorFlow writes to the process's

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

@dataclass
class Train:
    width: int = 1
    loss: Any = None

ConfigStore.instance().store(name="train", node=Train)
ConfigStore.instance().store(group="loss", name="dice", node={"mine": True})
print(logging.raiseExceptions, copy.deepcopy(ConfigStore.instance()) is ConfigStore.instance())

@hydra.main(version_base="1.3", config_path=None, config_name="train")
def main(cfg):
    composed = HydraConfig.get()
    print(cfg, composed.launcher, composed.sweeper, composed.callbacks)

for arguments in (["width=2", "+loss=dice"], ["-m", "width=1,2"], ["hydra/launcher=joblib"], ["width=wide"]):
    sys.argv = ["main", *arguments, "hydra/hydra_logging=none", "hydra/job_logging=none"]
    try:
        main()
    except SystemExit as end:
        print("ended with", end.code)
"""
THAT_IMPORT_HYDRA = ("train", "evaluate", "predict", "compare", "export", "config.objects", "sweeps.parent", "sweeps.search")


def said(folder: Path, *modules: str) -> str:
    """What the application prints, its error messages among it."""
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", APPLICATION, *modules], cwd=folder, capture_output=True, text=True, check=True
    )
    return result.stdout


@pytest.mark.parametrize(
    "modules",
    [
        [f"attnunet.{name}" for name in THAT_IMPORT_HYDRA],
        pytest.param(
            [".".join(path.relative_to(REPO).with_suffix("").parts) for path in sorted(REPO.glob("attnunet/**/[a-z]*.py"))],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["those that import Hydra", "all"],
)
def test_it_is_as_it_is_without(modules: list[str], tmp_path: Path) -> None:
    alone = said(tmp_path / "alone")
    assert "{'width': 2, 'loss': {'mine': True}}" in alone
    assert alone.count("ended with") == 1
    assert said(tmp_path / "beside", *modules) == alone
