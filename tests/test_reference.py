"""The committed loss curve: what a later change of speed must not change."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPO

# By `python -m tests.reference MODEL FOLDER` on 2026-11-22, 2 cores, oneDNN on. With oneDNN off the curves differed by at
# most 4e-5 of a value; the tolerance leaves room for other processors, and none for another order of samples, another
# augmentation, loss, schedule or initialisation.
TOLERANCE = 1e-3
CURVES = {
    "separable": [
        *(1.883719, 1.696023, 1.535149, 1.403493, 1.318715, 1.250514, 1.177476, 1.132647, 1.160744, 1.117378),
        *(1.104694, 1.097368, 1.078956, 1.100435, 1.073405, 1.077971, 1.073808, 1.057457, 1.071382, 1.050857),
    ],
    "conv": [
        *(1.485984, 1.291064, 1.164473, 1.119879, 1.084214, 1.065100, 1.040712, 1.013885, 1.033401, 1.016006),
        *(1.011581, 0.999151, 0.989079, 1.012043, 0.979699, 0.991628, 0.982305, 0.976039, 0.987968, 0.952203),
    ],
}


@pytest.mark.parametrize("model", CURVES)
def test_the_loss_curve_is_the_committed_one(model: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.reference", model, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(json.loads(result.stdout), CURVES[model], rtol=TOLERANCE)
