"""A run's best checkpoint scored again: `python -m attnunet.evaluate run=RUN_ID`; folds joined: `... study=NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attnunet import config
from attnunet.errors import exit_on_error
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.tracking.records import Record
    from attnunet.tracking.store import Store


def evaluate(cfg: DictConfig, choices: dict[str, str], record: Record, console: Console) -> None:
    """One evaluation: the run's predictor, with the decision that is asked for, on the slices that are; logged to the run."""
    from dataclasses import replace

    from attnunet.evaluation import pictures, report, scoring
    from attnunet.evaluation.patients import score_patients
    from attnunet.tracking import records, uses
    from attnunet.tracking.provenance import command
    from attnunet.tracking.run import Run

    console.print(f"run {record.id}: {record.name}", soft_wrap=True, highlight=False)

    # What is scored.
    predictor = scoring.load_predictor(record)
    set_here = {key: cfg[key] for key in ("threshold", "smallest_lesion", "fill_holes") if cfg[key] is not None}
    predictor = replace(predictor, decision=replace(predictor.decision, **set_here))

    # On whom, and whether that may be.
    cache = Path(cfg.tracking.root) / "cache"
    chosen = scoring.select_slices(record, predictor.preparation, cfg.get("data"), cfg.get("split"), cfg.part, cache)
    if chosen.trained and not cfg.allow_training_patients:
        raise records.RunError(
            f"part={cfg.part}: run {record.id} trained on {', '.join(chosen.trained)}; scores of patients who were trained on "
            "say nothing about others. allow_training_patients=true scores them, and marks the result as leaking"
        )
    words = [*choices.values(), cfg.part, *(f"{key}{value}" for key, value in set_here.items())]
    own = record.slices("test")

    # The scores, and what stays of them.
    current = Run(record.store, record.id)
    with scoring.claim_name(record, cfg.name, "-".join(words), leaking=bool(chosen.trained)) as name:
        found = score_patients(predictor, chosen.prepared, chosen.indices, cfg.part, **scoring.scoring_rules(record))
    notes = list(chosen.notes)
    if not chosen.slices.isdisjoint(own):
        notes.append(uses.describe_uses(uses.count_use(current, own)))
    facts = {"command": command(), "notes": notes, "settings": OmegaConf.to_container(cfg, resolve=True)}
    scoring.log_evaluation(current, name, found, chosen.notes, OmegaConf.to_yaml(OmegaConf.create(facts)))
    drawn = pictures.draw_scores(predictor, chosen.prepared, chosen.indices, found)
    current.figures(drawn, f"evaluations/{name}/figures")

    report.print_scores(console, {cfg.part: found}, scoring.LEAKING if chosen.trained else None)
    for line in (*notes, f"evaluation {name}: {current.artifacts}/evaluations/{name}"):
        console.print(line, soft_wrap=True, highlight=False)


def join_studies(cfg: DictConfig, store: Store, runs: Sequence[Record], console: Console) -> None:
    """Each cross-validation among a study's runs as one result, a run of its own; folds without test scores get them first."""
    from dataclasses import replace

    from attnunet.data.files import write_csv
    from attnunet.evaluation import cross_validation, pictures, report, scoring
    from attnunet.tracking import records, uses
    from attnunet.tracking.provenance import provenance
    from attnunet.tracking.run import open_run

    whole = cross_validation.find_cross_validations(runs)
    if problems := [line for found in whole for line in found.problems()]:
        raise records.RunError("\n".join(problems))

    for fold in [fold for found in whole for fold in found.folds if not fold.tested]:
        console.print(f"run {fold.id}: {fold.name}, fold {fold.params['split.fold']}", soft_wrap=True, highlight=False)
        console.print(uses.describe_uses(scoring.score_test(fold, Path(cfg.tracking.root) / "cache")), highlight=False)

    for found in whole:
        found = replace(found, folds=tuple(records.find_runs(store, [fold.id for fold in found.folds])))  # with these scores
        joined = found.join_scores()
        tags = {**provenance([]), "cross_validated": " ".join(fold.id for fold in found.folds)}
        with open_run(store, store.study(cfg.study), found.name, found.params, tags) as current:
            current.metrics({f"final/test/{key}": value for key, value in joined.summary.items()}, step=0)
            current.text(write_csv(joined.rows), "patients.csv")
            current.text(write_csv(joined.strata), "strata.csv")
            current.figures(pictures.draw_charts(joined))
        console.print(f"run {current.id}: {found.name}, {len(found.folds)} folds", soft_wrap=True, highlight=False)
        report.print_scores(console, {"test": joined}, "every patient tested once, by a network that never saw it")


@hydra.main(version_base="1.3", config_path=config.CONF, config_name="evaluate")
def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    chosen = HydraConfig.get().runtime.choices
    choices = {group: chosen[group] for group in ("data", "split") if chosen.get(group) is not None}
    with exit_on_error():
        from attnunet.tracking import records

        store, console = commands.open_runs(cfg.tracking), terminal.console()
        if cfg.study is None:
            record = records.find_checkpoint(store, cfg.run)
            commands.load_tensorflow()
            evaluate(cfg, choices, record, console)
        else:
            runs = records.runs_of_study(store, cfg.study)
            commands.load_tensorflow()
            join_studies(cfg, store, runs, console)


def main() -> None:
    """The command `attnunet-evaluate`."""
    commands.run_command(job, "evaluate")


if __name__ == "__main__":
    main()
