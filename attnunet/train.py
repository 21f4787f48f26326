"""One run, from the configuration to its scores: `python -m attnunet.train model=separable loss=focal_dice`."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnunet import commands, config


def train(cfg: DictConfig, choices: dict[str, str], overrides: Sequence[str], folder: Path, score_test: bool) -> float:
    """Train, keep the best checkpoint, freeze its threshold, score it, log all; -> the best value of `monitor`.

    Args:
        cfg: as composed from conf/train.yaml, and checked.
        choices: what each configuration group chose, by name.
        overrides: what the command line changed.
        folder: where checkpoints lie until they are logged.
        score_test: whether the test patients are scored; the jobs of a sweep leave them alone.
    """
    prepared, split = config.data_and_split(cfg)

    from attnunet.training import runtime

    threads = runtime.configure(cfg.seed, cfg.trainer.threads, cfg.trainer.precision)

    from rich.console import Console

    from attnunet import report, tracking
    from attnunet.data.batches import Draws
    from attnunet.evaluation import figures
    from attnunet.evaluation.scores import best_threshold
    from attnunet.inference import Predictor, Preparation, load_network
    from attnunet.training.callbacks import Validation
    from attnunet.training.fit import fit

    # What is trained, on what.
    augment = config.make(cfg.augment)()
    draws = Draws(prepared, split.train, cfg.batch_size, cfg.seed, cfg.trainer.lesion_share, augment)
    epochs = cfg.epochs or max(1, round(cfg.budget_images / (draws.steps_per_epoch * cfg.batch_size)))
    network = config.make(cfg.model)(cfg.image_size, len(prepared.channels))
    network.compile(
        optimizer=config.make(cfg.optimizer)(epochs * draws.steps_per_epoch),
        loss=config.make(cfg.loss)(),
        jit_compile=cfg.trainer.jit_compile,
    )
    preparation = Preparation(cfg.image_size, prepared.file_channels, prepared.channels, prepared.intensity)
    predictor = Predictor(network, preparation, batch_size=cfg.evaluation.batch_size)

    console, root = Console(), Path(cfg.tracking.root)
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    name = "-".join([choices["model"], choices["loss"], choices["split"], str(cfg.image_size), f"seed{cfg.seed}"])
    tags = {
        **tracking.provenance(overrides),
        "fingerprint": config.fingerprint(cfg, prepared.fingerprint, split, threads),
        "leaking": str(split.leaking).lower(),
    }
    params = {**choices, **tracking.flat(plain)}
    with tracking.run(cfg.study, root, cfg.tracking.uri, f"LEAKING {name}" if split.leaking else name, params, tags) as run:
        size = f"{network.count_params():,} parameters, {len(split.train)} training slices"
        console.print(f"run {run.id}: {name}, {size}", soft_wrap=True)
        run.text(OmegaConf.to_yaml(cfg, resolve=True), "config.yaml")
        run.text(split.manifest(prepared.slices, prepared.fingerprint), "split.json")

        # Training, with a volumetric validation after each epoch.
        fitted = fit(
            network,
            draws,
            epochs,
            Validation(predictor, prepared, split.val, cfg.evaluation.thresholds),
            monitor=cfg.monitor,
            early_stopping=cfg.trainer.early_stopping,
            workers=cfg.trainer.workers,
            folder=folder,
            log=run.metrics,
            console=console,
        )

        # The best checkpoint, its threshold chosen on the validation patients and frozen before the test.
        predictor = replace(predictor, network=load_network(fitted.best))
        grid = cfg.evaluation.thresholds
        counts = {"val": report.counted(predictor, prepared, split.val, sorted({*grid, 0.5}))}
        predictor = replace(predictor, threshold=best_threshold(counts["val"].at(*grid)))
        if score_test:
            counts["test"] = report.counted(predictor, prepared, split.test, sorted({predictor.threshold, 0.5}))

        # What stays: scores, a row a patient, checkpoints, pictures of the patients that were scored last.
        scores = {part: report.scored(c, predictor.threshold, cfg.evaluation.resamples) for part, c in counts.items()}
        rows = {part: report.rows(c, predictor.threshold, part, prepared) for part, c in counts.items()}
        for part, values in scores.items():
            run.metrics({f"final/{part}/{key}": value for key, value in values.items()}, step=fitted.best_epoch)
        run.text(report.as_csv([row for table in rows.values() for row in table]), "patients.csv")
        if cfg.trainer.keep != "none":
            predictor.network.save(fitted.best)  # without the optimizer's state
            run.file(fitted.best, "checkpoints")
            run.model(predictor)
        if cfg.trainer.keep == "all":
            run.file(fitted.last, "checkpoints")
        if cfg.trainer.figures:
            examples = report.examples(predictor, prepared, rows[part], split.parts[part])
            run.figures(figures.of_run(examples, fitted.history, fitted.best_epoch))
        shutil.rmtree(folder)

    report.show(console, scores, split.leaking)
    if cfg.trainer.figures:
        console.print(f"pictures  {run.artifacts}/figures", soft_wrap=True)
    console.print(f"compare   {tracking.ui_command(root, cfg.tracking.uri)}", soft_wrap=True)
    return fitted.history[fitted.best_epoch - 1][cfg.monitor]


@hydra.main(version_base="1.3", config_path=config.CONF, config_name="train")
def job(cfg: DictConfig) -> float:
    """Hydra's task function: a single run, or one job of a sweep."""
    composed = HydraConfig.get()
    chosen = composed.runtime.choices.items()
    choices = {group: name for group, name in chosen if name is not None and not group.startswith("hydra")}
    folder = Path(composed.runtime.output_dir) / "checkpoints"
    return train(cfg, choices, composed.overrides.task, folder, score_test=composed.mode == RunMode.RUN)


def main() -> None:
    """The command `attnunet-train`."""
    sys.path.insert(0, "")  # as `python -m` has it: a user's own losses and models lie where the command is started
    commands.explained(job, "train")


if __name__ == "__main__":
    main()
