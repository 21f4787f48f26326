"""A sweep: one parent run whose children are its jobs, in every launcher."""

import json
import logging
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from mlflow import entities
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnunet.data.files import digest, write_csv
from attnunet.errors import first_line
from attnunet.tracking.provenance import provenance
from attnunet.tracking.records import reuse_tag
from attnunet.tracking.resume import SCORE
from attnunet.tracking.run import Run, heartbeat, stop_on_sigterm
from attnunet.tracking.store import Store, Unavailable

log = logging.getLogger(__name__)

PARENT = "ATTNUNET_SWEEP"
"""The environment variable that holds the id of a job's parent run."""
OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """How a job ended ("finished", "resumed", "reused", "failed", "missing"), its run, its score, its error's first line."""

    how: str
    run_id: str | None
    score: float
    reason: str = ""


def run_job(work: Callable[[], Outcome], number: int, overrides: Sequence[str], folder: Path) -> Outcome:
    """Return the outcome of `work`, and write it to `folder` for the table of the sweep.

    A failure is one of the outcomes: its traceback goes to the job's log, and the other jobs go on.
    """
    start = time.monotonic()
    try:
        outcome = work()
    except Exception as error:
        log.exception("job %s failed", " ".join(overrides))
        outcome = Outcome("failed", None, math.nan, f"{type(error).__name__}: {first_line(error)}")
    facts = {**asdict(outcome), "job": number, "overrides": list(overrides), "seconds": round(time.monotonic() - start, 1)}
    (folder / OUTCOME).write_text(json.dumps(facts))
    return outcome


def read_facts(run: entities.Run) -> dict:
    """Return the facts of a finished run's job, in the form that `run_job` writes."""
    seconds = round((run.info.end_time - run.info.start_time) / 1000, 1)
    outcome = Outcome("finished", run.info.run_id, run.data.metrics[SCORE])
    return {**asdict(outcome), "overrides": run.data.tags["overrides"].split(" "), "seconds": seconds}


def membership(store: Store, parent: str | None) -> dict[str, str]:
    """Return the tags of a job's run: the sweep, and the sweep's command, which the process of the job may not know."""
    if parent is None:
        return {}
    return {"mlflow.parentRunId": parent, "command": store.attempt(partial(store.client.get_run, parent)).data.tags["command"]}


def reuse(store: Store, run_id: str | None, score: float, parent: str | None) -> Outcome:
    """Return the outcome of a job whose run is finished already; a tag of the run names this sweep."""
    if parent and run_id:
        store.tag(run_id, {reuse_tag(parent): "true"})
    return Outcome("reused", run_id, score)


class Sweep:
    """The parent run of a sweep, from the first job to the table of all jobs."""

    def __init__(
        self,
        store: Store,
        study: str,
        monitor: str,
        overrides: Sequence[str],
        jobs: Sequence[Sequence[str]] | None,
        folder: Path,
        console: Console,
    ) -> None:
        """
        Args:
            monitor: the metric that the jobs return; a loss is best if it is lowest.
            overrides: the overrides of the command; a sweep with the same ones resumes the same parent.
            jobs: the overrides of each job; None for a search.
            folder: Hydra's folder of the sweep, which holds one for each job.
            console: the console that prints the table.
        """
        self.store, self.monitor, self.overrides, self.jobs, self.folder = store, monitor, list(overrides), jobs, folder
        self.console = console
        experiment = store.study(study)
        identified = digest([study, *sorted(overrides)])
        name = f"sweep {' '.join(self.swept)}"[:200]
        tags = {**provenance(overrides), "sweep": identified}
        with store.lock():
            store.reap()
            earlier = store.runs(experiment, f"tags.sweep = '{identified}'")
            free = next((run.info.run_id for run in earlier if run.info.status != "RUNNING"), None)
            self.run = Run(store, store.begin(experiment, name, tags, free))
        self.run.params(dict(override.lstrip("+").split("=", 1) for override in self.overrides if "=" in override))
        self.stack = ExitStack()
        self.stack.enter_context(stop_on_sigterm())
        self.stack.enter_context(heartbeat(self.run))

    @property
    def swept(self) -> list[str]:
        """The overrides with more than one value."""
        fixed = set.intersection(*map(set, self.jobs)) if self.jobs and len(self.jobs) > 1 else set()
        return [override for override in self.overrides if override not in fixed]

    def children(self) -> list[entities.Run]:
        return self.store.runs(self.run.experiment_id, f"tags.mlflow.parentRunId = '{self.run.id}'")

    def rows(self) -> list[dict]:
        """Return a row for each job: the values that it varies, and its outcome; "missing" if the job wrote none.

        The rows of a search begin with the trials that finished under its earlier starts.
        """
        found = {}
        for path in self.folder.glob(f"*/{OUTCOME}"):
            facts = json.loads(path.read_text())
            found[facts["job"]] = facts
        for number, overrides in enumerate(self.jobs or ()):
            lost = Outcome("missing", None, math.nan, "did not start, or its process died")
            found.setdefault(number, {**asdict(lost), "seconds": math.nan, "job": number, "overrides": list(overrides)})
        table = [found[number] for number in sorted(found)]
        children: list[entities.Run] = []
        with suppress(Unavailable):
            children = self.children()[::-1]  # the newest last
        if self.jobs is None:
            told = {" ".join(row["overrides"]) for row in table}
            before = [run for run in children if SCORE in run.data.metrics and run.data.tags["overrides"] not in told]
            table = [{**row, "job": place} for place, row in enumerate([*map(read_facts, before), *table])]
        ids = {run.data.tags["overrides"]: run.info.run_id for run in children}
        for row in table:  # a failed job does not write its run
            row["run_id"] = row["run_id"] or ids.get(" ".join(row["overrides"]))
        fixed = set.intersection(*(set(row["overrides"]) for row in table)) if len(table) > 1 else set()
        return [
            {
                "job": row["job"],
                **dict(o.lstrip("+").split("=", 1) for o in row["overrides"] if o not in fixed and "=" in o),
                **{name: row[name] for name in ("how", "score", "seconds", "run_id", "reason")},
            }
            for row in table
        ]

    def close(self, status: str | None = None) -> bool:
        """Print and log the table, and end the parent; return whether all jobs have a result.

        Args:
            status: the status of an interrupted sweep; None sets FINISHED or FAILED by the jobs.
        """
        rows = self.rows()
        parameters = [name for name in rows[0] if name in varying_keys(rows)] if rows else []
        complete = status is None and all(row["how"] in ("finished", "resumed", "reused") for row in rows)
        try:
            with self.stack:
                self.log(rows, parameters, status or ("FINISHED" if complete else "FAILED"))
        except Unavailable as unavailable:
            print(f"attnunet: {unavailable}; the same command sends the missing results", file=sys.stderr)
            complete = False
        # A log needs no narrow columns.
        print_jobs(self.console, rows, parameters, lowest=self.monitor.endswith("loss"))
        print(f"sweep {self.run.id} on {platform.node()}; log and traceback of each job: {self.folder}")
        return complete

    def abandon(self) -> None:
        """End a sweep after an error of its launcher or sweeper; delete the parent run if no job had started."""
        if self.children() or any(self.folder.glob(f"*/{OUTCOME}")):
            self.close("FAILED")
            return
        with self.stack:
            self.run.end("FAILED")
        self.store.attempt(lambda: self.store.client.delete_run(self.run.id))

    def log(self, rows: Sequence[dict], parameters: Sequence[str], status: str) -> None:
        from attnunet.figures import sweep_scores

        self.store.reap()  # a job whose process was killed
        self.run.text(write_csv(rows), "sweep.csv")
        self.run.text(json.dumps({"overrides": self.overrides, "jobs": self.jobs}, indent=1), "grid.json")
        if drawn := sweep_scores({p: [str(row.get(p, "")) for row in rows] for p in parameters}, [r["score"] for r in rows]):
            self.run.figures({"sweep": drawn})
        self.run.end(status)


COLUMNS = ("job", "how", "score", "seconds", "run_id", "reason")


def varying_keys(rows: Sequence[dict]) -> set[str]:
    """Return the parameters that take more than one value in a table."""
    return {name for row in rows for name in row if name not in COLUMNS and len({str(r.get(name)) for r in rows}) > 1}


def print_jobs(console: Console, rows: Sequence[dict], parameters: Sequence[str], lowest: bool) -> None:
    """Print a row for each job, with a star at the best score: the lowest or the highest.

    Overrides are printed as plain text, not as rich's markup.
    """
    counts = {how: sum(row["how"] == how for row in rows) for how in dict.fromkeys(row["how"] for row in rows)}
    table = Table(title=f"{len(rows)} jobs: " + ", ".join(f"{number} {how}" for how, number in counts.items()))
    for name in ("job", *parameters, "how", "score", "run_id", "reason"):
        table.add_column(Text(name.replace("run_id", "run")), overflow="fold", no_wrap=name in ("job", "how", "score"))
    best = (min if lowest else max)((row["score"] for row in rows if not math.isnan(row["score"])), default=math.nan)
    for row in rows:
        cells = [str(row.get(p, "")) for p in parameters]
        score = "" if math.isnan(row["score"]) else f"{row['score']:.4f}{' *' if row['score'] == best else ''}"
        table.add_row(*map(Text, (str(row["job"]), *cells, row["how"], score, (row["run_id"] or "")[:8], row["reason"])))
    console.print(table, soft_wrap=False)
