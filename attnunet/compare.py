"""Compare runs patient by patient: `python -m attnunet.compare study=NAME`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from attnunet.config.fingerprints import NO_EFFECT
from attnunet.errors import exit_on_error
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.comparison.table import Comparison
    from attnunet.tracking.store import Store


def compare(cfg: DictConfig, store: Store, console: Console) -> Comparison:
    """Rank the runs on the validation patients, compare each pair of runs, and write the tables and the page."""
    from attnunet.comparison import card, pairs, results, rows, runs, table
    from attnunet.comparison.terminal import print_comparison
    from attnunet.tracking import registry, uses
    from attnunet.tracking.records import find_runs

    # The runs, grouped into rows.
    question = pairs.Question(cfg.score, cfg.margin, cfg.alpha, cfg.resamples, cfg.seed)
    records, left_out = runs.keep_scored(runs.select_records(cfg, store), cfg.score, cfg.test)
    for line in left_out:
        console.print(f"left out: {line}")
    found = rows.group_rows([runs.read_scores(record, question, ["val"]) for record in records], NO_EFFECT)

    # The best rows on the validation patients; a row without a score comes last.
    if rows.all_validated(found, cfg.top):
        rows.check_pairs(found, "val")
        found.sort(key=lambda row: (math.isnan(mean := row.mean("val")), question.sign * -mean))
    found = found[: cfg.top]
    part = "test" if cfg.test else "val"
    rows.check_pairs(found, part)
    question.check_resamples(len({patient for run in found[0].runs for patient in run.slices[part]}))
    ids = {run.id for row in found for run in row.runs}
    chosen = [record for record in records if record.id in ids]
    best = card.choose_best(found[0], question) if cfg.register else None
    for record in chosen:
        if (cfg.test and not record.tested) or record.id == best:
            record.check_checkpoint()
    key = results.question_key(cfg, store)
    folder = results.find_folder(cfg, key, found[0].runs[0].id)

    # The test patients, which are scored only after all checks.
    notes = []
    if cfg.test:
        tested = runs.score_tests(chosen, store, console)
        both = {run_id: runs.read_scores(record, question, ["val", "test"]) for run_id, record in tested.items()}
        found = [replace(row, runs=tuple(both[run.id] for run in row.runs)) for row in found]
        notes = [uses.describe_uses(uses.uses_so_far(store, tested.values()))]
        chosen = list(tested.values())
    comparison = table.compare_rows(found, part, question)

    # The page, the tables, the terminal.
    page = results.write_results(cfg, folder, comparison, chosen, left_out, notes)
    if cfg.sweep is not None:
        results.log_results(store, cfg.sweep, folder, key)
    print_comparison(console, comparison)
    for line in (*notes, f"page      {page}"):
        console.print(line)
    if best is not None:
        (record,) = find_runs(store, [best])  # with the scores of the test
        version = registry.register(record, card.card(record, comparison, results.describe_source(cfg), notes))
        console.print(f"model     {registry.ADDRESS} is version {version}, run {best}")
    return comparison


def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        compare(cfg, commands.open_runs(cfg.tracking), terminal.console(160))  # 160 columns in a log


def main() -> None:
    """The command `attnunet-compare`."""
    commands.run_command(job, "compare")


if __name__ == "__main__":
    main()
