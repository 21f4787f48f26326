"""The runs of a store in the terminal: a table for each study, and all about one run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from attnunet.config import format_override
from attnunet.evaluation.summary import print_stored
from attnunet.tracking.clearing import can_be_resumed, count, find_models, folder_size, own_folders, state_of
from attnunet.tracking.records import Record, find_run, find_study, runs_of_sweep, search_runs
from attnunet.tracking.resume import SCORE
from attnunet.tracking.store import Store, local_path

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

DIGITS = 8
"""The number of digits of an id that a table shows."""
LATEST = 10
"""The number of runs of each study in the list of all studies."""
FEW = 4
"""The largest number of files in a folder that are listed by name."""


def print_studies(store: Store, study: str | None, console: Console) -> None:
    """Print the runs of a study, newest first; if `study` is None, print the latest runs of each study."""
    store.reap()
    studies = [find_study(store, study)] if study else store.attempt(store.client.search_experiments)
    found = [(experiment, [*search_runs(store, [experiment.experiment_id])][::-1]) for experiment in studies]
    filled = sorted((pair for pair in found if pair[1]), key=lambda pair: -pair[1][0].info.start_time)
    for experiment, runs in filled:
        print_runs(store, experiment, order_runs(runs), None if study else LATEST, console)
    if not filled:
        console.print(f"no runs in {store.shown_address}")


def order_runs(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Return the runs, each with the indent of its name. The jobs of a sweep follow the sweep, and are indented.

    Args:
        runs: the runs of a study, newest first.
    """
    ids = {run.info.run_id for run in runs}
    jobs: dict[str, list[Run]] = {}
    for run in runs:
        jobs.setdefault(run.data.tags.get("mlflow.parentRunId", ""), []).append(run)
    alone = [run for run in runs if run.data.tags.get("mlflow.parentRunId") not in ids]
    return [pair for run in alone for pair in [(run, ""), *((job, "  ") for job in jobs.get(run.info.run_id, ()))]]


def print_runs(store: Store, study: Experiment, runs: Sequence[tuple[Run, str]], latest: int | None, console: Console) -> None:
    console.print(Text(f"{study.name}, {count(runs)}", "bold"))
    print_table(store, runs[:latest], console)
    if len(runs) > len(runs[:latest]):
        console.print(f"{len(runs) - len(runs[:latest])} more: python -m attnunet.store ls {shlex.quote(study.name)}")
    console.print()


def print_table(store: Store, runs: Sequence[tuple[Run, str]], console: Console) -> None:
    """Print a row for each run, with the indent of its name."""
    table = Table(box=None, pad_edge=False)
    for name in ("run", "name", "status"):
        table.add_column(name, overflow="fold", no_wrap=name != "name")
    for name in ("score", "minutes", "age", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    for run, indent in runs:
        score, record = run.data.metrics.get(SCORE), Record(store, run)
        cells = (
            run.info.run_id[:DIGITS],
            f"{indent}{run.info.run_name}",
            "superseded" if "superseded" in record.tags else record.state,
            "" if score is None else f"{score:.4f}",
            f"{record.minutes:.1f}" if record.minutes else "",
            describe_age(run.info.start_time),
            "" if store.uri else decimal(measure_run(store, run)),  # a server keeps the files elsewhere
        )
        table.add_row(*map(Text, cells))
    console.print(table, soft_wrap=False)


def describe_age(start: int) -> str:
    """Return the time since a moment, given in milliseconds since 1970, in the largest unit of which it has two."""
    seconds = time.time() - start / 1000
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def measure_run(store: Store, run: Run) -> int:
    """Return the size of the files of a run, its models and its unfinished state in bytes."""
    state = state_of(store, run)
    return sum(map(folder_size, [*own_folders(store, run, find_models(store, run)), *([state] if state else [])]))


def print_run(store: Store, run_id: str, console: Console) -> None:
    """Print what a run was and reached, its command, its files, and the commands that go on from it."""
    store.reap()
    record = Record(store, find_run(store, run_id))
    run, tags = record.run, record.tags
    study = store.attempt(lambda: store.client.get_experiment(run.info.experiment_id)).name
    minutes = f", {record.minutes:.1f} minutes of training" if record.minutes else ""
    console.print(Text(record.name, "bold"))
    for name, value in (
        ("run", record.id),
        ("study", study),
        ("sweep", tags.get("mlflow.parentRunId")),
        ("status", f"{record.state}, started {describe_age(run.info.start_time)} ago{minutes}"),
        ("error", tags.get("error")),
        ("newer", tags.get("superseded")),
        ("settings", " ".join(f"{k}={v}" for k, v in record.params.items() if "." not in k and v not in ("None", "[]"))),
        ("files", local_path(run.info.artifact_uri)),
    ):
        if value:
            fact = Table.grid(padding=(0, 2))
            fact.add_column(width=8)
            fact.add_row(name, Text(value))
            console.print(fact, soft_wrap=False)
    console.print(Text(f"command   {tags.get('command', '')}"))  # not broken, to be copied
    print_stored(console, record)
    if "sweep" in tags:
        console.print()
        print_table(store, [(job.run, "") for job in runs_of_sweep(store, record.id)], console)
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for name, size in list_files(store, record.id):
        table.add_row(Text(name), decimal(size))
    console.print()
    console.print(table, soft_wrap=False)
    console.print()
    for line in describe_next(record):
        console.print(Text(line))


def list_files(store: Store, run_id: str) -> Iterator[tuple[str, int]]:
    """Yield each file of a run with its size in bytes. The files of a folder are one entry."""

    def walk(folder: str | None) -> Iterator[tuple[str, int]]:
        for file in store.attempt(lambda: store.client.list_artifacts(run_id, folder)):
            if file.is_dir:
                yield from walk(file.path)
            else:
                yield file.path, file.file_size or 0

    folders: dict[str, list[tuple[str, int]]] = {}
    for path, size in walk(None):
        folders.setdefault(PurePosixPath(path).parts[0], []).append((path, size))
    for top, files in folders.items():
        names = [path.removeprefix(f"{top}/") for path, _ in files]
        inside = "" if names == [top] else ", ".join(names) if len(names) <= FEW else f"{len(names)} files"
        yield f"{top}/ {inside}" if inside else top, sum(size for _, size in files)


def describe_next(record: Record) -> Iterator[str]:
    """Yield the ways to go on from a run."""
    store, run = record.store, format_override("run", record.id[:DIGITS])
    place = f" tracking=server {format_override('tracking.uri', store.uri)}" if store.uri else ""
    if not store.uri and store.root != Path("mlruns").resolve():
        place = f" {format_override('tracking.root', str(store.root))}"
    if "sweep" in record.tags:
        yield f"python -m attnunet.compare {format_override('sweep', record.id[:DIGITS])}{place}"
    elif record.status == "RUNNING":
        yield f"a process on {record.tags.get('host')} trains it"
    elif can_be_resumed(store, record.run):
        yield f"the same command goes on from its last epoch, on {record.tags.get('host')}"
    elif record.status == "FINISHED" and record.has("checkpoints/best.keras"):
        yield f"python -m attnunet.evaluate {run}{place}"
        yield f"python -m attnunet.predict {run} input=PATH output=DIR{place}"
        yield f"python -m attnunet.export {run} format=onnx{place}"
