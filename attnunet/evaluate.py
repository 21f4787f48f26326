"""Score a run again, score the masks of another tool, or join folds.

`python -m attnunet.evaluate run=RUN_ID` scores; `run=[RUN_ID,RUN_ID]` scores an ensemble; `study=NAME` joins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attnunet.errors import exit_on_error
from attnunet.sweeps import commands, terminal
from attnunet.training import runtime

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.tracking.records import Record


def settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings of the command that replace those of the run."""
    return {key: cfg[key] for key in ("flip", "threshold", "smallest_lesion", "fill_holes") if cfg[key] is not None}


def evaluate(cfg: DictConfig, choices: dict[str, str], record: Record, console: Console) -> None:
    """Score the requested slices with the requested threshold and post-processing; log the scores to the run."""
    from attnunet.evaluation import patients, pictures, report, scoring
    from attnunet.tracking import provenance, records, run, uses

    console.print(f"run {record.id}: {record.name}")

    # The predictor, with the requested decision.
    predictor = scoring.load_predictor(record)
    set_here = settings(cfg)
    predictor = predictor.adjusted(**set_here)

    # The slices, which must not be training data.
    chosen = scoring.select_slices(record, predictor.preparation, cfg.get("data"), cfg.get("split"), cfg.part)
    if chosen.trained and not cfg.allow_training_patients:
        raise records.RunError(
            f"part={cfg.part}: run {record.id} trained on {', '.join(chosen.trained)}; scores of patients who were trained on "
            "say nothing about others. allow_training_patients=true scores them, and marks the result as leaking"
        )
    words = [*choices.values(), cfg.part, *(f"{key}{value}" for key, value in set_here.items())]
    own = record.slices("test")

    # The scores, logged and shown.
    current = run.Run(record.store, record.id)
    with scoring.claim_name(record, cfg.name, "-".join(words), leaking=bool(chosen.trained)) as name:
        found = patients.score_patients(predictor, chosen.prepared, chosen.indices, cfg.part, **scoring.scoring_rules(record))
    notes = list(chosen.notes)
    if not chosen.slices.isdisjoint(own):
        notes.append(uses.describe_uses(uses.count_use(current, own)))
    facts = {"command": provenance.command(), "notes": notes, "settings": OmegaConf.to_container(cfg, resolve=True)}
    scoring.log_evaluation(current, name, cfg.part, found, chosen.notes, OmegaConf.to_yaml(OmegaConf.create(facts)))
    drawn = pictures.draw_scores(predictor, chosen.prepared, chosen.indices, found)
    current.figures(drawn, f"evaluations/{name}/figures")

    report.print_scores(console, {cfg.part: found}, scoring.LEAKING if chosen.trained else None)
    for line in (*notes, f"evaluation {name}: {current.artifacts}/evaluations/{name}"):
        console.print(line)


def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    chosen = HydraConfig.get().runtime.choices
    choices = {group: chosen[group] for group in ("data", "split") if chosen.get(group) is not None}
    with exit_on_error():
        from attnunet.tracking import models, records

        commands.check_stored(cfg.run)
        store, console = commands.open_runs(cfg.tracking), terminal.console()
        if cfg.masks is not None:
            (record,) = records.find_runs(store, [cfg.run])
            runtime.load_tensorflow()

            from attnunet.evaluation.other_tool import evaluate_masks

            evaluate_masks(cfg, record, console)
        elif cfg.study is None:
            model = models.find_model(store, commands.plain_run(cfg))
            if len(model.records) > 1:
                models.check_scorable(model, cfg)
                runtime.load_tensorflow()

                from attnunet.evaluation.ensemble_scores import evaluate_ensemble

                evaluate_ensemble(cfg, model, settings(cfg), console)
            else:
                record = model.single
                runtime.load_tensorflow()
                evaluate(cfg, choices, record, console)
        else:
            runs = records.runs_of_study(store, cfg.study)
            runtime.load_tensorflow()

            from attnunet.evaluation.joining import join_studies

            join_studies(cfg, store, runs, console)


def main() -> None:
    """The command `attnunet-evaluate`."""
    commands.run_command(job, "evaluate")


if __name__ == "__main__":
    main()
