"""A run's best checkpoint scored again: `python -m attnunet.evaluate run=RUN_ID`; folds joined: `... study=NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attnunet import commands, config

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.tracking.store import Store


def evaluate(cfg: DictConfig, choices: dict[str, str], store: Store, console: Console) -> None:
    """One evaluation: the run, its predictor with the decision that is asked for, the slices, the scores, logged to the run."""
    from dataclasses import replace

    from attnunet.tracking import records, uses
    from attnunet.tracking.provenance import command
    from attnunet.tracking.run import Run
    from attnunet.training import runtime

    (record,) = records.by_id(store, [cfg.run])
    console.print(f"run {record.id}: {record.name}", soft_wrap=True, highlight=False)
    runtime.configure(0, runtime.available(None), "float32")

    from attnunet import report, scoring

    # What is scored.
    predictor = scoring.frozen(record)
    set_here = {key: cfg[key] for key in ("threshold", "smallest_lesion", "fill_holes") if cfg[key] is not None}
    predictor = replace(predictor, decision=replace(predictor.decision, **set_here))

    # On whom, and whether that may be.
    cache = Path(cfg.tracking.root) / "cache"
    chosen = scoring.choose(record, predictor.preparation, cfg.get("data"), cfg.get("split"), cfg.part, cache)
    if chosen.trained and not cfg.allow_training_patients:
        raise records.Refused(
            f"part={cfg.part}: run {record.id} trained on {', '.join(chosen.trained)}; scores of patients who were trained on "
            "say nothing about others. allow_training_patients=true scores them, and marks the result as leaking"
        )
    words = [*choices.values(), cfg.part, *(f"{key}={value}".replace("=", "") for key, value in set_here.items())]
    name = scoring.free_name(record, cfg.name, "-".join(words), leaking=bool(chosen.trained))

    # The scores, and what stays of them.
    found = report.scored(predictor, chosen.prepared, chosen.indices, cfg.part, **scoring.rules(record))
    current = Run(store, record.id)
    settings = OmegaConf.to_container(cfg, resolve=True)
    facts = {"command": command(), "notes": list(chosen.notes), "settings": settings}
    scoring.log_evaluation(current, name, found, chosen.notes, OmegaConf.to_yaml(OmegaConf.create(facts)))
    pictures = report.pictures(predictor, chosen.prepared, chosen.indices, found)
    current.figures(pictures, f"evaluations/{name}/figures")

    report.show(console, {cfg.part: found}, "LEAKING: patients that the run trained on, scores flatter" if chosen.trained else None)
    for note in chosen.notes:
        console.print(note, soft_wrap=True, highlight=False)
    if cfg.part in ("test", "all"):
        console.print(uses.sentence(uses.count(current, chosen.prepared, chosen.indices)), highlight=False)
    console.print(f"evaluation {name}: {current.artifacts}/evaluations/{name}", soft_wrap=True, highlight=False)


@hydra.main(version_base="1.3", config_path=config.CONF, config_name="evaluate")
def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    from rich.console import Console

    from attnunet.tracking.store import open_store

    chosen = HydraConfig.get().runtime.choices
    choices = {group: chosen[group] for group in ("data", "split") if chosen.get(group) is not None}
    with commands.stopping():
        store = open_store(Path(cfg.tracking.root).resolve(), cfg.tracking.uri, cfg.tracking.patience)
        console = Console()
        if cfg.study is None:
            evaluate(cfg, choices, store, console)
        else:
            join(cfg, store, console)


def main() -> None:
    """The command `attnunet-evaluate`."""
    commands.explained(job, "evaluate")


if __name__ == "__main__":
    main()
