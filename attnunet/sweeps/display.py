"""The terminal during a sweep: a line for each job that ends, and a bar with the time left of the whole sweep.

Only the process that started the sweep prints. A job prints to the log in its own folder (see `terminal.print_to`). This
module reads the logs and the outcomes there, so it works in the same way for every launcher.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from attnunet.tracking.labels import shorten_keys
from attnunet.tracking.sweep import read_outcomes, round_number

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PERIOD = 0.5  # seconds between two looks at the folders of the jobs
EPOCH = re.compile(r"epoch +(\d+)/(\d+) ")
"""The start of the line that `training.callbacks.ShowProgress` prints after each epoch."""
WARNING = re.compile(r"\[.*?\]\[(?!attnunet\.tracking\.sweep\]).*?\]\[(WARNING|ERROR|CRITICAL)\] - (.*)")
"""A line of Hydra's job log. The logger that is left out only reports that the job failed, which the line of the job says."""


@dataclass
class Job:
    """A job that has started, as its log shows it.

    Attributes:
        facts: the number and the overrides of the job, and its outcome, as `tracking.sweep.run_job` writes them.
        log: the log of the job.
        since: the time at which the job was first seen, by time.monotonic().
        line: the last line of the log.
        before: the number of epochs that were trained before the job started; None until an epoch ends.
        epoch: the last epoch that ended.
        epochs: the number of epochs of the whole training.
    """

    facts: dict[str, Any]
    log: Path
    since: float
    line: str = ""
    before: int | None = None
    epoch: int = 0
    epochs: int = 0
    offset: int = 0  # bytes of the log that were read

    def read(self) -> list[str]:
        """Read the new lines of the log, and return the warnings and errors in them."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(self.offset)
                whole, _, _ = stream.read().rpartition(b"\n")
        except OSError:
            return []
        self.offset += len(whole) + bool(whole)
        lines = [line for line in whole.decode(errors="replace").splitlines() if line.strip()]
        for found in filter(None, map(EPOCH.match, lines)):
            self.epoch, self.epochs = int(found[1]), int(found[2])
            self.before = self.epoch - 1 if self.before is None else self.before
        self.line = lines[-1] if lines else self.line
        return [f"{found[1].lower()}: {found[2]}" for found in filter(None, map(WARNING.match, lines))]

    @property
    def share(self) -> float:
        """The share of its epochs that the job has trained since it started, from 0 to 1."""
        return 0.0 if self.before is None else (self.epoch - self.before) / (self.epochs - self.before)


def estimate_left(
    finished: Sequence[float], running: Sequence[tuple[float, float]], waiting: int, at_once: int
) -> float | None:
    """Return the seconds that a sweep has left; None if nothing is known yet.

    A job in its training takes as long as its epochs foretell, and any other job takes the mean time of the finished jobs.
    Before a job has finished, it takes the mean time of the running jobs.

    Args:
        finished: the seconds of each job that was trained from its first epoch to its last.
        running: for each running job, the seconds since its start and the share of its epochs that are trained.
        waiting: the number of jobs that have not started.
        at_once: the number of jobs that run at once.
    """
    foretold = [elapsed / share for elapsed, share in running if share]
    if not (finished or foretold):
        return None
    usual = mean(finished or foretold)
    left = [max(0.0, (elapsed / share if 0 < share < 1 else usual) - elapsed) for elapsed, share in running]
    return max([(sum(left) + waiting * usual) / max(at_once, 1), *left])


def format_time(seconds: float) -> str:
    """Return a duration as text: 45 s, 12 min or 3 h 05 min."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def shorten(text: str, width: float) -> str:
    """Return a text of at most `width` characters."""
    return text if len(text) <= width else f"{text[: max(0, int(width) - 3)]}..."


def keep_end(text: str, width: int) -> str:
    """Return the end of a text, in at most `width` characters."""
    return text if len(text) <= width else f"...{text[3 - width :]}"


class Display:
    """The lines and the bar of a sweep."""

    def __init__(self, console: Console, folder: Path, log: str, monitor: str, swept: Collection[str]) -> None:
        """
        Args:
            folder: Hydra's folder for the sweep, which holds a folder for each job.
            log: the name of the log in the folder of a job.
            monitor: the metric that each job returns.
            swept: the keys that have several values in the sweep. Of the overrides of a job, only these are shown.
        """
        self.console, self.folder, self.log, self.monitor = console, folder, log, monitor
        self.short = shorten_keys(swept)
        self.total: int | None = None  # the number of jobs; a search sets it when it has opened its study
        self.running: dict[Path, Job] = {}
        self.done: set[Path] = set()
        self.finished: list[float] = []
        self.at_once = self.widest = 0

    def look(self) -> None:
        """Read what is new in the folders of the jobs. Print a line for each job that ended, and for each warning."""
        for folder, facts in sorted(read_outcomes(self.folder, self.done), key=lambda found: found[1]["job"]):
            job = self.running.setdefault(folder, Job(facts, folder / self.log, time.monotonic()))
            job.facts = facts
            for warning in job.read():
                self.console.print(f"{self.name(job)}  {warning}")
            if facts["how"] == "running":
                continue
            del self.running[folder]
            self.done.add(folder)
            if facts["how"] == "finished":
                self.finished.append(facts["seconds"])
            self.console.print(self.ended(job))
        self.at_once = max(self.at_once, len(self.running))

    def left(self) -> str:
        """Return the time left of the whole sweep as text; "" if it is not known, or if every job has ended."""
        waiting = (self.total or 0) - len(self.done) - len(self.running)
        if self.total is None or not (waiting or self.running):
            return ""
        now = time.monotonic()
        times = [(now - job.since, job.share) for job in self.running.values()]
        left = estimate_left(self.finished, times, waiting, self.at_once)
        return "" if left is None else f"{format_time(left)} left"

    def name(self, job: Job) -> str:
        """Return the name of a job: job 2/6."""
        total = "" if self.total is None else f"/{self.total}"
        return f"job {job.facts['job'] + 1:{max(0, len(total) - 1)}}{total}"

    def expect(self, jobs: Sequence[Sequence[str]]) -> None:
        """Take the number of jobs from their overrides, and the width of the column that shows these."""
        self.total, self.widest = len(jobs), max(len(self.changes(overrides)) for overrides in jobs)

    def changes(self, overrides: Sequence[str], width: float = math.inf) -> str:
        """Return the overrides in which a job differs from the others, in at most `width` characters.

        Of a key, the last part is shown if no other key ends with it. Of a number, four digits are shown. If the text does
        not fit, the end of each value is kept, because it tells long paths apart.
        """
        pairs = [override.lstrip("+").partition("=") for override in overrides]
        shown = {self.short[key]: round_number(value) for key, _, value in pairs if key in self.short}
        text, longest = "", max(map(len, shown.values()), default=0)
        for most in range(max(longest, 8), 7, -1):
            text = " ".join(f"{key}={keep_end(value, most)}" for key, value in shown.items())
            if len(text) <= width:
                break
        return shorten(text, width)

    def row(self, job: Job, *facts: str) -> str:
        """Return a line about a job that fits the terminal. The overrides of the job take at least a quarter of it."""
        told, width = "  ".join(filter(None, facts)), self.console.width
        room = max(width - len(self.name(job)) - len(told) - 4, width // 4)
        changes = self.changes(job.facts["overrides"], room)
        self.widest = max(self.widest, len(changes))  # so that the lines of the jobs form columns
        changes = changes.ljust(min(self.widest, room))
        return shorten("  ".join(filter(None, (self.name(job), changes, told))), width)

    def ended(self, job: Job) -> str:
        """Return the line of a job that ended. Where there is no bar, it also says how much time is left."""
        facts = job.facts
        score = "" if math.isnan(facts["score"]) else f"{self.monitor} {facts['score']:.4f}"
        run = f"run {facts['run_id'][:8]}" if facts["run_id"] else ""
        left = "" if self.console.is_terminal else self.left()
        return self.row(job, f"{facts['how']:8}", score, f"{facts['seconds'] / 60:.1f} min", run, left, facts["reason"])

    def draw(self) -> RenderableType:
        """Return the bar of the sweep, and under it a line for each running job."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = Table.grid(padding=(0, 1))
        completed = len(self.done) + sum(job.share for job in self.running.values())
        bar.add_row(
            ProgressBar(self.total or 1, completed if self.total else 0, width=30),
            ", ".join(filter(None, (f"{len(self.done)}{f' of {self.total}' if self.total else ''} jobs", self.left()))),
        )
        return Group(bar, *(Text(self.row(job, job.line), no_wrap=True) for job in self.running.values()))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Print the lines during a `with` block. In a terminal, also show the bar, which is gone after the block."""
        from rich.live import Live

        ended = threading.Event()
        live = Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None

        def work() -> None:
            while not ended.wait(PERIOD):
                self.look()
                if live:
                    live.update(self.draw(), refresh=True)

        thread = threading.Thread(target=work, daemon=True, name="display")
        if live:
            live.start()
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.look()
            if live:
                live.stop()
