"""What a job of a sweep costs beyond its training, and what it leaves in the memory of its process."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
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
    """When each job ended, the first one's start before them; seconds of its `fit` and of its figures; MB of the process."""
    seen: dict[str, list[float]] = {"end": [time.perf_counter()], "fit": [], "figures": [], "resident": []}
    one = train.train

    def job(*arguments: Any, **named: Any) -> Any:
        from attnunet.tracking.run import Run
        from attnunet.training import fit

        seen["fit"].append(0.0)
        seen["figures"].append(0.0)
        drawn, trained = timed(Run.figures, seen["figures"]), timed(fit.fit, seen["fit"])
        with mock.patch.object(fit, "fit", trained), mock.patch.object(Run, "figures", drawn):
            result = one(*arguments, **named)
        seen["end"].append(time.perf_counter())
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
    whole = [later - earlier for earlier, later in pairwise(seen["end"])]
    beyond = [a - b for a, b in zip(whole, seen["fit"], strict=True)]
    bare = [a - b for a, b in zip(beyond, seen["figures"], strict=True)]
    growth = (seen["resident"][-1] - seen["resident"][9]) / (JOBS - 10)
    return [
        row("sweep", "first job of a process beyond its training", "s", beyond[:1]),
        row("sweep", "next jobs beyond their training", "s", beyond[1:], "<= 1.5"),
        row("sweep", "the same without their figures", "s", bare[1:]),
        row("sweep", "training of the first job, traced", "s", seen["fit"][:1]),
        row("sweep", "training of the next jobs", "s", seen["fit"][1:]),
        row("sweep", "a smoke job in a process of its own", "s", separate),
        row("sweep", f"memory of the process after {JOBS} smoke jobs", "MB", seen["resident"][-1:]),
        row("sweep", f"memory growth a job, over jobs 11 to {JOBS}", "MB", [growth], "<= 10"),
    ]


if __name__ == "__main__":
    hand_over(main())
