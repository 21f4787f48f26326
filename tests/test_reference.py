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
        *(1.877691, 1.700179, 1.528744, 1.398274, 1.310875, 1.247438, 1.176505, 1.131028, 1.158045, 1.116861),
        *(1.106979, 1.095269, 1.084464, 1.100657, 1.074545, 1.079849, 1.074429, 1.060399, 1.072370, 1.054672),
    ],
    "conv": [
        *(1.473013, 1.303550, 1.165267, 1.120011, 1.084248, 1.064068, 1.044821, 1.019173, 1.036734, 1.021528),
        *(1.020319, 1.009711, 1.001055, 1.016501, 0.987321, 0.996166, 0.993351, 0.985653, 0.992013, 0.970530),
    ],
}


@pytest.mark.parametrize("model", CURVES)
def test_the_loss_curve_is_the_committed_one(model: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.reference", model, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(json.loads(result.stdout), CURVES[model], rtol=TOLERANCE)
