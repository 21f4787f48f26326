"""A sweep: one parent run, whose children are the runs of the jobs. This holds for every launcher."""

import json
import logging
import math
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import entities
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnunet.data.files import digest, write_atomically, write_csv
from attnunet.errors import first_line
from attnunet.tracking import labels, page
from attnunet.tracking.provenance import provenance
from attnunet.tracking.records import PRUNED, reuse_tag
from attnunet.tracking.resume import SCORE
from attnunet.tracking.run import Pruned, Run, heartbeat, stop_on_sigterm
from attnunet.tracking.store import Store, Unavailable

log = logging.getLogger(__name__)

PARENT = "ATTNUNET_SWEEP"
"""The environment variable that holds the id of a job's parent run."""
OUTCOME = "outcome.json"
SWEPT = "swept"
"""The tag that holds the keys with several values in a sweep, separated by blanks."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        how: "finished", "resumed", "reused", "pruned", "failed", "interrupted" or "missing"; "running" until the job ends.
        run_id: the id of the job's run; None if it is not known.
        score: the best value of `monitor`; NaN if the job has no result.
        reason: why the job has no result, for example the first line of its error; "" if it has one.
    """

    how: str
    run_id: str | None
    score: float
    reason: str = ""


def run_job(work: Callable[[], Outcome], number: int, overrides: Sequence[str], folder: Path) -> Outcome:
    """Return the outcome of `work`, and write the outcome to `folder` for the table of the sweep.

    An error in `work` gives the outcome "failed". Its traceback is written to the log of the job, and the other jobs go on.
    After Ctrl-C or SIGTERM, the outcome is "interrupted".
    """
    start = time.monotonic()

    def write(outcome: Outcome) -> None:
        seconds = round(time.monotonic() - start, 1)
        facts = {**asdict(outcome), "job": number, "overrides": list(overrides), "seconds": seconds}
        write_atomically(folder / OUTCOME, json.dumps(facts).encode())

    try:
        write(Outcome("running", None, math.nan))
        outcome = work()
    except Exception as error:
        log.exception("job %s failed", " ".join(overrides))
        outcome = Outcome("failed", None, math.nan, f"{type(error).__name__}: {first_line(error)}")
    except BaseException:
        with suppress(OSError):
            write(Outcome("interrupted", None, math.nan))
        raise
    write(outcome)
    return outcome


def read_outcomes(sweep: Path, known: Collection[Path] = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folder of each job that has started, and what `run_job` wrote there. Leave out the folders in `known`."""
    for path in sweep.glob(f"*/{OUTCOME}"):
        if path.parent not in known:
            yield path.parent, json.loads(path.read_text())


def read_facts(run: entities.Run) -> dict:
    """Return what `run_job` writes about a job, read from the finished or pruned run of the job. Leave out the number."""
    seconds = round((run.info.end_time - run.info.start_time) / 1000, 1)
    outcome = Outcome("finished", run.info.run_id, run.data.metrics.get(SCORE, math.nan))
    if SCORE not in run.data.metrics:
        outcome = replace(outcome, how="pruned", reason=str(Pruned(int(run.data.tags[PRUNED]))))
    return {**asdict(outcome), "overrides": run.data.tags["overrides"].split(" "), "seconds": seconds}


def membership(store: Store, parent: str | None) -> dict[str, str]:
    """Return the tags that a sweep gives to the run of a job: the id of the parent run, its command and its swept keys.

    The command is read from the parent run, because a job may run in a process with another command line.
    """
    if parent is None:
        return {}
    tags = store.attempt(partial(store.client.get_run, parent)).data.tags
    return {"mlflow.parentRunId": parent, "command": tags["command"], SWEPT: tags.get(SWEPT, "")}


def reuse(store: Store, run_id: str | None, score: float, parent: str | None) -> Outcome:
    """Return the outcome of a job that reuses a finished run. In a sweep, give the run a tag that names the sweep."""
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
        swept: Mapping[str, str],
        jobs: Sequence[Sequence[str]] | None,
        folder: Path,
        console: Console,
    ) -> None:
        """
        Args:
            monitor: the metric that each job returns. The best loss is the lowest; the best value of any other is the highest.
            overrides: the overrides of the command. A later sweep with the same overrides resumes the same parent run.
            swept: the keys that have several values, each with these values as they are written on the command line.
            jobs: the overrides of each job; None for a search.
            folder: Hydra's folder for the sweep, which holds a folder for each job.
            console: the console that prints the table.
        """
        self.store, self.monitor, self.overrides, self.jobs, self.folder = store, monitor, list(overrides), jobs, folder
        self.console, self.study, self.swept = console, study, swept
        experiment = store.study(study)
        identified = digest([study, *sorted(overrides)])
        name = labels.name_sweep(swept)
        tags = {**provenance(overrides), "sweep": identified, SWEPT: " ".join(swept)}
        tags |= self.describe("No job has a result yet.")
        with store.lock():
            store.reap()
            earlier = store.runs(experiment, f"tags.sweep = '{identified}'")
            free = next((run.info.run_id for run in earlier if run.info.status != "RUNNING"), None)
            self.run = Run(store, store.begin(experiment, name, tags, free))
        page.show_study(store, experiment, SCORE, monitor, swept)
        for earlier_job, _ in read_outcomes(folder):  # hydra.sweep.dir may be the folder of an earlier sweep
            (earlier_job / OUTCOME).unlink()
        self.run.params(dict(override.lstrip("+").split("=", 1) for override in self.overrides if "=" in override))
        self.stack = ExitStack()
        self.stack.enter_context(stop_on_sigterm())
        self.stack.enter_context(heartbeat(self.run))

    def describe(self, reached: str) -> dict[str, str]:
        """Return the tag with the description of the parent run. `reached` is its second line."""
        jobs = "A search" if self.jobs is None else f"{len(self.jobs)} jobs"
        what = f"{jobs} over {', '.join(f'{key}={values}' for key, values in self.swept.items()) or 'no key'}."
        return labels.note(self.study, what, reached)

    def children(self) -> list[entities.Run]:
        return self.store.runs(self.run.experiment_id, f"tags.mlflow.parentRunId = '{self.run.id}'")

    def rows(self) -> list[dict]:
        """Return a row for each job: the values that differ between jobs, and the outcome of the job.

        The outcome of a job that did not start is "missing". If a search was started before, the first rows are the trials
        that finished or were pruned then.
        """
        found = {facts["job"]: facts for _, facts in read_outcomes(self.folder)}
        for facts in found.values():
            if facts["how"] == "running":
                facts |= {"how": "interrupted", "reason": "its process was ended"}
        for number, overrides in enumerate(self.jobs or ()):
            lost = Outcome("missing", None, math.nan, "did not start")
            found.setdefault(number, {**asdict(lost), "seconds": math.nan, "job": number, "overrides": list(overrides)})
        table = [found[number] for number in sorted(found)]
        children: list[entities.Run] = []
        with suppress(Unavailable):
            children = self.children()[::-1]  # oldest first
        if self.jobs is None:
            told = {" ".join(row["overrides"]) for row in table}
            ended = [run for run in children if SCORE in run.data.metrics or PRUNED in run.data.tags]
            before = [run for run in ended if run.data.tags["overrides"] not in told]
            table = [{**row, "job": place} for place, row in enumerate([*map(read_facts, before), *table])]
        ids = {run.data.tags["overrides"]: run.info.run_id for run in children}
        for row in table:  # the outcome of a failed job lacks the id of its run
            row["run_id"] = row["run_id"] or ids.get(" ".join(row["overrides"]))
            row["overrides"] = self.jobs[row["job"]] if self.jobs else row["overrides"]  # Hydra writes false as False
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
        """Print and log the table, and end the parent run; return whether all jobs have a result.

        Args:
            status: the status of an interrupted sweep; None for any other sweep. A sweep without a given status gets FINISHED
                if all jobs have a result, else FAILED.
        """
        rows = self.rows()
        parameters = [name for name in rows[0] if name in varying_keys(rows)] if rows else []
        complete = status is None and all(row["how"] in ("finished", "resumed", "reused", "pruned") for row in rows)
        try:
            with self.stack:
                self.log(rows, parameters, status or ("FINISHED" if complete else "FAILED"))
        except Unavailable as unavailable:
            print(f"attnunet: {unavailable}; the same command sends the missing results", file=sys.stderr)
            complete = False
        # In a log, the console is wider than a terminal, so that the columns need not be narrow.
        print_jobs(self.console, rows, parameters, lowest=self.monitor.endswith("loss"))
        print(page.announce(self.store, self.run.experiment_id))
        print(f"sweep {self.run.id} on {platform.node()}\nlog of each job in {self.folder}")
        return complete

    def abandon(self) -> None:
        """End a sweep after an error of its launcher or sweeper. Delete the parent run if no job has started."""
        if self.children() or any(self.folder.glob(f"*/{OUTCOME}")):
            self.close("FAILED")
            return
        with self.stack:
            self.run.end("FAILED")
        self.store.attempt(lambda: self.store.client.delete_run(self.run.id))

    def log(self, rows: Sequence[dict], parameters: Sequence[str], status: str) -> None:
        from attnunet.figures import sweep_scores

        self.store.reap()  # ends the run of a job whose process was killed
        self.run.text(write_csv(rows), "sweep.csv")
        self.run.text(json.dumps({"overrides": self.overrides, "jobs": self.jobs}, indent=1), "grid.json")
        self.log_best(rows)
        if drawn := sweep_scores({p: [str(row.get(p, "")) for row in rows] for p in parameters}, [r["score"] for r in rows]):
            self.run.figures({"sweep": drawn})
        self.run.end(status)

    def log_best(self, rows: Sequence[dict]) -> None:
        """Log the best score under the name that the jobs use, so that it stands in the same column of MLflow's page."""
        scored = [row for row in rows if not math.isnan(row["score"])]
        if not scored:
            return
        best = (min if self.monitor.endswith("loss") else max)(scored, key=lambda row: row["score"])
        self.run.metrics({SCORE: best["score"]}, step=sum(name == SCORE for name, _ in self.run.logged))
        told = labels.format_overrides({key: str(best.get(key, "")) for key in self.swept})
        run = f"run {(best['run_id'] or '')[:8]}, {told}"
        self.run.tags(self.describe(f"Best {self.monitor}: {best['score']:.4f} ({run}); {len(scored)} jobs have a result."))


COLUMNS = ("job", "how", "score", "seconds", "run_id", "reason")


def varying_keys(rows: Sequence[dict]) -> set[str]:
    """Return the parameters that have more than one value in the rows of a table."""
    return {name for row in rows for name in row if name not in COLUMNS and len({str(r.get(name)) for r in rows}) > 1}


def round_number(value: str) -> str:
    """Return a value with four digits if it is a number with more."""
    try:
        return f"{float(value):.4g}" if "." in value and len(value) > 6 else value
    except ValueError:
        return value


def print_jobs(console: Console, rows: Sequence[dict], parameters: Sequence[str], lowest: bool) -> None:
    """Print a row for each job, and mark the best score with a star. The numbers of the jobs start at 1.

    The best score is the lowest one if `lowest` is true, else the highest. A number has four digits. Overrides are printed as
    plain text; rich does not read them as markup.
    """
    counts = {how: sum(row["how"] == how for row in rows) for how in dict.fromkeys(row["how"] for row in rows)}
    table = Table(title=f"{len(rows)} jobs: " + ", ".join(f"{number} {how}" for how, number in counts.items()))
    reasons = ["reason"] if any(row["reason"] for row in rows) else []
    for name in ("job", *parameters, "how", "score", "run_id", *reasons):
        table.add_column(Text(name.replace("run_id", "run")), overflow="fold", no_wrap=name in ("job", "how", "score"))
    best = (min if lowest else max)((row["score"] for row in rows if not math.isnan(row["score"])), default=math.nan)
    for row in rows:
        cells = [round_number(str(row.get(p, ""))) for p in parameters]
        score = "" if math.isnan(row["score"]) else f"{row['score']:.4f}{' *' if row['score'] == best else ''}"
        cells = [str(row["job"] + 1), *cells, row["how"], score, (row["run_id"] or "")[:8], *(row[name] for name in reasons)]
        table.add_row(*map(Text, cells))
    console.print(table, soft_wrap=False)
