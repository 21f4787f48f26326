"""Which runs are better than which, and whether that is real: `python -m attnunet.compare study=NAME`."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from attnunet import __version__, config
from attnunet.config.fingerprints import NO_EFFECT
from attnunet.errors import exit_on_error
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.comparison.pairs import Question
    from attnunet.comparison.rows import Row, ScoredRun
    from attnunet.comparison.table import Comparison
    from attnunet.tracking.records import Record
    from attnunet.tracking.store import Store

ASKED = "comparison.json"
"""What a folder of results answers: the keys of the command."""


def compare(cfg: DictConfig, store: Store, console: Console) -> Comparison:
    """The runs' rows, ranked on validation patients; each pair's verdict; a page and tables of both."""
    from attnunet.comparison.pairs import Question
    from attnunet.comparison.rows import Unpaired, check_pairs, group_rows
    from attnunet.comparison.table import compare_rows, tables
    from attnunet.comparison.terminal import print_comparison
    from attnunet.tracking import uses
    from attnunet.tracking.records import RunError

    # Which runs, and which of them make a row.
    question = Question(cfg.score, cfg.margin, cfg.alpha, cfg.resamples, cfg.seed)
    records, left_out = keep_scored(select_records(cfg, store), cfg.score)
    for line in left_out:
        console.print(f"left out: {line}", soft_wrap=True, highlight=False)
    runs = [read_scores(record, question, ["val"]) for record in records]
    table = group_rows(runs, NO_EFFECT)
    try:
        check_pairs(table, "val")
        table = rank(table, question)[: cfg.top]
        check_pairs(table, "test" if cfg.test else "val")
    except Unpaired as unpaired:
        raise RunError(str(unpaired)) from unpaired
    ids = {run.id for row in table for run in row.runs}
    chosen = [record for record in records if record.id in ids]
    for record in chosen:
        if cfg.test and not record.tested:
            record.check_checkpoint()
    key = question_key(cfg, store)
    folder = find_folder(cfg, key, table[0].runs[0].id)

    # On whom: the test is looked at when there is nothing left to refuse.
    notes = []
    if cfg.test:
        tested = score_tests(chosen, cfg, store, console)
        table = [row.with_runs(read_scores(tested[run.id], question, ["val", "test"]) for run in row.runs) for row in table]
        notes = [uses.describe_uses(uses.uses_so_far(store, tested.values()))]
    found = compare_rows(table, "test" if cfg.test else "val", question)

    # What stays.
    for name, text in {**tables(found), "compare.html": write_page(cfg, found, left_out, notes)}.items():
        (folder / name).write_bytes(text.encode())
    if cfg.sweep is not None:
        log_results(store, cfg.sweep, folder, config.digest([key]))
    print_comparison(console, found)
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    console.print(f"page      {folder / 'compare.html'}", soft_wrap=True, highlight=False)
    return found


def select_records(cfg: DictConfig, store: Store) -> list[Record]:
    from attnunet.tracking import records

    if cfg.study is not None:
        return records.runs_of_study(store, cfg.study)
    if cfg.sweep is not None:
        return records.runs_of_sweep(store, cfg.sweep)
    found = records.find_runs(store, cfg.runs)
    return list({record.id: record for record in found}.values())


def keep_scored(records: Sequence[Record], score: str) -> tuple[list[Record], list[str]]:
    """-> those that have the score on validation patients; a line for each of the others.

    Raises:
        RunError: there is none.
    """
    from attnunet.comparison.patients import find_lack
    from attnunet.tracking.records import NotFound, RunError

    found, left_out = [], []
    for record in records:
        line = f"run {record.id[:8]} ({record.name})"
        if record.status != "FINISHED":
            left_out.append(f"{line} is {record.status}")
        elif by := record.tags.get("superseded"):
            left_out.append(f"{line} is superseded by run {by[:8]}")
        else:
            try:
                patients = record.patients("val")
            except NotFound:
                patients = []
            if not patients:
                left_out.append(f"{line} has no scores of validation patients")
            elif lack := find_lack(patients, score):
                left_out.append(f"{line} {lack}")
            else:
                found.append(record)
    if not found:
        raise RunError("\n".join(["there is no finished run to compare", *left_out]))
    return found, left_out


def rank(table: Sequence[Row], question: Question) -> list[Row]:
    """The best on validation patients first; rows without a score last."""
    means = {id(row): row.mean("val") for row in table}
    return sorted(table, key=lambda row: (math.isnan(means[id(row)]), question.sign * -means[id(row)]))


def read_scores(record: Record, question: Question, parts: Sequence[str]) -> ScoredRun:
    """The run with each patient's score.

    Raises:
        RunError: a patient of the run's split has no row in patients.csv, or the rows lack the score.
    """
    from attnunet.comparison.patients import find_lack, read_patients
    from attnunet.comparison.rows import ScoredRun
    from attnunet.tracking.records import RunError

    scores, worst = {}, {}
    for part in parts:
        rows = record.patients(part)
        if missing := sorted(set(record.split["slices"][part]) - {row["patient"] for row in rows}):
            raise RunError(f"run {record.id} ({record.name}): patients.csv lacks the {part} patients {', '.join(missing)}")
        if lack := find_lack(rows, question.score):
            raise RunError(f"run {record.id} ({record.name}) {lack}")
        scores[part], worst[part] = read_patients(rows, question.score)
    return ScoredRun(
        record.id,
        record.name,
        record.params,
        record.tags.get("overrides", ""),
        record.minutes,
        record.leaking,
        record.content,
        record.split["slices"],
        scores,
        worst,
    )


def score_tests(records: Sequence[Record], cfg: DictConfig, store: Store, console: Console) -> dict[str, Record]:
    """The records by their ids, each with test scores: those that training left alone are scored here."""
    from attnunet.tracking.records import find_runs

    if untested := [record for record in records if not record.tested]:
        from attnunet.training import runtime

        runtime.configure(0, runtime.available_threads(None), "float32")

        from attnunet.evaluation.scoring import score_test

        for number, record in enumerate(untested, 1):
            line = f"scoring the test {number}/{len(untested)}: run {record.id[:8]} ({record.name})"
            console.print(line, soft_wrap=True, highlight=False)
            score_test(record, Path(cfg.tracking.root) / "cache")
    return {record.id: record for record in find_runs(store, [record.id for record in records])}


def question_key(cfg: DictConfig, store: Store) -> str:
    """The question as JSON, the same where the same keys are asked of the same store."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    keys = {key: value for key, value in plain.items() if key not in ("tracking", "output", "modules")}
    return json.dumps({**keys, "store": store.shown_address}, indent=1)


def find_folder(cfg: DictConfig, question: str, first: str) -> Path:
    """The folder for the results: a new one, or the one that holds an earlier answer to the same question.

    Args:
        first: the id of the first run.

    Raises:
        RunError: `output` names a folder that holds something else.
    """
    from attnunet.tracking.records import RunError

    name = cfg.study or (f"sweep-{cfg.sweep[:8]}" if cfg.sweep else f"runs-{first[:8]}")
    wanted = Path(cfg.output or Path(cfg.tracking.root, "compare", name)).resolve()
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        earlier = folder / ASKED
        if not folder.exists() or not any(folder.iterdir()) or (earlier.exists() and earlier.read_text() == question):
            break
        if cfg.output:
            raise RunError(f"output={cfg.output}: {wanted} holds something else, and it stays; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    earlier.write_text(question)
    return folder


def write_page(cfg: DictConfig, found: Comparison, left_out: Sequence[str], notes: Sequence[str]) -> str:
    from attnunet.comparison.page import page
    from attnunet.tracking.provenance import command, git

    what = f"study {cfg.study}" if cfg.study else f"sweep {cfg.sweep}" if cfg.sweep else f"{len(cfg.runs)} runs"
    facts = {
        "Command": command(),
        "Made": f"{time.strftime('%Y-%m-%d %H:%M')}, attnunet {__version__} {git('rev-parse', '--short', 'HEAD')}",
    }
    return page(found, f"{cfg.score} of {what} on {'test' if cfg.test else 'validation'} patients", left_out, notes, facts)


def log_results(store: Store, sweep: str, folder: Path, name: str) -> None:
    """The results as compare/<name> among the artifacts of the sweep's parent run."""
    from attnunet.tracking.records import find_runs
    from attnunet.tracking.run import Run

    (parent,) = find_runs(store, [sweep])
    run = Run(store, parent.id)
    for file in sorted(folder.iterdir()):
        run.file(file, f"compare/{name}")


@hydra.main(version_base="1.3", config_path=config.CONF, config_name="compare")
def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        compare(cfg, commands.open_runs(cfg.tracking), terminal.console(160))  # a log needs no narrow columns


def main() -> None:
    """The command `attnunet-compare`."""
    commands.run_command(job, "compare")


if __name__ == "__main__":
    main()
