"""Runs that start from the weights of another run, and the runs that they may not start from."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attnunet.evaluation import scoring, warm_start
from attnunet.inference.predictor import Preparation
from attnunet.tracking.records import RunError
from tests.test_train import start, weights


def record(name: str) -> Any:
    return SimpleNamespace(id=name, name=f"run-{name}")


class Network:
    def __init__(self, value: float) -> None:
        self.weights = [np.full((3, 3, 3, 4), value)]

    def get_weights(self) -> list[np.ndarray]:
        return self.weights

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = weights


MADE = Preparation(16, ("a", "b", "c"), ("a", "b"), "zscore", neighbors=("b",))


@pytest.mark.parametrize(
    ("change", "moved", "told"),
    [
        ({}, "", []),
        ({"channels": ("b", "a")}, "b, a", []),
        ({"neighbors": ("a",)}, "", ["neighbors was ('b',) and is ('a',)"]),
        ({"channels": ("c", "b")}, "", ["channels was ('a', 'b') and is ('c', 'b')"]),
        ({"intensity": "raw", "image_size": 32}, "", ["intensity was zscore and is raw", "image_size was 16 and is 32"]),
    ],
)
def test_weights_stay_with_their_channels(
    change: dict[str, Any], moved: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other sequences may take the place of the earlier ones, as when a network for T1 goes on with T2."""
    earlier: Any = SimpleNamespace(network=Network(1.0), preparation=MADE)
    now: Any = SimpleNamespace(network=Network(2.0), preparation=replace(MADE, **change))
    monkeypatch.setattr(scoring, "load_predictor", lambda _: earlier)
    if moved:
        with pytest.raises(RunError, match=f"so its weights for {moved} belong to another channel"):
            warm_start.start_from(now, record("a"))
        assert now.network.weights[0][0, 0, 0, 0] == 2
    else:
        assert warm_start.start_from(now, record("a")) == told
        assert now.network.weights[0][0, 0, 0, 0] == 1


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
