"""One run, from its configuration to its scores: `python -m attnunet.train model=separable loss=focal_dice`."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnunet import config
from attnunet.config import fingerprints, targets
from attnunet.data.workers import end_with_parent
from attnunet.errors import exit_on_error
from attnunet.sweeps import commands, terminal
from attnunet.training import runtime

if TYPE_CHECKING:
    from attnunet.data.cache import Prepared
    from attnunet.data.split import Split
    from attnunet.evaluation.patients import Scores
    from attnunet.tracking.records import Record
    from attnunet.tracking.run import Run
    from attnunet.tracking.sweep import Outcome

    Tell = Callable[[int, float], None]


def train(
    cfg: DictConfig,
    choices: dict[str, str],
    overrides: Sequence[str],
    score_test: bool,
    parent: str | None = None,
    command: str | None = None,
    tell: Tell | None = None,
) -> Outcome:
    """Reuse a finished run, resume an interrupted one, or train a new one; return its outcome.

    Args:
        cfg: the configuration, which is already checked.
        choices: the choice of each group of the configuration.
        overrides: the overrides from the command line.
        score_test: whether to score the test patients; False for a job of a sweep.
        parent: the id of the sweep's parent run; None for a run without a sweep.
        command: the command that repeats the run; None for the command line of this process.
        tell: takes the number of each epoch but the last, and its value of `monitor`; it raises `Pruned` to end the run.
    """
    from attnunet.config.objects import prepare_data
    from attnunet.data.checks import find_doubts
    from attnunet.evaluation import summary, warm_start  # do not import TensorFlow
    from attnunet.tracking import inputs, labels, page, provenance, resume, sweep
    from attnunet.tracking.machine import watch_machine
    from attnunet.tracking.records import find_runs
    from attnunet.tracking.run import Pruned, open_run

    say = terminal.console().print

    # The store, the data, and the patients of each part.
    cfg = config.settle(cfg, overrides)
    targets.allow(cfg.modules)
    store = commands.open_runs(cfg.tracking, cfg.tracking.patience if parent else 0)
    prepared, split = prepare_data(cfg)
    for line in (*prepared.notes, *find_doubts(prepared, [i for part in split.parts.values() for i in part])):
        say(line)

    # The run whose weights it starts from, and an earlier start of the same run.
    origin = warm_start.find_origin(store, cfg.init, prepared, split) if cfg.init else None
    cfg.init = origin and origin.id
    threads = runtime.available_threads(cfg.trainer.threads)
    arithmetic = {"threads": str(threads), "settings": runtime.library_settings()}
    recipe = fingerprints.recipe(cfg, prepared.fingerprint, split, score_test)
    identity = fingerprints.Identity(fingerprints.code(cfg), recipe, arithmetic, fingerprints.metrics())
    study = store.study(cfg.study)
    with resume.claim_start(store, study, identity, cfg.resume, say) as start:
        say(start.why)
        if start.score is not None and start.run_id is not None:
            (record,) = find_runs(store, [start.run_id])
            summary.print_reused(terminal.console(), record, cfg.trainer.keep)
            say(f"{cfg.monitor} {start.score:.4f}")
            if not parent:
                say(page.announce(store, study))
            return sweep.reuse(store, start.run_id, start.score, parent)

        # A new run, or the interrupted one.
        runtime.configure(cfg.seed, threads, cfg.trainer.precision)
        gpus = runtime.gpus(cfg.trainer.strategy)
        machine = provenance.machine(threads, gpus)
        if doubt := start.doubt(machine):
            say(doubt)
        tags = {**provenance.provenance(overrides, machine, command), **identity.tags, **sweep.membership(store, parent)}
        tags["leaking"] = str(split.leaking).lower()
        label = labels.label_run(cfg, choices, overrides, tags[sweep.SWEPT].split() if parent else None, split)
        if not parent:
            page.show_study(store, study, resume.SCORE, cfg.monitor, label.told)
        try:
            with open_run(store, study, label.name, label.parameters, tags, start.run_id) as run, watch_machine(run):
                store.supersede(start.replaces, run.id)
                say(f"run {run.id}: {label.name}")
                say(f"page      {store.run_page(study, run.id)}")
                say(summary.describe_start(prepared, split, machine, "" if gpus else runtime.explain_no_gpu()))
                run.tags(label.describe(run.id))
                inputs.log_data(run, choices["data"], cfg.data, prepared, split)
                score, scores = fit_and_score(cfg, prepared, split, origin, run, start.folder, score_test, tell)
                run.tags(label.describe(run.id, labels.describe_scores(scores)))
                outcome = sweep.Outcome(start.how, run.id, score)
        except Pruned as pruned:
            say(f"{pruned}: the search goes on without this run")
            outcome = sweep.Outcome("pruned", run.id, math.nan, str(pruned))
        shutil.rmtree(start.folder)
    if not parent:
        say(page.announce(store, study))
    return outcome


def fit_and_score(
    cfg: DictConfig,
    prepared: Prepared,
    split: Split,
    origin: Record | None,
    run: Run,
    folder: Path,
    score_test: bool,
    tell: Tell | None,
) -> tuple[float, dict[str, Scores]]:
    """Train a network, choose its best checkpoint and decision, score it, and log it.

    Return the best value of `monitor`, and the scores of each part that was scored.
    """
    from attnunet.data.cohort import list_scans
    from attnunet.data.files import write_csv
    from attnunet.evaluation import decision, patients, report, results, warm_start
    from attnunet.tracking import uses
    from attnunet.training import build, callbacks, fit, watch

    console = terminal.console()

    # The network and its training batches.
    draws, epochs = build.build_draws(cfg, prepared, split)
    network = build.build_network(cfg, prepared.input_channels, epochs * draws.steps_per_epoch)
    predictor = build.build_predictor(cfg, network, prepared)
    if origin:
        differences = warm_start.start_from(predictor, origin)
        console.print("; ".join([f"starts from the weights of run {origin.id} ({origin.name})", *differences]))
    steps = draws.steps_per_epoch
    console.print(
        f"{network.count_params():,} parameters, {epochs} epochs of {steps} steps, {epochs * steps * cfg.batch_size:,} images"
    )
    run.text(OmegaConf.to_yaml(cfg, resolve=True), "config.yaml")
    run.text(split.manifest(prepared.slices, prepared.fingerprint), "split.json")
    run.text(write_csv(list_scans(prepared, split)), "cohort.csv")

    def log(metrics: dict[str, float], epoch: int) -> None:
        run.metrics(metrics, epoch)
        if tell and epoch < epochs:  # a run that has trained to its end is worth its scores
            tell(epoch, metrics[cfg.monitor])

    # Training, with the validation patients scored after each epoch; then the weights that are kept.
    watched = watch.choose_slices(prepared, split.val) if cfg.trainer.figures else ()
    validation = callbacks.Validation(predictor, prepared, split.val, cfg.evaluation.thresholds, watched)
    fitted = fit.fit(cfg, network, draws, epochs, validation, folder, log, console)
    if cfg.trainer.keep == "all":
        run.network(network, "checkpoints/last.keras")
    score = fitted.restore(network, validation)[cfg.monitor]

    # The decision, chosen on the validation patients and frozen before the test; then the scores.
    tried = {name: list(cfg.evaluation[name]) for name in ("thresholds", "smallest_lesions", "fill_holes")}
    predictor, choice, volumes = decision.choose_decision(predictor, prepared, split.val, **tried)
    rules = {"resamples": cfg.evaluation.resamples, "tolerance": cfg.evaluation.tolerance}
    scores = {}
    if split.val:
        scores["val"] = patients.score_patients(predictor, prepared, split.val, "val", **rules, volumes=volumes)
    if score_test:
        scores["test"] = patients.score_patients(predictor, prepared, split.test, "test", **rules)
        times = uses.count_use(run, [(prepared.slices[i].patient, prepared.slices[i].number) for i in split.test], own=True)

    # The log and the terminal.
    results.log_results(cfg, run, fitted, score, choice, scores, predictor, prepared, split)
    report.print_scores(console, scores, report.LEAKING if split.leaking else None)
    if score_test:
        console.print(uses.describe_uses(times))
    if cfg.trainer.figures:
        console.print(f"pictures  {run.artifacts}/figures")
    return score, scores


def job(cfg: DictConfig) -> float:
    """Hydra's task function: a single run, or one job of a sweep."""
    from attnunet.tracking import sweep

    end_with_parent()  # for a job that joblib or submitit started
    composed = HydraConfig.get()
    choices = config.group_choices(composed.runtime.choices)
    overrides = config.as_typed(composed.overrides.task)
    folder = Path(composed.runtime.output_dir)
    log = folder / f"{composed.job.name}.log"
    if composed.mode == RunMode.RUN:
        with exit_on_error(), terminal.print_to(log, terminal_too=True):
            return train(cfg, choices, overrides, score_test=True).score
    parent = os.environ.get(sweep.PARENT)

    def work() -> Outcome:
        tell = None
        if composed.sweeper.get("pruner"):
            from attnunet.sweeps.pruning import follow  # imports Optuna

            tell = follow(composed.sweeper, Path(cfg.tracking.root), composed.job.num)
        return train(cfg, choices, overrides, score_test=False, parent=parent, tell=tell)

    with terminal.print_to(log):
        return sweep.run_job(work, composed.job.num, overrides, folder).score


def main() -> None:
    """The command `attnunet-train`."""
    sys.path.insert(0, "")  # as `python -m` does: a user's own losses and models lie where the command starts
    commands.run_command(job, "train")


if __name__ == "__main__":
    main()
