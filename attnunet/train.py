"""One run, from the configuration to its scores: `python -m attnunet.train model=separable loss=focal_dice`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnunet import config
from attnunet.config import targets
from attnunet.data.workers import end_with_parent
from attnunet.errors import exit_on_error
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    import keras
    from rich.console import Console

    from attnunet.data.cache import Prepared
    from attnunet.data.split import Split
    from attnunet.tracking.run import Run
    from attnunet.tracking.sweep import Outcome


def train(
    cfg: DictConfig,
    choices: dict[str, str],
    overrides: Sequence[str],
    score_test: bool,
    parent: str | None = None,
) -> Outcome:
    """One run: reused where it is finished, taken up again where it was interrupted, else new; -> its best `monitor`.

    Args:
        cfg: as composed from conf/train.yaml, and checked.
        choices: what each configuration group chose, by name.
        overrides: what the command line changed.
        score_test: whether the test patients are scored; the jobs of a sweep leave them alone.
        parent: the run of the sweep.
    """
    cfg = config.settle(cfg, overrides)
    targets.allow(cfg.modules)
    prepared, split = config.prepare_data(cfg)

    from attnunet.data.checks import find_doubts
    from attnunet.tracking import resume
    from attnunet.tracking.provenance import machine, provenance
    from attnunet.tracking.records import reuse_tag
    from attnunet.tracking.run import flatten, open_run
    from attnunet.tracking.store import open_store
    from attnunet.tracking.sweep import Outcome, membership
    from attnunet.training import runtime

    threads = runtime.available_threads(cfg.trainer.threads)
    arithmetic = {"threads": str(threads), "settings": runtime.library_settings()}
    recipe = config.recipe(cfg, prepared.fingerprint, split, score_test)
    fingerprint = config.fingerprint(recipe, arithmetic)
    console = terminal.console()
    for line in (*prepared.notes, *find_doubts(prepared, [i for part in split.parts.values() for i in part])):
        console.print(line, soft_wrap=True, highlight=False)
    store = open_store(Path(cfg.tracking.root).resolve(), cfg.tracking.uri, cfg.tracking.patience)
    study = store.study(cfg.study)
    with resume.claim_start(store, study, fingerprint, recipe, arithmetic, cfg.resume, console.print) as found:
        console.print(found.why, soft_wrap=True, highlight=False)
        if found.score is not None:
            console.print(f"{cfg.monitor} {found.score:.4f}; all of it: {store.ui_command}", soft_wrap=True)
            if parent and found.run_id:
                store.attempt(partial(store.client.set_tag, found.run_id, reuse_tag(parent), "true"))
            return Outcome("reused", found.run_id, found.score)

        runtime.configure(cfg.seed, threads, cfg.trainer.precision)
        gpus = runtime.gpus(cfg.trainer.strategy)
        if doubt := found.doubt(machine(gpus)):
            console.print(doubt, soft_wrap=True, highlight=False)
        name = "-".join([choices["model"], choices["loss"], choices["split"], str(cfg.image_size), f"seed{cfg.seed}"])
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        tags = {
            **provenance(overrides, gpus),
            **arithmetic,
            **{"fingerprint": fingerprint, "recipe": recipe, "leaking": str(split.leaking).lower()},
            **membership(store, parent),
        }
        name = f"LEAKING {name}" if split.leaking else name
        with open_run(store, study, name, {**choices, **flatten(plain)}, tags, found.run_id) as current:
            store.supersede(found.replaces, current.id)
            console.print(f"run {current.id}: {name}", soft_wrap=True)
            score = fit_and_score(cfg, prepared, split, current, found.folder, score_test, console)
        shutil.rmtree(found.folder)
    console.print(f"compare   {store.ui_command}", soft_wrap=True)
    return Outcome(found.how, current.id, score)


def fit_and_score(
    cfg: DictConfig, prepared: Prepared, split: Split, run: Run, folder: Path, score_test: bool, console: Console
) -> float:
    """Train, keep the best checkpoint, freeze its decision, score it, log all."""
    from attnunet import figures
    from attnunet.data.batches import Draws
    from attnunet.evaluation import report
    from attnunet.evaluation.decision import choose_decision
    from attnunet.evaluation.patients import score_patients
    from attnunet.evaluation.pictures import draw_scores
    from attnunet.inference.predictor import Predictor, Preparation
    from attnunet.tracking import uses
    from attnunet.tracking.resume import SCORE
    from attnunet.training import network_cache, runtime
    from attnunet.training.callbacks import Validation
    from attnunet.training.fit import fit

    # What is trained, on what.
    augment = config.make(cfg.augment, "augment")()
    draws = Draws(prepared, split.train, cfg.batch_size, cfg.seed, cfg.trainer.lesion_share, augment)
    epochs = cfg.epochs or max(1, round(cfg.budget_images / (draws.steps_per_epoch * cfg.batch_size)))
    steps = epochs * draws.steps_per_epoch

    def build() -> keras.Model:
        with runtime.strategy(cfg.trainer.strategy):
            network = config.make(cfg.model, "model")(cfg.image_size, len(prepared.channels))
            loss, optimizer = config.make(cfg.loss, "loss")(), config.make(cfg.optimizer, "optimizer")(steps)
            network.compile(optimizer, loss, jit_compile=cfg.trainer.jit_compile)
        return network

    network = network_cache.compile_once(config.computation(cfg, len(prepared.channels), steps), build)
    seen = (prepared.file_channels, prepared.channels, prepared.intensity, prepared.plane, prepared.pixel_size)
    preparation = Preparation(cfg.image_size, *seen)
    predictor = Predictor(
        network_cache.without_optimizer(network), preparation, flip=cfg.evaluation.flip, batch_size=cfg.evaluation.batch_size
    )
    console.print(f"{network.count_params():,} parameters, {len(split.train)} training slices")
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

    # The best weights, their decision chosen on the validation patients and frozen before the test.
    if cfg.trainer.keep == "all":
        run.network(network, "checkpoints/last.keras")
    fitted.restore_best(network)
    tried = {name: list(cfg.evaluation[name]) for name in ("thresholds", "smallest_lesions", "fill_holes")}
    predictor, choice, volumes = choose_decision(predictor, prepared, split.val, **tried)
    rules = {"resamples": cfg.evaluation.resamples, "tolerance": cfg.evaluation.tolerance}
    scores = {"val": score_patients(predictor, prepared, split.val, "val", **rules, volumes=volumes)}
    if score_test:
        scores["test"] = score_patients(predictor, prepared, split.test, "test", **rules)
        times = uses.count_use(run, [(prepared.slices[i].patient, prepared.slices[i].number) for i in split.test], own=True)

    # What stays: scores, a row a patient, checkpoints, pictures of the patients that were scored last.
    score = fitted.history[fitted.best_epoch - 1][cfg.monitor]
    for part, found in scores.items():
        run.metrics({f"final/{part}/{key}": value for key, value in found.summary.items()}, step=fitted.best_epoch)
    run.metrics({SCORE: score}, step=fitted.best_epoch)
    for name, table in report.tables(choice, scores).items():
        run.text(table, name)
    if cfg.trainer.keep != "none":
        run.predictor(predictor)
    if cfg.trainer.figures:
        run.figures({"curves": figures.curves(fitted.history, fitted.best_epoch), "decision": figures.decision(choice)})
        run.figures(draw_scores(predictor, prepared, split.parts[part], found))

    report.print_scores(console, scores, "LEAKING split: patients on both sides, scores flatter" if split.leaking else None)
    if score_test:
        console.print(uses.describe_uses(times), highlight=False)
    if cfg.trainer.figures:
        console.print(f"pictures  {run.artifacts}/figures", soft_wrap=True)
    return score


@hydra.main(version_base="1.3", config_path=config.CONF, config_name="train")
def job(cfg: DictConfig) -> float:
    """Hydra's task function: a single run, or one job of a sweep."""
    from attnunet.tracking import sweep

    end_with_parent()  # of a sweep that joblib or submitit run
    composed = HydraConfig.get()
    chosen = composed.runtime.choices.items()
    # Not Hydra's, nor what is chosen by two groups together.
    choices = {group: name for group, name in chosen if name is not None and not (group.startswith("hydra") or "@" in group)}
    overrides = config.as_typed(composed.overrides.task)
    if composed.mode == RunMode.RUN:
        with exit_on_error():
            return train(cfg, choices, overrides, score_test=True).score
    parent = os.environ.get(sweep.PARENT)
    work = partial(train, cfg, choices, overrides, score_test=False, parent=parent)
    return sweep.run_job(work, composed.job.num, overrides, Path(composed.runtime.output_dir)).score


def main() -> None:
    """The command `attnunet-train`."""
    sys.path.insert(0, "")  # as `python -m` has it: a user's own losses and models lie where the command is started
    commands.run_command(job, "train")


if __name__ == "__main__":
    main()
