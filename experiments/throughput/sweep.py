"""What a job of a sweep costs beyond its training, and what it leaves in the memory of its process."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from measure import Row, hand_over, memory, row, seconds

from attnunet import train

JOBS = 50
OWN = 3  # jobs in processes of their own


def command(root: str, *overrides: str) -> list[str]:
    return ["trainer=smoke", f"tracking.root={root}", *overrides]


def timed(work: Callable[..., Any], taken: list[float]) -> Callable[..., Any]:
    """`work`, which adds the seconds that it took to those of the job."""

    def measured(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = work(*arguments, **named)
        taken[-1] += time.perf_counter() - start
        return result

    return measured


def in_process(root: str) -> dict[str, list[float]]:
    """Seconds of each job, of its `fit` and of its figures, and MB of the process at its end; the first job begins with
    the imports."""
    seen: dict[str, list[float]] = {"whole": [], "fit": [], "figures": [], "resident": []}
    one = train.train

    def job(*arguments: Any, **named: Any) -> Any:
        from attnunet.tracking.run import Run
        from attnunet.training import fit

        for name in ("whole", "fit", "figures"):
            seen[name].append(0.0)
        drawn, trained = timed(Run.figures, seen["figures"]), timed(fit.fit, seen["fit"])
        with mock.patch.object(fit, "fit", trained), mock.patch.object(Run, "figures", drawn):
            result = timed(one, seen["whole"])(*arguments, **named)
        seen["resident"].append(memory())
        return result

    sys.argv = ["attnunet.train", "-m", *command(root, f"seed=range({JOBS})")]
    with mock.patch.object(train, "train", job):
        train.main()
    return seen


def main() -> list[Row]:
    rows_file = sys.argv[1]
    with tempfile.TemporaryDirectory() as root:
        seen = in_process(root)
        sys.argv[1:] = [rows_file]
        own = [sys.executable, "-m", "attnunet.train"]
        separate = [
            seconds(lambda: subprocess.run([*own, *command(root, f"seed={s}")], check=True, capture_output=True))  # noqa: B023
            for s in range(JOBS, JOBS + OWN)
        ]
    beyond = [a - b - c for a, b, c in zip(seen["whole"], seen["fit"], seen["figures"], strict=True)]
    growth = (seen["resident"][-1] - seen["resident"][9]) / (JOBS - 10)
    return [
        row("sweep", "first job of a process beyond training and figures", "s", beyond[:1]),
        row("sweep", "next jobs beyond training and figures", "s", beyond[1:], "<= 1.5"),
        row("sweep", "training of the first job, traced", "s", seen["fit"][:1]),
        row("sweep", "training of the next jobs", "s", seen["fit"][1:]),
        row("sweep", "figures of a job", "s", seen["figures"][1:]),
        row("sweep", "a smoke job in a process of its own", "s", separate),
        row("sweep", f"memory of the process after {JOBS} smoke jobs", "MB", seen["resident"][-1:]),
        row("sweep", f"memory growth a job, over jobs 11 to {JOBS}", "MB", [growth], "<= 10"),
    ]


if __name__ == "__main__":
    hand_over(main())
