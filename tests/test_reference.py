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
        *(1.863357, 1.684256, 1.523417, 1.388665, 1.308635, 1.250489, 1.173453, 1.132723, 1.158176, 1.115867),
        *(1.097596, 1.092273, 1.073425, 1.092306, 1.069278, 1.074163, 1.070517, 1.056269, 1.064407, 1.050426),
    ],
    "conv": [
        *(1.489111, 1.307101, 1.167420, 1.123371, 1.084668, 1.063492, 1.044638, 1.017542, 1.036545, 1.023489),
        *(1.019422, 1.011014, 0.998292, 1.015693, 0.988203, 0.997980, 0.993776, 0.984504, 0.991392, 0.969898),
    ],
}


@pytest.mark.parametrize("model", ["conv", pytest.param("separable", marks=pytest.mark.slow)])
def test_the_loss_curve_is_the_committed_one(model: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.reference", model, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(json.loads(result.stdout), CURVES[model], rtol=TOLERANCE)
