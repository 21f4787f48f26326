"""The load of the machine among the metrics of a run: logged at its steps, and at no cost to the training."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from attnunet.tracking import machine, mlflow_internals
from attnunet.tracking.machine import watch_machine


class Logged:
    """As much of a `Run` as `watch_machine` uses."""

    def __init__(self, logged: set[tuple[str, int]]) -> None:
        self.logged, self.sent = logged, list[tuple[str, int]]()

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.sent += [(name, step) for name in values]


CPU = ["system/cpu_utilization_percentage", "system/system_memory_usage_megabytes", "system/system_memory_usage_percentage"]


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "machine_monitors", lambda: mlflow_internals.machine_monitors()[:1])


def watched(run: Any) -> Any:
    return watch_machine(run)


def test_a_run_that_ends_at_once_has_its_load_once() -> None:
    run = Logged(set())
    with watched(run):
        pass
    assert run.sent == [(name, 1) for name in CPU]


def test_a_resumed_run_goes_on_with_the_next_step_each_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.02")
    run = Logged({(CPU[0], 6), ("train/loss", 50)})
    with watched(run):
        while len(run.sent) < 6:
            time.sleep(0.005)
    assert run.sent[:6] == [(name, step) for step in (7, 8) for name in CPU]


def test_a_store_that_refuses_metrics_ends_the_watch_and_not_the_run() -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("refused")

    with watched(SimpleNamespace(logged=set(), metrics=refuse)):
        pass
    assert "machine" not in [thread.name for thread in threading.enumerate()]


def test_another_version_of_mlflow_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_internals.mlflow, "__version__", "3.18.0")
    run = Logged(set())
    with watched(run):
        pass
    assert run.sent == []
