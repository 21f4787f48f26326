"""The load of the machine during a run: CPU, memory and GPUs, for the system metrics of MLflow's page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

from attnunet.tracking.mlflow_internals import machine_monitors
from attnunet.tracking.run import Run

PREFIX = "system/"
"""The beginning of the names of these metrics. MLflow's page shows them in a tab of their own."""
INTERVAL = 10.0  # seconds


@contextmanager
def watch_machine(run: Run) -> Iterator[None]:
    """Log the load of the machine during a `with` block, every INTERVAL seconds and once at the end.

    MLflow's variable MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL sets another interval. The metrics wait with those of the run,
    so that an outage of the server neither stops nor slows the training. A resumed run goes on with the next step.
    """
    monitors = machine_monitors()
    interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL
    first = 1 + max((step for name, step in run.logged if name.startswith(PREFIX)), default=0)
    ended = threading.Event()

    def work() -> None:
        with suppress(Exception):  # the training raises the error of a store that refuses metrics
            step = first
            for monitor in monitors:
                monitor.collect_metrics()  # the CPU's load is measured from one call to the next
            while True:
                last = ended.wait(interval)
                for monitor in monitors:
                    monitor.clear_metrics()
                    monitor.collect_metrics()
                    values = monitor.aggregate_metrics()
                    run.metrics({f"{PREFIX}{name}": value for name, value in values.items()}, step)
                if last:
                    return
                step += 1

    thread = threading.Thread(target=work, daemon=True, name="machine")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
