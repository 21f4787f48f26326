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
    from attnunet.comparison.rows import Row, Run
    from attnunet.comparison.table import Comparison
    from attnunet.tracking.records import Record
    from attnunet.tracking.store import Store

ASKED = "comparison.json"
"""What a folder of results answers: the keys of the command."""


def compare(cfg: DictConfig, store: Store, console: Console) -> Comparison:
    """The runs' rows, ranked on validation patients; each pair's verdict; a page and tables of both."""
    from attnunet.comparison.pairs import Question
    from attnunet.comparison.patients import SCORES
    from attnunet.comparison.rows import Unpaired, check_pairs, rows
    from attnunet.comparison.table import compared, tables
    from attnunet.comparison.terminal import show
    from attnunet.tracking import uses
    from attnunet.tracking.records import Refused

    if cfg.score not in SCORES:
        raise Refused(f"score={cfg.score}: says not which run is better; allowed: {', '.join(SCORES)}")

    # Which runs, and which of them make a row.
    question = Question(cfg.score, cfg.margin, cfg.alpha, cfg.resamples, cfg.seed)
    records, left_out = usable(asked(cfg, store), cfg.score)
    for line in left_out:
        console.print(f"left out: {line}", soft_wrap=True, highlight=False)
    runs = [as_run(record, question, ["val"]) for record in records]
    table = rows(runs, NO_EFFECT)
    try:
        check_pairs(table, "val")
        table = ranked(table, question)[: cfg.top]
        check_pairs(table, "test" if cfg.test else "val")
    except Unpaired as unpaired:
        raise Refused(str(unpaired)) from unpaired
    ids = {run.id for row in table for run in row.runs}
    chosen = [record for record in records if record.id in ids]
    for record in chosen:
        if cfg.test and not record.tested:
            record.check_checkpoint()
    key = identity(cfg, store)
    folder = place(cfg, key, table[0].runs[0].id)

    # On whom: the test is looked at when there is nothing left to refuse.
    notes = []
    if cfg.test:
        tested = scored(chosen, cfg, store, console)
        table = [row.with_runs(as_run(tested[run.id], question, ["val", "test"]) for run in row.runs) for row in table]
        notes = [uses.sentence(uses.so_far(store, tested.values()))]
    found = compared(table, "test" if cfg.test else "val", question)

    # What stays.
    for name, text in {**tables(found), "compare.html": html(cfg, found, left_out, notes)}.items():
        (folder / name).write_bytes(text.encode())
    if cfg.sweep is not None:
        keep(store, cfg.sweep, folder, config.digest([key]))
    show(console, found)
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    console.print(f"page      {folder / 'compare.html'}", soft_wrap=True, highlight=False)
    return found


def asked(cfg: DictConfig, store: Store) -> list[Record]:
    from attnunet.tracking import records

    if cfg.study is not None:
        return records.of_study(store, cfg.study)
    if cfg.sweep is not None:
        return records.of_sweep(store, cfg.sweep)
    found = records.by_id(store, cfg.runs)
    return list({record.id: record for record in found}.values())


def usable(records: Sequence[Record], score: str) -> tuple[list[Record], list[str]]:
    """-> those that have the score on validation patients; a line for each of the others.

    Raises:
        Refused: there is none.
    """
    from attnunet.comparison.patients import lacking
    from attnunet.tracking.records import NotFound, Refused

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
            elif lack := lacking(patients, score):
                left_out.append(f"{line} {lack}")
            else:
                found.append(record)
    if not found:
        raise Refused("\n".join(["there is no finished run to compare", *left_out]))
    return found, left_out


def ranked(table: Sequence[Row], question: Question) -> list[Row]:
    """The best on validation patients first; rows without a score last."""
    means = {id(row): row.mean("val") for row in table}
    return sorted(table, key=lambda row: (math.isnan(means[id(row)]), question.sign * -means[id(row)]))


def as_run(record: Record, question: Question, parts: Sequence[str]) -> Run:
    """The run with each patient's score.

    Raises:
        Refused: a patient of the run's split has no row in patients.csv, or the rows lack the score.
    """
    from attnunet.comparison.patients import lacking, read
    from attnunet.comparison.rows import Run
    from attnunet.tracking.records import Refused

    scores, worst = {}, {}
    for part in parts:
        rows = record.patients(part)
        if missing := sorted(set(record.split["slices"][part]) - {row["patient"] for row in rows}):
            raise Refused(f"run {record.id} ({record.name}): patients.csv lacks the {part} patients {', '.join(missing)}")
        if lack := lacking(rows, question.score):
            raise Refused(f"run {record.id} ({record.name}) {lack}")
        scores[part], worst[part] = read(rows, question.score)
    return Run(
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


def scored(records: Sequence[Record], cfg: DictConfig, store: Store, console: Console) -> dict[str, Record]:
    """The records by their ids, each with test scores: those that training left alone are scored here."""
    from attnunet.tracking.records import by_id

    if untested := [record for record in records if not record.tested]:
        from attnunet.training import runtime

        runtime.configure(0, runtime.available(None), "float32")

        from attnunet.evaluation.scoring import score_test

        for number, record in enumerate(untested, 1):
            line = f"scoring the test {number}/{len(untested)}: run {record.id[:8]} ({record.name})"
            console.print(line, soft_wrap=True, highlight=False)
            score_test(record, Path(cfg.tracking.root) / "cache")
    return {record.id: record for record in by_id(store, [record.id for record in records])}


def identity(cfg: DictConfig, store: Store) -> str:
    """The question as JSON, the same where the same keys are asked of the same store."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    keys = {key: value for key, value in plain.items() if key not in ("tracking", "output", "modules")}
    return json.dumps({**keys, "store": store.address_shown}, indent=1)


def place(cfg: DictConfig, question: str, first: str) -> Path:
    """The folder for the results: a new one, or the one that holds an earlier answer to the same question.

    Args:
        first: the id of the first run.

    Raises:
        Refused: `output` names a folder that holds something else.
    """
    from attnunet.tracking.records import Refused

    name = cfg.study or (f"sweep-{cfg.sweep[:8]}" if cfg.sweep else f"runs-{first[:8]}")
    wanted = Path(cfg.output or Path(cfg.tracking.root, "compare", name)).resolve()
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        earlier = folder / ASKED
        if not folder.exists() or not any(folder.iterdir()) or (earlier.exists() and earlier.read_text() == question):
            break
        if cfg.output:
            raise Refused(f"output={cfg.output}: {wanted} holds something else, and it stays; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    earlier.write_text(question)
    return folder


def html(cfg: DictConfig, found: Comparison, left_out: Sequence[str], notes: Sequence[str]) -> str:
    from attnunet.comparison.page import page
    from attnunet.tracking.provenance import command, git

    what = f"study {cfg.study}" if cfg.study else f"sweep {cfg.sweep}" if cfg.sweep else f"{len(cfg.runs)} runs"
    facts = {
        "Command": command(),
        "Made": f"{time.strftime('%Y-%m-%d %H:%M')}, attnunet {__version__} {git('rev-parse', '--short', 'HEAD')}",
    }
    return page(found, f"{cfg.score} of {what} on {'test' if cfg.test else 'validation'} patients", left_out, notes, facts)


def keep(store: Store, sweep: str, folder: Path, name: str) -> None:
    """The results as compare/<name> among the artifacts of the sweep's parent run."""
    from attnunet.tracking.records import by_id
    from attnunet.tracking.run import Run

    (parent,) = by_id(store, [sweep])
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
    commands.explained(job, "compare")


if __name__ == "__main__":
    main()
