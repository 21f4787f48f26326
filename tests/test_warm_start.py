"""Runs that start from the weights of another run, and the runs that they may not start from."""

from pathlib import Path

import numpy as np
import pytest

from tests.test_train import start, weights


@pytest.mark.slow
def test_a_run_starts_from_another_runs_weights_which_the_record_names(lgg_root: Path, tmp_path: Path) -> None:
    """With a learning rate that moves no weight, the second run keeps the trained weights of the first."""
    first = start(tmp_path, lgg_root, "optimizer.learning_rate=0.01")
    origin = first.run.info.run_id
    before = weights(first.artifact("checkpoints/best.keras"))

    second = start(tmp_path, lgg_root, f"init={origin[:8]}", "optimizer.learning_rate=1e-30")
    assert second.result.returncode == 0, second.result.stderr
    assert f"starts from the weights of run {origin}" in " ".join(second.result.stdout.split())
    (run,) = (run for run in second.runs if run.info.run_id != origin)
    assert run.data.params["init"] == origin
    after = weights(Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoints/best.keras")
    trainable = [place for place, (a, b) in enumerate(zip(before, after, strict=True)) if np.allclose(a, b, rtol=1e-6)]
    assert len(trainable) >= len(before) / 2  # all but the moving statistics

    leaking = start(tmp_path, lgg_root, f"init={origin}", "split.seed=1")
    assert leaking.result.returncode == 1
    assert f"init={origin}: run {origin}" in leaking.result.stderr
    assert "has seen patients of val: " in leaking.result.stderr
    chained = start(tmp_path, lgg_root, f"init={run.info.run_id}", "split.seed=1")
    assert "has seen patients of val: " in chained.result.stderr
    other = start(tmp_path, lgg_root, f"init={origin}", "model=conv")
    assert "allowed: a run with the same model and channels" in other.result.stderr
    absent = start(tmp_path, lgg_root, "init=nobody")
    assert "run=nobody: no run with such an id" in absent.result.stderr
