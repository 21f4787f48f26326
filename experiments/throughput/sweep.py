"""What a job of a sweep costs beyond its training, and what it leaves in the memory of its process."""

import subprocess
import sys
import tempfile
import time
from typing import Any
from unittest import mock

from measure import Row, hand_over, memory, row, seconds

from attnunet import train

JOBS = 20  # a job takes 10 to 15 s, nearly all of it tracing
OWN = 3  # jobs in processes of their own


def command(root: str, *overrides: str) -> list[str]:
    return ["trainer=smoke", f"tracking.root={root}", *overrides]


def in_process(root: str) -> tuple[list[float], list[float], list[float]]:
    """-> seconds of each job, of its `fit`, and MB of the process at its end; the first job begins with the imports."""
    whole, fits, resident = [], [], []
    one = train.train

    def job(*arguments: Any, **named: Any) -> Any:
        from attnunet.training import fit

        trained = fit.fit

        def fitted(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = trained(*arguments, **named)
            fits.append(time.perf_counter() - start)
            return result

        start = time.perf_counter()
        with mock.patch.object(fit, "fit", fitted):
            result = one(*arguments, **named)
        whole.append(time.perf_counter() - start)
        resident.append(memory())
        return result

    sys.argv = ["attnunet.train", "-m", *command(root, f"seed=range({JOBS})")]
    with mock.patch.object(train, "train", job):
        train.main()
    return whole, fits, resident


def main() -> list[Row]:
    rows_file = sys.argv[1]
    with tempfile.TemporaryDirectory() as root:
        whole, fits, resident = in_process(root)
        sys.argv[1:] = [rows_file]
        own = [sys.executable, "-m", "attnunet.train"]
        separate = [
            seconds(lambda: subprocess.run([*own, *command(root, f"seed={s}")], check=True, capture_output=True))  # noqa: B023
            for s in range(JOBS, JOBS + OWN)
        ]
    beyond = [a - b for a, b in zip(whole, fits, strict=True)]
    growth = (resident[-1] - resident[9]) / (JOBS - 10)
    return [
        row("sweep", "first job of a process beyond its training", "s", beyond[:1]),
        row("sweep", "next jobs beyond their training", "s", beyond[1:], "<= 1.5"),
        row("sweep", "training of a smoke job, tracing included", "s", fits[1:]),
        row("sweep", "a smoke job in a process of its own", "s", separate),
        row("sweep", f"memory of the process after {JOBS} smoke jobs", "MB", resident[-1:]),
        row("sweep", f"memory growth a job, over jobs 11 to {JOBS}", "MB", [growth], "<= 10"),
    ]


if __name__ == "__main__":
    hand_over(main())
